"""Measuring a decoder whose latents are solved for: what it makes by itself, and how well each solver completes images.

All solvers get equally many gradients. Images of the training are measured beside held-out ones: on the former figures
tell how well a solver searches, as in Fang and Schwing (2019), on the latter what a user gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.core.model import LoadedModel
from models.core.noise import Key, Noise
from models.data.images import ImageData, to_float
from models.evaluation.base import Evaluation, EvaluationError, Run
from models.evaluation.energy_figures import SEED, EnergyBench, generation
from models.evaluation.generation import LEAST, prepare
from models.evaluation.jobs import pictures, run_jobs
from models.evaluation.likelihood import Mean
from models.metrics.pictures import ms_ssim, psnr, ssim

SOLVERS = ("ais_hmc", "gd_single", "gd_multi")
FACTORS = (2, 4)

_AT_ONCE = 16
_BLOCK = 30 / 128, 60 / 128
"""Sides of a hole as parts of the image's, both ends included."""
_SCORES: Mapping[str, str] = {
    "hidden_mse": "mean squared difference in the hole, images in [-1, 1]",
    "mse": "the same of whole images",
    "psnr": "in dB, 8-bit images scaled to [0, 1]; of a completion in the hole",
    "ssim": "structural similarity, of a completion in the hole",
    "ms_ssim": "the same at several scales (two for 22 to 43 pixels), of whole pictures, of a completion as it is "
    "answered, with its known pixels",
}

PROTOCOL: Mapping[str, str] = {
    **_SCORES,
    "inpainting": "images with a random hole of 30/128 to 60/128 of their side either way, completed once by each "
    "solver with equally many gradients; known pixels are not counted",
    "upscaling": "images averaged over squares of 2 or 4 pixels a side, enlarged once by each solver",
    "paired": "mean over images of a solver's squared difference minus that of ais_hmc: above 0, ais_hmc is nearer",
    "train, test": "images of the training, which tell how well a solver searches; held-out ones, what a user gets",
    "value, se": "mean over images and its standard error",
    "decoded": "root mean squared difference of the given pixels in units of sigma: far above 1 where the decoder "
    "can't draw the image",
    "generated, real": "images by generate, and as many of the training in their place: kid, kernel distance in "
    "EffNet-Lite0 features to test images",
}


def blocks(n: int, size: int, seed: int) -> Tensor:
    """Random holes, ``[n, 1, size, size]``, 1 = hidden: both sides uniform in 30/128 to 60/128, anywhere inside."""
    low, high = (round(part * size) for part in _BLOCK)
    u = Noise([Key(seed, row, 0) for row in range(n)]).uniform(4)
    line, inside = torch.arange(size), []
    for k in (0, 2):
        extent = low + (u[:, k] * (high - low + 1)).long()
        start = (u[:, k + 1] * (size - extent + 1)).long()
        inside.append((line >= start[:, None]) & (line < (start + extent)[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None].float()


def hidden_error(images: Tensor, truth: Tensor, masks: Tensor) -> Tensor:
    """The mean squared difference of each image in its hole, ``[n]``; masks ``[n, 1, H, W]``, 1 = hidden."""
    weights = masks.expand_as(truth)
    return ((images - truth).square() * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


def inpainting(bench: EnergyBench, data: ImageData, n: int) -> dict[str, Any]:
    """Completions by each solver, and how much farther off than those of ``ais_hmc`` they are."""
    truth = _some(data, n)
    masks = blocks(len(truth), truth.shape[-1], SEED)
    own = [{"image": torch.where(mask > 0, 0.0, image), "mask": mask} for image, mask in zip(truth, masks, strict=True)]

    def scores(images: Tensor) -> dict[str, Tensor]:
        return {
            "hidden_mse": hidden_error(images, truth, masks),
            "psnr": psnr(images, truth, masks),
            "ssim": ssim(images, truth, masks),
            "ms_ssim": ms_ssim(images, truth),
        }

    return _compared(bench, "inpaint", own, {}, scores)


def upscaling(bench: EnergyBench, data: ImageData, n: int, factor: int) -> dict[str, Any]:
    """Small pictures enlarged by each solver."""
    truth = _some(data, n)
    small = torch.nn.functional.avg_pool2d(truth, factor)

    def scores(images: Tensor) -> dict[str, Tensor]:
        error = (images - truth).square().flatten(1).mean(1)
        return {
            "mse": error,
            "psnr": psnr(images, truth),
            "ssim": ssim(images, truth),
            "ms_ssim": ms_ssim(images, truth),
        }

    return _compared(bench, "upscale", [{"image": image} for image in small], {"factor": factor}, scores)


def _compared(
    bench: EnergyBench,
    task: str,
    own: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    scores: Callable[[Tensor], dict[str, Tensor]],
) -> dict[str, Any]:
    defaults, report, errors = bench.tasks[task], {}, {}
    for solver in SOLVERS:
        asked = {**defaults, "n": 1, "options": {**defaults["options"], **options, "solver": solver}}
        outputs = run_jobs(bench.model, task, asked, own, seed=SEED, at_once=_AT_ONCE)
        found = scores(torch.cat([pictures(output) for output in outputs]))
        errors[solver] = next(iter(found.values()))
        seen = torch.tensor([output.numbers["observed_rmse"][0] for output in outputs])
        report[solver] = {**{name: _mean(values) for name, values in found.items()}, "decoded": _mean(seen)}
    first = SOLVERS[0]
    paired = {solver: _mean(errors[solver] - errors[first]) for solver in SOLVERS[1:]}
    gradients = outputs[0].numbers["gradients"][0]
    return {"images": len(own), "gradients": gradients, **report, "paired": paired}


def _mean(values: Tensor) -> dict[str, float]:
    mean = Mean.of(values)
    return {"value": mean.value, "se": mean.se}


def _some(data: ImageData, n: int) -> Tensor:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    return to_float(data.images[order[:n]])


def evaluate(bench: EnergyBench, run: Run) -> dict[str, Any]:
    """What goes on a card as ``metrics``.

    Raises:
        RowsError: a chain of the model diverged.
    """
    size, n = bench.model.card["image"]["height"], run.options["images"]
    run.progress(f"{n} images by generate")
    report: dict[str, Any] = {"generation": generation(bench, run.features(), n)}
    for split, data in (("train", bench.train), ("test", bench.test)):
        run.progress(f"inpaint: {n} images of {data.name} by {len(SOLVERS)} solvers")
        report[split] = {"inpainting": inpainting(bench, data, n), "upscaling": {}}
        for factor in (k for k in FACTORS if "upscale" in bench.tasks and size % k == 0):
            run.progress(f"upscale: {n} images of {data.name}, factor {factor}")
            report[split]["upscaling"][str(factor)] = upscaling(bench, data, n, factor)
    return {**report, "seed": SEED, "protocol": dict(PROTOCOL)}


def _prepare(model: LoadedModel, run: Run) -> EnergyBench:
    if run.options["images"] < LEAST:
        raise EvaluationError(f"--images must be at least {LEAST}")
    run.features()
    return prepare(model, run)


EVALUATION = Evaluation(options={"images": 64}, prepare=_prepare, evaluate=evaluate)
"""Decoders whose latents are solved for: three solvers at equal gradients, on images of the training and held-out."""
