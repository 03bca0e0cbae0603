"""CoopFlow trained on a GPU for some minutes: ``python -m benchmarks.device_coopflow --recipe NAME ... --data FOLDER``.

The trainer is the product's own, whose iterations are captured graphs. What differs from ``coopserve train`` is the
clock: phases and rates follow the share of the time that is over, whatever the card can do in it. Trainings of one
process take turns on streams of their own, so that a pair and what it is compared with (the flow alone by maximum
likelihood, the energy alone from noise) have the same time: an iteration of a pair costs what two of the others cost,
so these have a turn in every second round. It needs torch, numpy, safetensors, tqdm and pydantic alone.

``OUT`` gets, for each: ``NAME.safetensors`` (averaged weights), ``NAME.json`` (the
configuration that came of it, curves), ``NAME.npz`` (images that it makes); ``--tar`` packs them after each save.
``--publish MODEL --of NAME --models FOLDER --images-of DATA`` makes a model to serve of them.
"""

from __future__ import annotations

import argparse
import json
import math
import tarfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.data.images import ImageData, to_uint8
from models.data.npz import read_npz
from models.networks.flow import mixture
from models.systems.coopflow.config import Config, fit_to
from models.systems.coopflow.presets import PRESETS
from models.systems.coopflow.training import CoopFlowTrainer

_ENDLESS, _BATCH = 10**7, 32
_MARKS = (0.5, 0.75)
_HEALTHY = 0.1
"""Of the time between two states that a training which diverges goes back to."""
_LEAST_RATE = 1 / 8


@dataclass(frozen=True)
class Recipe:
    """What is trained.

    Args:
        preset: what it starts from.
        data: the archive in the folder of data.
        flow: share of the time in which the flow learns the data alone.
        warm_up: share of what is left in which the energy learns alone.
        cool_down: share of the time, at the end, over which rates fall to 0.
        width: n_f of the energy; None: the preset's.
        chain: changes of the chain.
        training: changes of the rest.
        every: it has a turn in every so many rounds.
        learned: the networks that learn something.
    """

    preset: str = "small-gray32"
    data: str = "fashion"
    flow: float = 0.25
    warm_up: float = 0.08
    cool_down: float = 0.3
    width: int | None = None
    chain: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1
    learned: tuple[str, ...] = ("flow", "energy")

    def config(self, data: ImageData) -> Config:
        """The configuration, with phases that do not end by themselves."""
        given = PRESETS[self.preset].model_dump()
        shares = {"iterations": _ENDLESS, "flow_share": 0.9, "warm_up_share": 0.9}
        given["training"] |= {
            "average": 0.995,
            "batch_size": _BATCH,
            "ramp": 100,
            **shares,
            **self.training,
        }
        given["chain"] |= self.chain
        given["width"] = self.width or given["width"]
        return fit_to(Config.model_validate(given), data)


def _chain(steps: int, delta: float, delta_test: float | None = None) -> dict[str, float]:
    return {"steps": steps, "delta": delta, "delta_test": delta_test or round(4 / 3 * delta, 4)}


_FASHION: dict[str, Any] = {"width": 24, "chain": _chain(30, 0.1, 0.1)}
_EMOJI: dict[str, Any] = {"preset": "small-rgb32", "data": "emoji32", "width": 24, "chain": _chain(30, 0.1, 0.1)}
_STEEP = {"cut": 0.25}
"""Chains go far in a training of minutes: of their drift more is beyond its bound than in one of days."""
_PAIR: dict[str, Any] = {"lr_energy": 1e-4, "lr_flow": 1e-4, "guards": _STEEP}
_FLOW: dict[str, Any] = {"flow": 1.0, "every": 2, "learned": ("flow",)}
_ENERGY: dict[str, Any] = {
    "flow": 0.0,
    "warm_up": 1.0,
    "training": {"lr_energy": 1e-4, "start": "noise", "guards": {"cut": 1.0}},
    "every": 2,
    "learned": ("energy",),
}

RECIPES: dict[str, Recipe] = {
    "fashion": Recipe(**_FASHION, flow=0.2, warm_up=0.2, training=_PAIR),
    "fashion-flow": Recipe(**{**_FASHION, **_FLOW}),
    "fashion-energy": Recipe(**{**_FASHION, **_ENERGY}),
    "emoji": Recipe(**_EMOJI, flow=0.25, warm_up=0.2, training=_PAIR),
    "emoji-flow": Recipe(**{**_EMOJI, **_FLOW}),
    "emoji-energy": Recipe(**{**_EMOJI, **_ENERGY}),
    "toy": Recipe(preset="tiny", flow=0.0, warm_up=0.1, training={"norm_images": 16, "batch_size": 4}),
    "toy-flow": Recipe(preset="tiny", **_FLOW, training={"norm_images": 16, "batch_size": 4}),
}


