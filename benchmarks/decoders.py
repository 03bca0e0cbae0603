"""Completions by annealing and by descent, of any decoder: ``python -m benchmarks.decoders --model M --data D``.

What ``coopserve evaluate`` measures of a progressive GAN, for every model that has a decoder: the initializer of a
CCoopNets with the class of each image given, the flow of a CoopFlow, a progressive GAN, or what
``benchmarks.device_gan`` left (``FILE.safetensors``). Images of the training and held-out ones get a random hole, or
are averaged down; each solver completes them with equally many gradients. Step sizes are a table that a pilot found on
validation images. It runs on a GPU, too, and there needs torch, numpy, safetensors and pydantic alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from benchmarks.device_gan import result
from models.checkpoints import load_model
from models.core.loop import Rows, run_together
from models.core.noise import mix, row_seeds
from models.data.images import ImageData, to_float
from models.data.npz import read_npz
from models.evaluation.cogeneration import FACTORS, blocks, hidden_error
from models.evaluation.likelihood import Mean
from models.metrics.pictures import ms_ssim, psnr, ssim
from models.samplers.cogeneration import Cogeneration
from models.samplers.observation import Observation, Operator, avg_pool, chain, whole, window
from models.serving import fast_networks
from models.systems.aishmc.calibration import calibrate, piloted
from models.systems.aishmc.config import Config
from models.systems.aishmc.model import GanModel, generator_of
from models.systems.aishmc.settings import Settings, SolverName
from models.systems.aishmc.solver import diagnostics, solve
from models.systems.ccoopnets.labels.decoder import LabelDecoder
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.coopflow.decoder import FlowDecoder
from models.systems.coopflow.model import CoopFlow
from models.systems.registry import variant_of
from models.systems.weights import fill

SEED, _PILOTED = 11, 4
_SOLVERS: tuple[SolverName, ...] = get_args(SolverName)


@dataclass(frozen=True)
class Subject:
    """A decoder, and how images lie in what it makes.

    Args:
        kernels: of the decoder.
        size: pixels of the side of the images.
        channels: of them.
        classes: that the decoder is told, by name; empty for one without.
        calibration: of a progressive GAN, see ``models.systems.aishmc.calibration``; may be empty.
    """

    kernels: Cogeneration
    size: int
    channels: int
    classes: Sequence[str] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def margin(self) -> int:
        return (int(self.kernels.decoder.image_shape[-1]) - self.size) // 2

    def padded(self, images: Tensor) -> Tensor:
        return torch.nn.functional.pad(images, (self.margin,) * 4)

    def cropped(self, images: Tensor) -> Tensor:
        inner = slice(self.margin, self.margin + self.size)
        return images[..., inner, inner].clamp(-1, 1).cpu()

    def condition(self, data: ImageData, k: int) -> Rows:
        """The class of an image as one row of the decoder's condition."""
        if not self.classes or data.labels is None:
            return {}
        c = torch.zeros(1, len(self.classes))
        c[0, self.classes.index(data.classes[int(data.labels[k])])] = 1
        return {"c": c}


def _gan(model: GanModel, card: Mapping[str, Any]) -> Subject:
    del card
    c = model.config
    return Subject(model.kernels, c.image_size, c.channels, calibration=model.calibration)


def _labels(model: CCoopNets, card: Mapping[str, Any]) -> Subject:
    kernels = Cogeneration(LabelDecoder(model), model.device)
    return Subject(kernels, card["image"]["height"], card["image"]["channels"], model.classes)


def _flow(model: CoopFlow, card: Mapping[str, Any]) -> Subject:
    kernels = Cogeneration(FlowDecoder(model.config, model.flow), model.device)
    return Subject(kernels, card["image"]["height"], card["image"]["channels"])


DECODERS: Mapping[str, Callable[[Any, Mapping[str, Any]], Subject]] = {
    "aishmc/pgan": _gan,
    "ccoopnets/labels": _labels,
    "coopflow": _flow,
}
"""The decoder of a model, by its variant."""


