"""Solving for latents of any decoder: how a solver is set, and the loops that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from models.core.loop import Loop, Rows, RowsError, Task
from models.core.noise import row_seeds
from models.samplers.cogeneration import CANDIDATES, Cogeneration
from models.samplers.observation import Observation
from models.samplers.stepsizes import KNOTS, LEAST, MOST, TARGET, adapted, geometric_mean, table

SolverName: TypeAlias = Literal["ais_hmc", "gd_single", "gd_multi"]
Scope: TypeAlias = Literal["table", "row", "job"]

PILOTS = 8
"""Chains that find a table of step sizes."""
_PILOT_TEMPERATURES, _SEGMENTS = 200, 25
_GAIN = 0.3
"""Of a pilot with that many temperatures; a shorter one has to follow faster."""
_ENOUGH = 20
"""So many moves of which none is accepted are no bad luck."""
_PILOT_FIRST = 0.2
"""Near the prior long steps are right, and a size falls to what it should be faster than it rises."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How latents are looked for. Every solver takes T * M * L + 1 gradients a row, and those of its polish.

    Args:
        solver: annealed HMC; descent from one start; descent from the best of ``starts``.
        sigma: standard deviation of what is seen around A G(z), in units of the range [-1, 1].
        temperatures: T.
        leapfrogs: L, gradients a move.
        moves: M, at each temperature.
        target: ``posterior`` keeps the prior; ``tempered_paper`` is the authors' code for images, whose sigma is
            sqrt(1/2).
        low: where the sigmoid of the schedule begins; None: early enough for the first change to weigh little.
        high: where it ends. At 4 a quarter of the temperatures lie so near b = 1 that nothing changes any more, where a
            chain of a sharp posterior hardly moves: they are better spent on the way.
        raw: b is the sigmoid itself, which neither begins at 0 nor ends at 1.
        step_sizes: one ``table`` for all chains; or each ``row`` adapts its own; or the chains of the ``job`` share one
            that follows their mean acceptance, as in the authors' code.
        table: as a pilot found it; None: a pilot runs first.
        first: step size with which a row begins to adapt; None: .05, or .01 below 64 dimensions.
        jitter: each move's eps lies within this share around the size.
        stretch: multiplies all step sizes and rates.
        rate: of a descent.
        polish: steps of descent from where the last move of ``ais_hmc`` led: to the nearest picture that fits best,
            where a sample of the posterior is not what is wanted.
        adam: False for plain steps of descent.
        starts: candidates of ``gd_multi``.
        spread: mean squared difference a scalar between what is seen and what the prior draws, to find ``low``.

    Raises:
        ValueError: a number is out of range.
    """

    solver: SolverName = "ais_hmc"
    sigma: float = 0.2
    temperatures: int = 200
    leapfrogs: int = 10
    moves: int = 1
    target: Literal["posterior", "tempered_paper"] = "posterior"
    low: float | None = None
    high: float = 1.0
    raw: bool = False
    step_sizes: Scope = "table"
    table: Sequence[float] | None = None
    first: float | None = None
    jitter: float = 0.1
    stretch: float = 1.0
    rate: float = 0.05
    polish: int = 0
    adam: bool = True
    starts: int = 512
    spread: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be positive, got {self.sigma}")
        if min(self.temperatures, self.leapfrogs, self.moves, self.starts) < 1 or self.polish < 0:
            raise ValueError("temperatures, leapfrogs, moves and starts must be at least 1, and polish at least 0")
        if self.low is not None and not self.low < self.high:
            raise ValueError(f"a schedule needs low < high, got {self.low} and {self.high}")

    @property
    def literal(self) -> bool:
        """Whether the target is that of the authors' code for images."""
        return self.target == "tempered_paper"

    @property
    def variance(self) -> float:
        """s. At 1/2 the fit of both targets is the same."""
        return 0.5 if self.literal else self.sigma**2

    @property
    def steps(self) -> int:
        """Of the loop, one gradient each."""
        return self.temperatures * self.moves * self.leapfrogs

    @property
    def gradients(self) -> int:
        """A row in all."""
        return self.steps + self.polishes + 1

    @property
    def polishes(self) -> int:
        """Steps of descent after the last move."""
        return self.polish if self.solver == "ais_hmc" else 0

    @property
    def adapts(self) -> bool:
        return self.step_sizes != "table" or self.literal

    @property
    def shares(self) -> bool:
        """Whether the chains of a job share the size to which they adapt."""
        return self.step_sizes == "job" and self.solver == "ais_hmc"

    @property
    def kappa(self) -> float:
        """How fast a size adapts."""
        return 0.05 if self.temperatures < 500 else 0.02

    def begin_at(self, scalars: int) -> float:
        """``low``; by default -max(4, ln Phi + 2) at the Phi of a draw from the prior."""
        if self.low is not None:
            return self.low
        if self.literal:
            return -5.0
        phi = max(1, scalars) * self.spread / (2 * self.variance)
        return -max(4.0, math.log(phi) + 2)