class Run:
    """One training by the clock, on a stream of its own."""

    def __init__(self, name: str, recipe: Recipe, data: ImageData, device: torch.device) -> None:
        self.name, self.recipe, self.iteration = name, recipe, 0
        self.config = recipe.config(data)
        self.trainer = CoopFlowTrainer(self.config, data, 0, device)
        self.log: list[dict[str, Any]] = []
        self.lengths: dict[str, int] = {}
        self.rollbacks, self.ended = 0, False
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._healthy: dict[str, Tensor] = self.trainer.state()
        self._kept = 0.0

    def on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def advance(self, done: float, seconds: float) -> None:
        """An iteration at this share of the time."""
        recipe, pair = self.recipe, self.trainer.pair
        ends = {1: recipe.flow, 2: recipe.flow + (1 - recipe.flow) * recipe.warm_up}
        with self.on_stream():
            if done >= ends.get(pair.phase, math.inf):
                self.trainer.leave_stage()
            rate = min(1.0, (1 - done) / recipe.cool_down) * max(0.5**self.rollbacks, _LEAST_RATE)
            name = pair.phase.name.lower()
            metrics = self.trainer.step(self.iteration, max(rate, 0.0), self.rollbacks)
            self.lengths[name] = self.lengths.get(name, 0) + 1
            self.iteration += 1
            if metrics:
                self._look(metrics, done, seconds)

    def _look(self, metrics: Mapping[str, float], done: float, seconds: float) -> None:
        if reason := self.trainer.diverged(self.iteration, metrics):
            self._go_back(f"{self.iteration}: {reason}")
        elif done > self._kept + _HEALTHY:
            self._healthy, self._kept = self.trainer.state(), done
        if not self.log or self.iteration >= self.log[-1]["iteration"] * 1.12 or done >= 1:
            rounded = {name: float(f"{value:.4g}") for name, value in metrics.items()}
            self.log.append({"iteration": self.iteration, "seconds": round(seconds, 2), **rounded})
            print(self.name, json.dumps(self.log[-1]), flush=True)

    def _go_back(self, reason: str) -> None:
        self.rollbacks += 1
        print(self.name, "DIVERGED", reason, flush=True)
        self.log.append({"iteration": self.iteration, "diverged": reason})
        self.trainer.load_state(self._healthy)

    def save(self, out: Path, facts: Mapping[str, Any], images: int) -> None:
        """The averaged weights, the configuration as it came out with the curves, and images."""
        pair = self.trainer.pair
        with self.on_stream():
            tensors = self.trainer.export()
            made = (
                dict(zip(("flow", "energy"), map(to_uint8, self.trainer.pairs(images)), strict=True)) if images else {}
            )
        if len(self.recipe.learned) == 1:  # only compared with
            tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        tensors = {k: v for k, v in tensors.items() if k.split(".")[0] in self.recipe.learned}
        flow, warm_up = self.lengths.get("flow", 0), self.lengths.get("warm_up", 0)
        rest = max(self.iteration - 1 - flow, 1)
        lengths = {
            "iterations": self.iteration,
            "flow_share": min(flow / max(self.iteration - 1, 1), 0.999999),
            "warm_up_share": min(warm_up / rest, 0.999999),
            "cool_down": self.recipe.cool_down,
        }
        training = self.config.training.model_copy(update=lengths)
        config = self.config.model_copy(update={"training": training}).model_dump(mode="json")
        counts = {"iterations": self.iteration, "lengths": self.lengths, "rollbacks": self.rollbacks}
        told = {"config": config, **facts, **counts, "phase": int(pair.phase), "log": self.log}
        save_file(tensors, out / f"{self.name}.safetensors")
        (out / f"{self.name}.json").write_text(json.dumps(told))
        arrays: dict[str, Any] = {name: made[name].numpy() for name in self.recipe.learned if made}
        np.savez_compressed(out / f"{self.name}.npz", **arrays)


def train(runs: Sequence[Run], seconds: float, save: Callable[[float], None]) -> None:
    """Until the time is over, an iteration of each in turn."""
    started, marks, rounds = time.monotonic(), list(_MARKS), 0
    while going := [run for run in runs if not run.ended]:
        passed = time.monotonic() - started
        if passed >= seconds and rounds >= max(run.recipe.every for run in runs):  # each has had a turn
            break
        rounds += 1
        for run in [run for run in going if rounds % run.recipe.every == 0]:
            try:
                run.advance(min(passed / seconds, 1.0), passed)
            except (RuntimeError, ValueError):
                traceback.print_exc()
                run.ended = True
        if marks and passed > marks[0] * seconds:
            save(marks.pop(0))
    save(1.0)


@contextmanager
def fused(batch: int, device: torch.device) -> Iterator[None]:
    """Bisections of full batches as one kernel each, if this machine can compile it; they are most of a proposal."""
    plain = mixture.halved
    if device.type == "cuda":
        try:
            mixture.halved = _compiled(plain, batch, device)
        except Exception:  # whatever a compiler may lack, the plain way works
            traceback.print_exc()
    try:
        yield
    finally:
        mixture.halved = plain