def subject(path: Path, mark: str, device: torch.device, valid: ImageData | None = None, pilots: int = 0) -> Subject:
    """Of a checkpoint's folder, or of a file of ``benchmarks.device_gan``, which is calibrated on validation images."""
    if path.is_dir():
        model = load_model(path, device)
        return DECODERS[variant_of(model.card)](model.kernels, model.card)
    found = result(path, mark)
    config = Config.model_validate(found.facts["config"])
    generator = generator_of(config)
    fill({"generator": generator}, found.tensors)
    gan = GanModel(config, generator, {}, device)
    if valid is not None and pilots:
        gan = GanModel(config, generator, calibrate(gan, valid, temperatures=pilots), device)
    return _gan(gan, {})


def seen_of(one: Subject, image: Tensor, hidden: Tensor | None, factor: int) -> Observation:
    """An image ``[C, H, W]`` with a hole, or averaged down."""
    shape = tuple(one.kernels.decoder.image_shape)
    if hidden is not None:
        return Observation(whole(shape), one.padded(image), one.padded(1 - hidden))
    small: Operator = chain(window(shape, one.margin), avg_pool((one.channels, one.size, one.size), factor))
    return Observation(small, small(one.padded(image)), torch.ones(1, 1, 1))


@dataclass(frozen=True)
class Question:
    """What is asked of each image: a hole (factor 0) or to enlarge it."""

    name: str
    factor: int = 0

    def observations(self, one: Subject, truth: Tensor) -> tuple[list[Observation], Tensor]:
        """And the pixels that count, ``[n, 1, H, W]``."""
        if self.factor:
            return [seen_of(one, image, None, self.factor) for image in truth], torch.ones(
                len(truth), 1, *truth.shape[2:]
            )
        masks = blocks(len(truth), one.size, SEED)
        return [seen_of(one, image, mask, 0) for image, mask in zip(truth, masks, strict=True)], masks


def sample(data: ImageData, n: int, one: Subject) -> ImageData:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    return data.subset(order[:n]).fit(one.size, one.channels)


def solved(
    one: Subject, data: ImageData, seen: Sequence[Observation], how: Settings, chains: int
) -> tuple[Tensor, Tensor]:
    """For each image the chain that fits best what was given: pictures ``[n, C, H, W]``, and the fit over sigma."""
    tasks = []
    for k, observation in enumerate(seen):
        condition = {
            name: value.repeat(chains, *[1] * (value.dim() - 1)) for name, value in one.condition(data, k).items()
        }
        tasks.append(solve(one.kernels, observation, how, row_seeds(mix(SEED, k) >> 1, chains), condition=condition))
    found = run_together(tasks, device=one.kernels.device)
    best = [int(rows["misfit"].argmin()) for rows in found]
    pictures = torch.stack([rows["image"][k] for rows, k in zip(found, best, strict=True)])
    told = [diagnostics(rows, observation, how)["observed_rmse"] for rows, observation in zip(found, seen, strict=True)]
    return one.cropped(pictures), torch.tensor([values[k] for values, k in zip(told, best, strict=True)])


def compared(one: Subject, question: Question, data: ImageData, how: Settings, a: argparse.Namespace) -> dict[str, Any]:
    """Figures of each solver, and how much farther off it is than ``ais_hmc``, image by image."""
    truth = to_float(data.images)
    seen, counted = question.observations(one, truth)
    report: dict[str, Any] = {"images": len(truth), "gradients": how.gradients + a.polish, "chains": a.chains}
    errors = {}
    for solver in _SOLVERS:
        begun = time.monotonic()
        pictures, fit = solved(one, data, seen, setting(how, solver, a.polish), a.chains)
        composed = pictures if question.factor else torch.where(counted > 0, pictures, truth)
        errors[solver] = hidden_error(pictures, truth, counted)
        mask = None if question.factor else counted
        values = {
            "mse": errors[solver],
            "psnr": psnr(pictures, truth, mask),
            "ssim": ssim(pictures, truth, mask),
            "ms_ssim": ms_ssim(composed, truth),
            "fit": fit,
        }
        report[solver] = {name: _mean(value) for name, value in values.items()}
        print(
            question.name,
            data.name,
            solver,
            json.dumps(report[solver]),
            f"{time.monotonic() - begun:.0f} s",
            flush=True,
        )
    first = errors[_SOLVERS[0]]
    report["paired"] = {solver: _mean(errors[solver] - first) for solver in _SOLVERS[1:]}
    report["nearer"] = {solver: float((errors[solver] > first).double().mean()) for solver in _SOLVERS[1:]}
    print(question.name, data.name, "paired", json.dumps(report["paired"]), flush=True)
    return report


