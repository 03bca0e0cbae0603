"""Solving for latents of any decoder: the loops that each solver takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Loop, Rows, RowsError, Task
from models.samplers.cogeneration import CANDIDATES, Cogeneration
from models.samplers.observation import Observation
from models.samplers.stepsizes import TARGET, adapted
from models.systems.aishmc.pilot import pilot
from models.systems.aishmc.settings import Settings, first_size, sharing, start_rows

_ENOUGH = 20
"""So many moves of which none is accepted are no bad luck."""


def solve(
    kernels: Cogeneration,
    seen: Observation,
    how: Settings,
    seeds: Sequence[int],
    *,
    pilot_seed: int = 0,
    condition: Rows | None = None,
    preview: Callable[[Rows], Tensor] | None = None,
) -> Task[Rows]:
    """Latents ``x`` of one chain a seed, with ``image``, ``misfit``, ``w`` and what else the kernels leave.

    Raises:
        RowsError: no chain has moved at all, or a descent left all numbers.
    """
    given = condition or {}
    if how.solver == "ais_hmc" and not how.adapts and how.table is None:
        how = replace(how, table=(yield from pilot(kernels, seen, how, pilot_seed, given)))
    rows = start_rows(kernels, seen, how, len(seeds), given)
    if how.solver == "gd_multi":
        blank = torch.zeros(len(seeds), *kernels.decoder.latent_shape, device=kernels.device)
        rows = {**rows, "x": blank, "f": torch.full_like(rows["s"], -1e30)}
        rows = yield Loop(kernels.search, rows, -(-how.starts // CANDIDATES), seeds, name="search", keep=["x"])
        rows = {name: value for name, value in rows.items() if name != "f"}
    rows = yield Loop(kernels.begin, rows, 1, seeds, name="start", keep=[])
    if how.shares:
        rows = yield from _together(kernels, rows, how, seeds, preview)
    else:
        rows = yield Loop(kernels.step, rows, how.steps, seeds, name=how.solver, preview=preview)
    if how.solver == "ais_hmc" and _hopeless(rows, how.temperatures * how.moves):
        raise RowsError("no move of any chain was accepted; lower step_size, or give a greater sigma")
    if how.polishes:
        fresh = {"descends": torch.ones_like(rows["descends"]), "m1": rows["m1"] * 0, "m2": rows["m2"] * 0}
        rows = yield Loop(kernels.step, {**rows, **fresh}, how.polishes, seeds, name="polish", preview=preview)
    return (yield Loop(kernels.finish, rows, 1, seeds, name="finish"))


def _together(
    kernels: Cogeneration, rows: Rows, how: Settings, seeds: Sequence[int], preview: Callable[[Rows], Tensor] | None
) -> Task[Rows]:
    """The moves of chains that share their step size: a loop each, at whose end they meet. Whatever else is in the
    batch has no part in it.
    """
    n, last = len(seeds), how.temperatures * how.moves - 1
    numbers = first_size(how, math.prod(kernels.decoder.latent_shape)), TARGET, how.kappa
    own, average, kappa = torch.tensor(numbers, dtype=torch.float64)
    for move in range(last + 1):
        rows = {**rows, **sharing(kernels, n, done=move // how.moves, own=float(own))}
        keep = None if move == last else ["p"]
        rows = yield Loop(kernels.step, rows, how.leapfrogs, seeds, name=how.solver, preview=preview, keep=keep)
        own, average = adapted(own, average, rows["p"].mean().cpu(), kappa)
    return rows


def _hopeless(rows: Rows, moves: int) -> bool:
    """Whether all chains are where they began: every move diverged, or many were made and none accepted."""
    stuck = (rows["divergent"] == moves) | ((rows["accepted"] == 0) & (moves >= _ENOUGH))
    return bool(stuck.all())


def diagnostics(rows: Rows, seen: Observation, how: Settings) -> dict[str, list[Any]]:
    """How the chains went, by name: one value a row.

    ``observed_rmse`` is in units of sigma: near 1 where the model can draw what was seen, far above where it can't.
    """
    scale = math.sqrt(max(1, seen.scalars)) * how.sigma
    found: dict[str, list[Any]] = {
        "observed_rmse": (rows["misfit"].sqrt() / scale).tolist(),
        "gradients": [how.gradients] * len(rows["misfit"]),
    }
    if how.solver != "ais_hmc":
        return found
    moves = how.temperatures * how.moves
    return {
        **found,
        "acceptance": (rows["accepted"].double() / moves).tolist(),
        "divergent": rows["divergent"].tolist(),
        "step_size": (rows["eps"] * rows["stretch"]).tolist(),
        **({} if how.literal else {"log_weight": rows["w"].tolist()}),
    }


def energy(rows: Rows) -> Tensor:
    """U_T = 1/2 |z|^2 + Phi of each row, float64 ``[rows]``: minus its log posterior up to a constant of the job."""
    return rows["x"].double().square().flatten(1).sum(1) / 2 + rows["misfit"] / (2 * rows["s"])


def log_evidence(rows: Rows, seen: Observation, how: Settings) -> float:
    """log of the mean weight - n_o / 2 ln(2 pi s): on average over seeds below log p(y)."""
    w = rows["w"]
    mean = float(w.logsumexp(0)) - math.log(len(w))
    return mean - seen.scalars / 2 * math.log(2 * math.pi * how.variance)
