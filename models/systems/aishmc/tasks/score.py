"""How likely an image is to the model, as a bound."""

from __future__ import annotations

import math
from typing import Any

import torch

from models.core.jobs import ScoreJob
from models.core.loop import Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.systems.aishmc.model import GanModel
from models.systems.aishmc.solver import diagnostics, log_evidence, solve
from models.systems.aishmc.tasks.answers import effective_size, pilot_seed, settings_of
from models.systems.aishmc.tasks.reconstruct import all_of


def score(model: GanModel, job: ScoreJob) -> Task[Output]:
    """log p(y) of the image with noise of ``sigma`` around the decoder's, by annealed importance sampling.

    ``log_evidence``, in nats, is a *lower* bound on average over seeds: with few chains it lies far below log p(y).
    ``per_scalar`` is the same divided by the numbers of the image. Values compare at one sigma alone.
    """
    how, seen = settings_of(model, job, "score"), all_of(model, job.image)
    chains = row_seeds(job.seed, job.options["chains"])
    rows = yield from solve(model.kernels, seen, how, chains, pilot_seed=pilot_seed(job))
    bound = log_evidence(rows, seen, how)
    told = diagnostics(rows, seen, how)
    means = {name: [math.fsum(told[name]) / len(chains)] for name in ("acceptance", "observed_rmse")}
    numbers: dict[str, list[Any]] = {
        "log_evidence": [bound],
        "per_scalar": [bound / seen.scalars],
        "sigma": [how.sigma],
        "effective_chains": [effective_size(rows["w"])],
        "gradients": [how.gradients * len(chains)],
        **means,
    }
    return Output(images=None, energy=torch.tensor([-bound]), seeds=row_seeds(job.seed, 1), numbers=numbers)
