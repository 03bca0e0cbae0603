"""What the tasks share that look for latents: the settings of a job, its chains, and which of them are its results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.core.jobs import Job
from models.core.loop import Rows, Task
from models.core.noise import mix, row_seeds
from models.core.output import Output
from models.samplers.observation import Observation
from models.systems.aishmc.model import GanModel
from models.systems.aishmc.settings import Settings
from models.systems.aishmc.solver import diagnostics, energy, solve

_CHOICE, _PILOT = 0x5E1EC7, 0x9110
"""What the seeds of a job are mixed with for what is no chain."""

_FREE = 0.5
"""Mean squared difference a scalar between an image and a draw, where no calibration says."""


def settings_of(model: GanModel, job: Job, task: str) -> Settings:
    """How a job of a task is solved: its options, and what the model's calibration knows."""
    options, known = job.options, model.calibration
    return Settings(
        solver=options.get("solver", "ais_hmc"),
        sigma=options["sigma"] or known.get("sigma", model.config.solver.sigma),
        temperatures=options["temperatures"],
        leapfrogs=options["leapfrogs"],
        target=options.get("target", "posterior"),
        step_sizes=options["step_sizes"],
        table=known.get("step_sizes", {}).get(task),
        stretch=job.step_size,
        starts=options.get("starts", 1),
        polish=options.get("polish", 0),
        spread=known.get("spread", _FREE),
    )


def pilot_seed(job: Job) -> int:
    """Of the chains that find step sizes for a job, if none are known."""
    return mix(job.seed, _PILOT)


def answer(
    model: GanModel, job: Job, task: str, seen: Observation, composed: Callable[[Tensor], Tensor] = lambda raw: raw
) -> Task[Output]:
    """Results of a job from the chains that look for latents of what was seen.

    Args:
        composed: raw decoded pictures ``[n, C, H, W]`` in [-1, 1] -> results.
    """
    how, options = settings_of(model, job, task), job.options
    per = 1 if options["select"] == "all" else options["chains"]
    seeds = row_seeds(job.seed, job.n)
    keys = [key for seed in seeds for key in row_seeds(seed, per)]
    rows = yield from solve(model.kernels, seen, how, keys, pilot_seed=pilot_seed(job), preview=model.shown)
    weighted = how.solver == "ais_hmc" and not how.literal
    select = options["select"] if weighted or options["select"] == "all" else "best_obs"
    chosen = picked(rows, select, seeds, per).to(model.device)
    raw = model.pictures(rows["image"][chosen])
    told = diagnostics(rows, seen, how)
    numbers = {name: [values[k] for k in chosen.tolist()] for name, values in told.items()}
    if weighted:
        numbers["effective_chains"] = [effective_size(rows["w"])] * job.n
    numbers["latent"] = [_short(z) for z in rows["x"][chosen].tolist()]
    if per > 1:
        numbers |= _of_all_chains(rows, per, weighted)
    warnings = [] if select == options["select"] else ["without weights the chain nearest to what is given was taken"]
    return Output(
        images=composed(raw),
        energy=energy(rows)[chosen],
        seeds=seeds,
        numbers=numbers,
        extras={"decoded": raw},
        warnings=warnings,
    )


def _short(z: Sequence[float]) -> list[float]:
    """As many digits as single precision has, or a record would be twice as long."""
    return [float(f"{value:.7g}") for value in z]


def _of_all_chains(rows: Rows, per: int, weighted: bool) -> dict[str, list[Any]]:
    """Energies and weights of all chains of each result."""
    found = {"chain_energies": energy(rows)}
    if weighted:
        found["chain_log_weights"] = rows["w"]
    return {name: values.reshape(-1, per).tolist() for name, values in found.items()}


def picked(rows: Rows, select: str, seeds: Sequence[int], per: int) -> Tensor:
    """Which chain each result is, int64 ``[n]`` on the CPU; the chains of a result lie beside each other."""
    misfit, w = (rows[name].cpu().reshape(-1, per) for name in ("misfit", "w"))
    ways: dict[str, Callable[[], Tensor]] = {
        "all": lambda: torch.zeros(len(seeds), dtype=torch.int64),
        "best_obs": lambda: misfit.argmin(1),
        "best_weight": lambda: w.argmax(1),
        "resample": lambda: _drawn(w, seeds),
    }
    return ways[select]() + per * torch.arange(len(seeds))


def _drawn(w: Tensor, seeds: Sequence[int]) -> Tensor:
    """A chain of each result, drawn by its weight."""
    u = torch.tensor([(mix(seed, _CHOICE) >> 11) / 2**53 for seed in seeds], dtype=torch.float64)
    return (w.softmax(1).cumsum(1) < u[:, None]).sum(1).clamp(max=w.shape[1] - 1)


def effective_size(w: Tensor) -> float:
    """(sum W)^2 / sum W^2 of log weights."""
    return math.exp(2 * float(w.logsumexp(0)) - float((2 * w).logsumexp(0)))