def _compiled(plain: Callable[..., Any], batch: int, device: torch.device) -> Callable[..., Any]:
    torch._dynamo.config.recompile_limit = 64  # one a shape
    compiled = torch.compile(plain, dynamic=False)

    def halved(low: Tensor, *others: Tensor) -> Any:
        return compiled(low, *others) if len(low) == batch else plain(low, *others)

    one, many = torch.randn(batch, 1, 32, 16, device=device), torch.randn(batch, 8, 1, 32, 16, device=device)
    given = (one - 9, one + 9, many.log_softmax(1), many, many.exp(), one.sign(), -one.abs())
    began = time.monotonic()
    with torch.no_grad():
        found, wanted = halved(*given), plain(*given)
    torch.cuda.synchronize()
    differ = max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))
    print(f"bisection compiled in {time.monotonic() - began:.1f} s, differs by {differ:.3g}", flush=True)
    return halved


def pack(out: Path, tar: Path) -> None:
    """All files of a folder as one archive, which appears whole."""
    staging = tar.with_name(f".{tar.name}")
    with tarfile.open(staging, "w") as archive:
        for path in sorted(out.iterdir()):
            archive.add(path, path.name)
    staging.rename(tar)


def publish(name: str, recipe: str, out: Path, models: Path, data: str) -> Path:
    """A model to serve of what a run has left in a folder. Networks that learned nothing are those of the pair."""
    from models.checkpoints import publish as written
    from models.systems.registry import VARIANTS
    from workers.plans import data_facts

    facts = json.loads((out / f"{recipe}.json").read_text())
    files = [out / f"{recipe.split('-')[0]}.safetensors", out / f"{recipe}.safetensors"]
    tensors = {k: v for path in files for k, v in load_file(path).items()}
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    shown = {"name": f"{data}/train", "images": facts["images"]}
    config = Config.model_validate(facts["config"])
    beside = ", ".join(facts["beside"])
    origin = {
        "run": f"{name}-{facts['device'].split()[1].lower() if ' ' in facts['device'] else facts['device']}",
        "data": shown,
        "command": f"python -m benchmarks.device_coopflow --recipe {recipe} {beside.replace(',', '')} --data FOLDER "
        f"--out OUT --seconds {facts['seconds']:g}",
        "iterations": facts["iterations"],
        "wall_seconds": facts["seconds"],
        "rollbacks": facts["rollbacks"],
        "seed": 0,
        "device": f"{facts['device']}, in turns with {beside}, and beside other trainings",
        "threads": 1,
        "versions": {"python": "3.12", "coopserve": "0.1.0", "torch": facts["torch"]},
    }
    card = {
        "name": name,
        "title": f"{VARIANTS['coopflow'].title} trained on {data}",
        **dict.fromkeys(("description", "license", "notice"), ""),
        "system": "coopflow",
        "variant": "coopflow",
        **VARIANTS["coopflow"].card(config, ()),
        "training": origin,
        "metrics": {},
        "known_weaknesses": [],
        **data_facts(data),
    }
    return written(models, card, tensors)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, nargs="+", default=[], help="trained in turns")
    parser.add_argument("--data", type=Path, help="the folder of archives")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tar", type=Path, help="where the folder is packed")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--images", type=int, default=1000, help="that each makes at the end")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--publish", help="in place of training: the name of the model")
    parser.add_argument("--of", choices=RECIPES, help="publish: what was trained")
    parser.add_argument("--models", type=Path, help="publish: the folder of models")
    parser.add_argument("--images-of", help="publish: the data set, by its name here")
    a = parser.parse_args(arguments)
    if a.publish:
        print(publish(a.publish, a.of, a.out, a.models, a.images_of))
        return
    began, device = time.monotonic(), torch.device(a.device)
    torch.backends.cudnn.allow_tf32 = False  # the flow must invert
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    archives = {RECIPES[name].data for name in a.recipe}
    data = {name: read_npz(a.data / f"{name}.npz")["train"] for name in archives}
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    runs = []
    for name in a.recipe:
        try:
            runs.append(Run(name, RECIPES[name], data[RECIPES[name].data], device))
        except (RuntimeError, ValueError, OSError):
            traceback.print_exc()
    print(f"{card}, torch {torch.__version__}: ready after {time.monotonic() - began:.1f} s", flush=True)

    def save(mark: float) -> None:
        for run in runs:
            beside = [other.name for other in runs if other is not run]
            images = len(run.trainer.batches)
            facts = {
                "recipe": run.name,
                "images": images,
                "device": card,
                "torch": torch.__version__,
                "seconds": a.seconds,
            }
            try:
                run.save(a.out, {**facts, "share": mark, "beside": beside}, a.images if mark == 1 else 0)
            except (RuntimeError, ValueError):
                traceback.print_exc()
        if a.tar:
            pack(a.out, a.tar)
        print(f"saved at {mark}, {time.monotonic() - began:.1f} s", flush=True)

    with fused(_BATCH, device):
        train(runs, a.seconds, save)
    if device.type == "cuda":
        print(f"memory at most {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
