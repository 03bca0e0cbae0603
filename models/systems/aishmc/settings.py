"""How latents of a decoder are looked for, and the rows that this makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from models.core.loop import Rows
from models.samplers.cogeneration import Cogeneration
from models.samplers.observation import Observation
from models.samplers.stepsizes import KNOTS, TARGET

SolverName: TypeAlias = Literal["ais_hmc", "gd_single", "gd_multi"]
Scope: TypeAlias = Literal["table", "row", "job"]


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
    first = first_size(how, dimensions)
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


def first_size(how: Settings, dimensions: int) -> float:
    return how.first if how.first is not None else 0.05 if dimensions >= 64 else 0.01


def sharing(kernels: Cogeneration, n: int, *, done: int, own: float) -> Rows:
    """Of n rows that share their step size: how many temperatures are done, and the size."""
    device = kernels.device
    return {
        "done": torch.full((n,), done, device=device),
        "own": torch.full((n,), own, dtype=torch.float64, device=device),
    }
