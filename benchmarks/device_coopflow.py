"""CoopFlow trained on a GPU for some minutes: ``python -m benchmarks.device_coopflow --recipe NAME ... --data NPZ``.

The trainer is the product's own, whose iterations are captured graphs. What differs from ``coopserve train`` is the
clock: phases and rates follow the share of the time that is over, whatever the card can do in it. Several trainings
share a card in one process, each on its own stream. It needs torch, numpy, safetensors, tqdm and pydantic alone.

``OUT/NAME.safetensors`` holds the averaged weights, ``OUT/NAME.json`` the configuration that came of it and the
curves.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.data.images import ImageData, to_uint8
from models.data.npz import read_npz
from models.networks.flow import mixture
from models.systems.coopflow.config import Config, fit_to
from models.systems.coopflow.presets import PRESETS
from models.systems.coopflow.training import CoopFlowTrainer

_ENDLESS = 10**7
_MARKS = (0.5, 0.75)
_HEALTHY = 0.1
"""Of the time between two states that a training which diverges goes back to."""
_MOST_ROLLBACKS = 3


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
    """

    preset: str = "small-gray32"
    data: str = "fashion"
    flow: float = 0.25
    warm_up: float = 0.08
    cool_down: float = 0.3
    width: int | None = None
    chain: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def config(self, data: ImageData) -> Config:
        """The configuration, with phases that do not end by themselves."""
        given = PRESETS[self.preset].model_dump()
        shares = {"iterations": _ENDLESS, "flow_share": 0.9, "warm_up_share": 0.9}
        given["training"] |= {"average": 0.999, "batch_size": 64, **shares, **self.training}
        given["chain"] |= self.chain
        given["width"] = self.width or given["width"]
        return fit_to(Config.model_validate(given), data)


def _chain(steps: int, delta: float, delta_test: float | None = None) -> dict[str, float]:
    return {"steps": steps, "delta": delta, "delta_test": delta_test or round(4 / 3 * delta, 4)}


RECIPES: dict[str, Recipe] = {
    "toy": Recipe(preset="tiny", training={"norm_images": 16, "batch_size": 4}),
    "fashion-a": Recipe(width=16, chain=_chain(20, 0.1), training={"lr_energy": 1e-4, "lr_flow": 1e-4}),
    "fashion-b": Recipe(width=32, chain=_chain(30, 0.1), training={"lr_energy": 1e-4, "lr_flow": 1e-4}),
    "fashion-c": Recipe(
        width=24, chain=_chain(30, 0.07), training={"lr_energy": 2e-4, "lr_flow": 2e-5, "data_noise": 1 / 256}
    ),
    "emoji-b": Recipe(
        preset="small-rgb32", data="emoji32", flow=0.35, width=32, chain=_chain(30, 0.1), training={"lr_flow": 3e-5}
    ),
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
        self._healthy: dict[str, Tensor] = {}
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
            rate = min(1.0, (1 - done) / recipe.cool_down) * 0.5**self.rollbacks
            metrics = self.trainer.step(self.iteration, max(rate, 0.0), self.rollbacks)
            name = pair.phase.name.lower()
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
        if self.rollbacks > _MOST_ROLLBACKS or not self._healthy:
            self.ended = True
        else:
            self.trainer.load_state(self._healthy)

    def save(self, out: Path, facts: Mapping[str, Any]) -> None:
        """The averaged weights, the configuration as it came out, the curves, and a sheet."""
        with self.on_stream():
            tensors = self.trainer.export()
            sheet = to_uint8(self.trainer.samples()) if self.iteration else None
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
        save_file(tensors, out / f"{self.name}.safetensors")
        told = {"config": config, **facts, "rollbacks": self.rollbacks, "lengths": self.lengths, "log": self.log}
        (out / f"{self.name}.json").write_text(json.dumps(told))
        if sheet is not None:
            np.savez_compressed(out / f"{self.name}-sheet.npz", sheet=sheet.numpy())


def train(runs: Sequence[Run], seconds: float, save: Callable[[Run, float], None]) -> None:
    """Until the time is over, an iteration of each in turn."""
    started, marks = time.monotonic(), list(_MARKS)
    while (passed := time.monotonic() - started) < seconds and (going := [run for run in runs if not run.ended]):
        for run in going:
            try:
                run.advance(passed / seconds, passed)
            except (RuntimeError, ValueError):
                traceback.print_exc()
                run.ended = True
        if marks and passed > marks[0] * seconds:
            mark = marks.pop(0)
            for run in going:
                save(run, mark)
    for run in runs:
        save(run, 1.0)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, nargs="+", default=[], help="trained at the same time")
    parser.add_argument("--data", type=Path, help="the folder of archives")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--batch", type=int, help="in place of the recipes'")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--plain", action="store_true", help="nothing is compiled")
    a = parser.parse_args()
    began, device = time.monotonic(), torch.device(a.device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # the flow must invert
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    archives = {RECIPES[name].data for name in a.recipe}
    data = {name: read_npz(a.data / f"{name}.npz")["train"] for name in archives}
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    runs = []
    for name in a.recipe:
        recipe = RECIPES[name]
        if a.batch:
            recipe = Recipe(**{**vars(recipe), "training": {**recipe.training, "batch_size": a.batch}})
        try:
            runs.append(Run(name, recipe, data[recipe.data], device))
        except (RuntimeError, ValueError):
            traceback.print_exc()
    print(f"{card}, torch {torch.__version__}: ready after {time.monotonic() - began:.1f} s", flush=True)

    def save(run: Run, mark: float) -> None:
        facts = {"recipe": run.name, "device": card, "torch": torch.__version__, "seconds": a.seconds, "share": mark}
        try:
            run.save(a.out, {**facts, "beside": [other.name for other in runs if other is not run]})
        except (RuntimeError, ValueError):
            traceback.print_exc()

    batch = runs[0].config.training.batch_size if runs else 0
    with nullcontext() if a.plain else fused(batch, device):
        train(runs, a.seconds, save)
    if device.type == "cuda":
        print(f"memory at most {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB", flush=True)
    print(f"done after {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