def start_rows(kernels: Cogeneration, seen: Observation, how: Settings, n: int, condition: Rows) -> Rows:
    """The state of n rows before their start."""
    decoder, device = kernels.decoder, kernels.device
    dimensions = math.prod(decoder.latent_shape)
    first = _first(how, dimensions)
    descends = how.solver != "ais_hmc"
    numbers = {
        "s": how.variance,
        "tempered": float(how.literal and not descends),
        "low": how.begin_at(seen.scalars),
        "high": 5.0 if how.literal and how.low is None else how.high,
        "own": first,
        "average": TARGET,
        "kappa": how.kappa,
        "jitter": how.jitter,
        "stretch": how.stretch,
        "rate": how.rate * how.stretch,
    }
    counts = {"temperatures": how.temperatures, "moves": how.moves, "leapfrogs": how.leapfrogs, "done": 0}
    flags = {
        "raw": how.raw or how.literal,
        "adapts": how.adapts,
        "descends": descends,
        "adam": how.adam,
        "rescale": decoder.scale_invariant and not how.literal,
    }
    columns: list[tuple[Mapping[str, float], torch.dtype]] = [
        (numbers, torch.float64),
        (counts, torch.int64),
        (flags, torch.bool),
    ]
    sizes = torch.tensor(how.table or [first] * len(KNOTS), dtype=torch.float64, device=device)
    return {
        **seen.rows(n, decoder.image_shape, device),
        **{name: value.to(device).expand(n, *value.shape[1:]).contiguous() for name, value in condition.items()},
        **{k: torch.full((n,), v, dtype=kind, device=device) for part, kind in columns for k, v in part.items()},
        "table": sizes.repeat(n, 1),
    }


def _first(how: Settings, dimensions: int) -> float:
    return how.first if how.first is not None else 0.05 if dimensions >= 64 else 0.01


def pilot(kernels: Cogeneration, seen: Observation, how: Settings, seed: int, condition: Rows) -> Task[list[float]]:
    r"""A table of step sizes, from what a few chains of their own accept on the way down.

    They share one size. After each move :math:`\log\epsilon` changes by the difference of their mean acceptance from
    the target times a gain. Sizes have to fall by fifty times while b / s grows by a hundred, and the rule of the
    authors' code, which changes a size by at most 5 % a move, lags behind: of its sizes most moves are rejected.
    """
    temperatures = min(how.temperatures, _PILOT_TEMPERATURES)
    gain = min(1.0, _GAIN * _PILOT_TEMPERATURES / temperatures)
    short = replace(how, step_sizes="row", first=_PILOT_FIRST, temperatures=temperatures, moves=1, stretch=1.0)
    seeds = row_seeds(seed, PILOTS)
    rows = start_rows(kernels, seen, short, PILOTS, condition)
    rows = yield Loop(kernels.begin, rows, 1, seeds, name="pilot", keep=[])
    size, precisions, sizes = _PILOT_FIRST, [], []
    for move in range(temperatures):
        rows = {**rows, **_shared(kernels, PILOTS, done=move, own=size)}
        rows = yield Loop(kernels.step, rows, short.leapfrogs, seeds, name="pilot", keep=["b", "p"])
        precisions.append(float(rows["b"][0]) / short.variance)
        sizes.append(size)
        size = math.exp(math.log(size) + gain * (float(rows["p"].mean()) - TARGET))
        size = min(max(size, LEAST), MOST)
    parts = [part for part in np.array_split(np.arange(temperatures), _SEGMENTS) if len(part)]
    means = [[geometric_mean([values[k] for k in part]) for part in parts] for values in (precisions, sizes)]
    return table(*means)


def _shared(kernels: Cogeneration, n: int, *, done: int, own: float) -> Rows:
    """Of n rows that share their step size: how many temperatures are done, and the size."""
    device = kernels.device
    return {
        "done": torch.full((n,), done, device=device),
        "own": torch.full((n,), own, dtype=torch.float64, device=device),
    }


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
    numbers = _first(how, math.prod(kernels.decoder.latent_shape)), TARGET, how.kappa
    own, average, kappa = torch.tensor(numbers, dtype=torch.float64)
    for move in range(last + 1):
        rows = {**rows, **_shared(kernels, n, done=move // how.moves, own=float(own))}
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
