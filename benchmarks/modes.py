"""Whether cGML finds modes that are known: ``python -m benchmarks.modes --what toy|tint [--data var/data]``.

``toy``: y = +-4 (x, x^2, x^3) for x in [0, 1], each sign for half of the points. A deterministic network of least
squares answers 0, whose error is 1136/315 = 3.606. ``tint``: pictures of clothes, of which half are to be tinted by
+0.5 and half by -0.5; the lightness does not say which. An answer of 0 is 0.5 away from either.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.data.catalog import load
from models.data.images import ImageData, to_float, to_uint8
from models.metrics.modes import nearest, shares
from models.systems.cgml.batch import Batch
from models.systems.cgml.config import TrainingConfig
from models.systems.cgml.images.config import Config, fit_to
from models.systems.cgml.images.presets import PRESETS
from models.systems.cgml.images.training import make_trainer
from models.systems.cgml.trainer import CgmlTrainer
from models.systems.frame import Frame

SCALE = 4.0
"""The toy's points are a fourth as large where they are pictures of one pixel, whose numbers lie in [-1, 1]."""
_TINT, _INK = 0.5, 25


@dataclass(frozen=True)
class Task:
    """Data, and how answers are judged: (trainer, answers a condition, whether Z moves) -> errors and shares."""

    preset: str
    data: ImageData
    judge: Callable[[CgmlTrainer, int], dict[str, Any]]


def curve(x: Tensor) -> Tensor:
    """The positive mode of the toy, ``[n, 3]``."""
    return SCALE * torch.stack([x, x**2, x**3], 1)


def zero_error() -> float:
    """The mean squared error of the answer 0, over x and the three dimensions."""
    return SCALE**2 / 3 * (1 / 3 + 1 / 5 + 1 / 7)


def majority_error(p: float) -> float:
    """The error to the nearest mode of the best deterministic answer where a share p has one sign."""
    return zero_error() * (2 * min(p, 1 - p)) ** 2


def toy(points: int = 20_000) -> Task:
    """The curves as pairs of pictures of one pixel."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (points,), generator=generator)
    sign = torch.where(torch.rand(points, 1, generator=generator) < 0.5, 1.0, -1.0)
    y = to_uint8(sign * curve(levels / 255) / SCALE)[:, :, None, None]
    data = ImageData(y, None, (), "toy", levels.to(torch.uint8)[:, None, None, None])

    def judge(trainer: CgmlTrainer, n: int) -> dict[str, Any]:
        x = torch.linspace(0, 1, 51)
        c = (2 * x - 1)[:, None, None, None]
        made = SCALE * trainer.answers(Batch(c, c.expand(-1, 3, -1, -1), torch.ones_like(c), c), n, 5)[..., 0, 0]
        found, mode = nearest(torch.stack([(made - s * curve(x)[:, None]).square().mean(2) for s in (1, -1)]))
        return {"error": float(found.mean()), "shares": shares(mode[25:], 2)}  # near x = 0 both are one

    return Task("toy", data, judge)


def tint(root: Path, p: float, pictures: int = 20_000, tested: int = 50) -> Task:
    """Clothes with a tint; a share p has the positive one."""
    train, test = (load("fashion-mnist", split, root) for split in ("train", "test"))
    clothes, judged = train.images[:pictures], test.images[:tested]
    positive = torch.rand(len(clothes), 1, 1, 1, generator=torch.Generator().manual_seed(0)) < p
    tints = torch.where(positive, _TINT, -_TINT) * (clothes > _INK)
    data = ImageData(to_uint8(tints), None, (), "tints", clothes)

    def judge(trainer: CgmlTrainer, n: int) -> dict[str, Any]:
        frame, ink = Frame(PRESETS["small-32"].model_copy(update={"image_size": 28})), (judged > _INK).float()[:, None]
        c = frame.padded(to_float(judged))
        made = frame.cropped_film(trainer.answers(Batch(c, c, torch.ones_like(c), c), n, 5))
        each = [((made - s * _TINT).abs() * ink).sum((2, 3, 4)) / ink.sum((2, 3, 4)) for s in (1, -1)]
        found, mode = nearest(torch.stack(each))
        return {"error": float(found.mean()), "shares": shares(mode, 2)}

    return Task("small-32", data, judge)


def configured(task: Task, changes: dict[str, Any]) -> Config:
    """The preset of a task with some of its training changed."""
    preset = PRESETS[task.preset]
    training = TrainingConfig(**{**preset.training.model_dump(), **changes})
    return fit_to(preset.model_copy(update={"training": training}), task.data)


def train(task: Task, config: Config, seed: int, every: int, told: Callable[[dict[str, Any]], None]) -> CgmlTrainer:
    """A whole training; every so many iterations and at its end the answers are judged."""
    trainer, started = make_trainer(config, task.data, seed, torch.device("cpu")), time.monotonic()
    for iteration in range(config.training.iterations):
        metrics = trainer.step(iteration, 1.0, 0)
        done = iteration + 1
        if done % every == 0 or done == config.training.iterations:
            found = {"iteration": done, "seconds": round(time.monotonic() - started, 1), **task.judge(trainer, 64)}
            told(found | {"searched": round(metrics["error_searched"], 5)})
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=["toy", "tint"], required=True)
    parser.add_argument("--data", type=Path, default=Path("var/data"))
    parser.add_argument("--share", type=float, default=0.5, help="tint: of the positive one")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--descents", type=int)
    parser.add_argument("--seed", type=int, default=3)
    a = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    task = toy() if a.what == "toy" else tint(a.data, a.share)
    given = {"iterations": a.iterations, "batch_size": a.batch, "descents": a.descents}
    config = configured(task, {name: value for name, value in given.items() if value})
    every = max(config.training.iterations // 10, 1)
    train(task, config, a.seed, every, lambda found: print(json.dumps(found), flush=True))


if __name__ == "__main__":
    main()
