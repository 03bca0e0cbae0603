"""Whether cGML finds modes that are known: ``python -m benchmarks.modes --what toy|toy-half|tint|box|corrupted``.

``toy``: a curve or its mirror image; ``toy-half`` learns only x up to 0.5 and is asked beyond. ``tint``: pictures of
clothes, of which half are to be tinted by +0.5 and half by -0.5; the lightness does not say which, and an answer of 0
is 0.5 away from either. ``box``: digits whose hidden part has a white box for a share of them. ``corrupted``: digits of
which a share is spoiled, judged by clean ones. ``--deterministic`` trains the same networks with one answer, by l1.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.mode_tasks import Task, box, corrupted, tint
from benchmarks.toy import doubts, lengths, toy
from models.systems.cgml.config import TrainingConfig
from models.systems.cgml.images.config import Config, fit_to
from models.systems.cgml.images.presets import PRESETS
from models.systems.cgml.images.training import make_trainer
from models.systems.cgml.trainer import CgmlTrainer

TASKS: Mapping[str, Callable[[Path, float], Task]] = {
    "toy": lambda root, p: toy(),
    "toy-half": lambda root, p: toy(largest=0.5),
    "tint": tint,
    "box": box,
    "corrupted": corrupted,
}
SHARES = {"tint": 0.5, "box": 0.3, "corrupted": 0.2}
_ENDS: Mapping[str, Callable[[CgmlTrainer], dict[str, float]]] = {"toy": lengths, "toy-half": doubts}
"""What else is looked at, at the end."""
_AFTER = (200, 400)
"""Iterations after which it is looked at how fast the predictor settles."""
_ANSWERS = 200


def configured(task: Task, changes: dict[str, Any]) -> Config:
    """The preset of a task with some of its training changed."""
    preset = PRESETS[task.preset]
    training = TrainingConfig(**{**preset.training.model_dump(), **changes})
    return fit_to(preset.model_copy(update={"training": training}), task.data)


def train(
    task: Task, config: Config, seed: int, every: int, told: Callable[[dict[str, Any]], None], answers: int = _ANSWERS
) -> CgmlTrainer:
    """A whole training; every so many iterations, as the predictor settles, and at the end the answers are judged."""
    trainer, started = make_trainer(config, task.data, seed, torch.device("cpu")), time.monotonic()
    whole = config.training.iterations
    marks = {*range(every, whole, every), whole, *(config.training.joint + k for k in (0, *_AFTER))}
    for iteration in range(whole):
        metrics = trainer.step(iteration, 1.0, 0)
        done = iteration + 1
        if done in marks:
            found = {"iteration": done, "seconds": round(time.monotonic() - started, 1), **task.judge(trainer, answers)}
            told(found | {"searched": round(metrics.get("error_searched", metrics.get("error", 0.0)), 5)})
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=list(TASKS), required=True)
    parser.add_argument("--data", type=Path, default=Path("var/data"))
    parser.add_argument("--share", type=float, help="of the positive tint, of boxes, of spoiled digits")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--descents", type=int)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--deterministic", action="store_true")
    a = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    task = TASKS[a.what](a.data, SHARES.get(a.what, 0.5) if a.share is None else a.share)
    given = {"iterations": a.iterations, "batch_size": a.batch, "descents": a.descents}
    changes = {name: value for name, value in given.items() if value}
    if a.deterministic:
        changes |= {"deterministic": True, "error": "l1"}
    config = configured(task, changes)
    every = max(config.training.iterations // 10, 1)

    def told(found: dict[str, Any]) -> None:
        print(json.dumps(found), flush=True)

    trainer = train(task, config, a.seed, every, told)
    if not a.deterministic and a.what in _ENDS:
        told(_ENDS[a.what](trainer))


if __name__ == "__main__":
    main()