def setting(how: Settings, solver: SolverName, polish: int) -> Settings:
    """The same number of gradients for each solver: descents have those of the polish as further steps."""
    if solver == "ais_hmc":
        return _with(how, polish=polish)
    return _with(how, solver=solver, temperatures=how.steps + polish, leapfrogs=1, moves=1)


def _with(how: Settings, **changes: Any) -> Settings:
    return Settings(**{**vars(how), **changes})


def _mean(values: Tensor) -> dict[str, float]:
    mean = Mean.of(values)
    return {"value": round(mean.value, 5), "se": round(mean.se, 5)}


def settings(one: Subject, question: Question, valid: ImageData, a: argparse.Namespace) -> Settings:
    """With a table of step sizes from a few validation images."""
    how = Settings(
        sigma=sigma_of(one, a),
        temperatures=a.temperatures,
        leapfrogs=a.leapfrogs,
        starts=a.starts,
        step_sizes=a.step_sizes,
        table=one.calibration.get("step_sizes", {}).get("upscale" if question.factor else "inpaint"),
    )
    if how.adapts or how.table is not None:
        return how
    data = sample(valid, _PILOTED, one)
    seen, _ = question.observations(one, to_float(data.images))
    conditions = [one.condition(data, k) for k in range(len(data))]
    return _with(how, table=piloted(one.kernels, seen, how, conditions))


def sigma_of(one: Subject, a: argparse.Namespace) -> float:
    return float(a.sigma or one.calibration.get("sigma", 0.2))


def measured(a: argparse.Namespace) -> dict[str, Any]:
    begun = time.monotonic()
    data = {split: read_npz(a.data)[split] for split in ("train", "valid", "test")}
    one = subject(a.model, a.mark, torch.device(a.device), data["valid"], a.calibrate)
    report: dict[str, Any] = {"sigma": sigma_of(one, a)}
    if a.calibrate:
        report["calibration"] = dict(one.calibration)
    print(f"ready after {time.monotonic() - begun:.0f} s", json.dumps(report), flush=True)
    if a.out:
        a.out.write_text(json.dumps(report, indent=1))
    questions = [Question("hole")] + [Question(f"upscale {k}", k) for k in a.factors if one.size % k == 0]
    for question in questions:
        how = settings(one, question, data["valid"], a)
        for split in a.splits:
            report.setdefault(question.name, {})[split] = compared(
                one, question, sample(data[split], a.images, one), how, a
            )
            if a.out:
                a.out.write_text(json.dumps(report, indent=1))
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint's folder, or a file of device_gan")
    parser.add_argument("--mark", default="100", help="of a file of device_gan: 50, 75 or 100")
    parser.add_argument("--data", type=Path, required=True, help="an npz file with images_train, _valid and _test")
    parser.add_argument("--splits", choices=("train", "test"), nargs="+", default=("train", "test"))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--temperatures", type=int, default=100)
    parser.add_argument("--leapfrogs", type=int, default=10)
    parser.add_argument("--polish", type=int, default=0, help="gradients of ais_hmc that are a descent at its end")
    parser.add_argument("--chains", type=int, default=1)
    parser.add_argument("--starts", type=int, default=512)
    parser.add_argument("--sigma", type=float, help="by default the card's, or 0.2")
    parser.add_argument("--step-sizes", choices=("table", "row"), default="table")
    parser.add_argument("--factors", type=int, nargs="*", default=FACTORS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--calibrate", type=int, default=0, help="a file of device_gan: temperatures of its pilots")
    parser.add_argument("--plain", action="store_true", help="do not trace the decoder")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args(arguments)
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    with fast_networks(not a.plain):
        measured(a)


if __name__ == "__main__":
    main()
