r"""Bounds on the log-likelihood of held-out images under an energy model.

The density is :math:`p(x) = e^{f(x) / \tau} / Z` on a box. Annealed importance sampling between the uniform density and
p brackets log Z (CF-EBM, Zhao et al. 2021, appendix A.7; Burda et al. 2015, Accurate and conservative estimates of MRF
log-likelihood using reverse annealing): forward below, reverse above. A low log Z is a high likelihood, so the forward
direction bounds the log-likelihood from above, and the reverse one from below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from torch import Tensor

from models.core.loop import RowsError, Task, run
from models.core.noise import mix, row_seeds
from models.evaluation.ais import Annealed, AnnealedSampler, joined, linear
from models.samplers.spaces import Box

Value: TypeAlias = Callable[[Tensor], Tensor]
"""f: images ``[n, C, H, W]`` -> log densities up to a constant, ``[n]``: differentiable, each image by itself."""

R = TypeVar("R")

_CHUNK = 64  # chains at a time
_PILOTS = 16


class LikelihoodError(ValueError):
    """The likelihood can't be measured; the message says why, and what to do."""


@dataclass(frozen=True)
class Settings:
    """How carefully log Z is measured.

    Args:
        temperatures: K.
        leapfrogs: L, gradients a move; one move at each temperature.
        chains: in each direction.
        tau: the temperature of the model's density, which divides f.
        seed: of all noise.

    Raises:
        LikelihoodError: a number is out of range.
    """

    temperatures: int = 1000
    leapfrogs: int = 10
    chains: int = 100
    tau: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.temperatures, self.leapfrogs) < 1:
            raise LikelihoodError("temperatures and leapfrogs must be at least 1")
        if self.chains < 2:
            raise LikelihoodError("a standard error needs at least 2 chains")
        if not 0 < self.tau < math.inf:
            raise LikelihoodError(f"tau must be positive, got {self.tau}")


@dataclass(frozen=True)
class Mean:
    """A mean and its standard error."""

    value: float
    se: float

    @classmethod
    def of(cls, numbers: Tensor) -> Mean:
        """Of independent numbers ``[n]``."""
        numbers = numbers.double()
        return cls(numbers.mean().item(), numbers.std().item() / math.sqrt(len(numbers)))

    def plus(self, shift: float) -> Mean:
        """Shifted by a number that is known exactly."""
        return Mean(self.value + shift, self.se)

    def minus(self, other: Mean) -> Mean:
        """The difference of independent means."""
        return Mean(self.value - other.value, math.hypot(self.se, other.se))


def log_mean_exp(log_weights: Tensor) -> float:
    """log of the mean weight."""
    return (log_weights.double().logsumexp(0) - math.log(len(log_weights))).item()


def effective_size(log_weights: Tensor) -> float:
    """(sum W)^2 / sum W^2, between 1 and the number of weights."""
    w = log_weights.double()
    return (2 * w.logsumexp(0) - (2 * w).logsumexp(0)).exp().item()


@dataclass(frozen=True, eq=False)
class LogZ:
    """log Z of exp(f / tau) on a box, from both directions of an annealing.

    Args:
        log_volume: log Z_0 = D log(high - low), of the uniform density.
    """

    log_volume: float
    forward: Annealed
    reverse: Annealed

    @property
    def lower(self) -> Mean:
        """E[log w] + log Z_0 <= log Z."""
        return Mean.of(self.forward.log_weights + self.log_volume)

    @property
    def estimate(self) -> float:
        """log E[w] + log Z_0: right with many chains, on average too low with few."""
        return log_mean_exp(self.forward.log_weights) + self.log_volume

    @property
    def upper(self) -> Mean:
        """E[log w] + log Z_0 >= log Z, if the reverse chains started at exact samples."""
        return Mean.of(self.reverse.log_weights + self.log_volume)

    def bound(self, value: Mean) -> tuple[Mean, Mean]:
        """The lower and the upper log-likelihood in nats, given the mean of f / tau over images."""
        return value.minus(self.upper), value.minus(self.lower)


def measure_log_z(
    f: Value, box: Box, shape: Sequence[int], settings: Settings, progress: Callable[[str], None] = lambda message: None
) -> LogZ:
    """A pilot for the step sizes, then chains forward, and back from where they ended.

    Args:
        f: see :data:`Value`.
        box: where images lie.
        shape: of one image, ``(C, H, W)``.
        settings: see :class:`Settings`.
        progress: is told what begins.

    Raises:
        LikelihoodError: f is not finite on the box.
    """
    longest = (box.high - box.low) / 4
    sampler = AnnealedSampler(lambda rows: f(rows["x"]) / settings.tau, box, shape, longest)
    pilots, ahead, back = (mix(settings.seed, k) for k in range(3))
    draft = linear(settings.temperatures, longest, settings.leapfrogs)
    forward, reverse = [], []
    try:
        ladder = run(_announced(sampler.pilot(draft, row_seeds(pilots, _PILOTS)), progress))
        for seeds in _chunks(row_seeds(ahead, settings.chains)):
            forward.append(run(_announced(sampler.forward(ladder, seeds), progress)))
        for part, seeds in zip(forward, _chunks(row_seeds(back, settings.chains)), strict=True):
            reverse.append(run(_announced(sampler.reverse(ladder, part.ends, seeds), progress)))
    except RowsError:
        raise LikelihoodError(
            "f is not finite somewhere on the box; give a greater tau, or train the model on"
        ) from None
    return LogZ(box.log_volume(math.prod(shape)), joined(forward), joined(reverse))


def _announced(task: Task[R], progress: Callable[[str], None]) -> Task[R]:
    """The same task, which tells the name of each loop of more than one step before it runs."""
    loop = next(task)
    while True:
        if loop.steps > 1:
            progress(loop.name)
        rows = yield loop
        try:
            loop = task.send(rows)
        except StopIteration as stop:
            result: R = stop.value
            return result


def _chunks(seeds: list[int]) -> list[list[int]]:
    return [seeds[k : k + _CHUNK] for k in range(0, len(seeds), _CHUNK)]
