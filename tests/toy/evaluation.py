"""How the toy is measured: the distance of its mean image to that of held-out images, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from models.core.model import LoadedModel
from models.data.images import ImageData, to_float
from models.evaluation.base import Choice, Evaluation, Run
from models.evaluation.jobs import defaults_for, pictures, run_jobs, trained_steps
from models.evaluation.labels import splits_for


@dataclass(frozen=True, eq=False)
class ToyBench:
    model: LoadedModel
    defaults: Mapping[str, Any]
    valid: ImageData
    test: ImageData


def prepare(model: LoadedModel, run: Run) -> ToyBench:
    _, valid, test = splits_for(model, run)
    return ToyBench(model, defaults_for(model, "generate"), valid, test)


def distance(bench: ToyBench, data: ImageData, images: int, refine: bool) -> float:
    """Mean squared, between mean images."""
    own = {"n": images, "refine": refine}
    made = [pictures(output) for output in run_jobs(bench.model, "generate", bench.defaults, [own], seed=1, at_once=1)]
    return float((torch.cat(made).mean(0) - to_float(data.images).mean(0)).square().mean())


def evaluate(bench: ToyBench, run: Run) -> dict[str, Any]:
    n = run.options["images"]
    return {
        "proposal": {"distance": distance(bench, bench.test, n, False)},
        "refined": {"distance": distance(bench, bench.test, n, True)},
    }


def choose(bench: ToyBench, run: Run) -> Choice:
    trials = {
        k: replace(bench, defaults={**bench.defaults, "steps": k})
        for k in range(1, trained_steps(bench.model, "generate") + 1)
    }
    found = {k: distance(trial, bench.valid, run.options["images"], True) for k, trial in trials.items()}
    best = min(found, key=lambda k: found[k])
    return Choice(trials[best], best, {"steps": best, "distance": {str(k): value for k, value in found.items()}})


EVALUATION = Evaluation(options={"images": 64}, prepare=prepare, evaluate=evaluate, choose_steps=choose)
