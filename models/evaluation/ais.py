"""Annealed importance sampling as tasks: pilot, forward from the reference, reverse from samples of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from models.core.loop import Kernel, Loop, Rows, Task
from models.core.noise import Noise
from models.samplers.annealing import anneal, tune
from models.samplers.hmc import Hmc, TargetValue
from models.samplers.spaces import Space

_SEGMENTS = 20  # an annealing is handed over in so many loops: a path of a thousand temperatures is long
_PILOT_TEMPERATURES, _PILOT_MOVES = 20, 20


@dataclass(frozen=True, eq=False)
class Ladder:
    """The temperatures of an annealing and the moves at each.

    Args:
        b: float64 ``[K + 1]``, increasing from 0 to 1.
        eps: float64 ``[K]``, the step size of the moves at b_1 ... b_K.
        leapfrogs: L, gradients a move.
        moves: at each temperature.

    Raises:
        ValueError: the numbers are not as said above.
    """

    b: Tensor
    eps: Tensor
    leapfrogs: int = 10
    moves: int = 1

    def __post_init__(self) -> None:
        if self.b.dim() != 1 or len(self.b) < 2 or self.b.dtype != torch.float64:
            raise ValueError("temperatures must be float64 [K + 1] with K of at least 1")
        if self.b[0] != 0 or self.b[-1] != 1 or not bool((self.b.diff() > 0).all()):
            raise ValueError("temperatures must increase from 0 to 1")
        if self.eps.shape != (len(self),) or self.eps.dtype != torch.float64 or not bool((self.eps > 0).all()):
            raise ValueError(f"step sizes must be positive, float64 [{len(self)}], one a temperature after the first")
        if min(self.leapfrogs, self.moves) < 1:
            raise ValueError("leapfrogs and moves must be at least 1")

    def __len__(self) -> int:
        return len(self.b) - 1


def linear(temperatures: int, eps: float, leapfrogs: int = 10, moves: int = 1) -> Ladder:
    """b_k = k / K with one step size for all moves."""
    b = torch.arange(temperatures + 1, dtype=torch.float64) / temperatures
    return Ladder(b, torch.full((temperatures,), eps, dtype=torch.float64), leapfrogs, moves)


@dataclass(frozen=True, eq=False)
class Annealed:
    """What an annealing of n rows gives.

    Args:
        log_weights: float64 ``[n]``: log Z of the forward direction, in the reverse one each is of log Z as well.
        ends: ``[n, ...]``, where the chains ended: forward near the target, reverse near the reference.
        acceptance: float64 ``[K]``, mean acceptance probability of the moves at b_1 ... b_K.
        divergent: number of divergent moves.
    """

    log_weights: Tensor
    ends: Tensor
    acceptance: Tensor
    divergent: int


def joined(parts: Sequence[Annealed]) -> Annealed:
    """Annealings of the same ladder as one."""
    sizes = torch.tensor([len(part.log_weights) for part in parts], dtype=torch.float64)
    acceptance = torch.stack([part.acceptance for part in parts], 1) @ (sizes / sizes.sum())
    weights, ends = (torch.cat(tensors) for tensors in zip(*((p.log_weights, p.ends) for p in parts), strict=True))
    return Annealed(weights, ends, acceptance, sum(part.divergent for part in parts))


@final
class AnnealedSampler:
    r"""The kernels for :math:`p_b \propto p_0 e^{b f}`, built once, and the tasks that use them.

    Args:
        value: f of rows; the point is ``rows["x"]``.
        space: p_0.
        shape: of a row's x.
        longest: the greatest step size that the pilot may choose.
        device: where the rows live.
    """

    def __init__(
        self,
        value: TargetValue,
        space: Space,
        shape: Sequence[int],
        longest: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self._space, self._shape, self._longest, self._device = space, tuple(shape), longest, torch.device(device)
        self._draw: Kernel = self._drawn
        self._chain = Hmc(value, space)
        self._tune: Kernel = tune(self._chain.step, longest)
        self._anneal: Kernel = anneal(self._chain.step)

    def _drawn(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t
        return {**rows, "x": self._space.draw(self._shape, noise)}

    def pilot(self, ladder: Ladder, seeds: Sequence[int]) -> Task[Ladder]:
        """The ladder with step sizes that a few chains of their own found for it.

        At up to 20 temperatures, closer together near b = 0 where the target changes most, each chain adapts its step
        size in 20 moves. The geometric mean over the chains is interpolated in b.
        """
        marks = np.unique(np.ceil(len(ladder) * np.linspace(0, 1, _PILOT_TEMPERATURES + 1)[1:] ** 2).astype(int))
        steps = _PILOT_MOVES * ladder.leapfrogs
        rows = yield from self._begin(self._constants(ladder, len(seeds), b=0.0), seeds)
        found = []
        for mark in marks.tolist():
            rows = {**rows, "b": ladder.b[mark].to(self._device).repeat(len(seeds))}
            title = f"pilot: temperature {mark} of {len(ladder)}"
            rows = yield Loop(self._tune, rows, steps, seeds, name=title, keep=["eps"])
            found.append(rows["eps"].log().mean().item())
        b = ladder.b.numpy()
        eps = np.exp(np.interp(b[1:], b[marks], found))
        return replace(ladder, eps=torch.from_numpy(eps))

    def forward(self, ladder: Ladder, seeds: Sequence[int]) -> Task[Annealed]:
        """From samples of p_0 to the target. The mean of the log weights lies below log Z, on average over seeds."""
        rows = yield from self._begin(self._constants(ladder, len(seeds), b=0.0), seeds)
        rows, acceptance = yield from self._along(rows, ladder.b[1:], ladder.eps, ladder, seeds, "forward")
        return Annealed(rows["w"], rows["x"], acceptance, int(rows["divergent"].sum()))

    def reverse(self, ladder: Ladder, starts: Tensor, seeds: Sequence[int]) -> Task[Annealed]:
        """From ``starts`` ``[n, *shape]`` back to p_0.

        If they are exact samples of the target the mean of the log weights lies above log Z, on average over seeds; if
        they are not, it need not.
        """
        rows = {**self._constants(ladder, len(seeds), b=1.0), "x": starts.to(self._device)}
        rows = yield Loop(self._chain.start, rows, 1, seeds, name="start", keep=[])
        path, eps = ladder.b[1:].flip(0), ladder.eps.flip(0)
        rows, acceptance = yield from self._along(rows, path, eps, ladder, seeds, "reverse")
        to_reference = (ladder.b[0] - rows["b"]) * rows["f"]  # the last change, after which no move comes
        return Annealed(-(rows["w"] + to_reference), rows["x"], acceptance.flip(0), int(rows["divergent"].sum()))

    def _begin(self, constants: Rows, seeds: Sequence[int]) -> Task[Rows]:
        rows = yield Loop(self._draw, constants, 1, seeds, name="draw", keep=[])
        return (yield Loop(self._chain.start, rows, 1, seeds, name="start", keep=[]))

    def _along(
        self, rows: Rows, path: Tensor, eps: Tensor, ladder: Ladder, seeds: Sequence[int], name: str
    ) -> Task[tuple[Rows, Tensor]]:
        n, size = len(seeds), -(-len(ladder) // _SEGMENTS)
        tables = {"path": path.expand(n, -1), "steps": eps.expand(n, -1), "acceptance": path.new_zeros(n, len(path))}
        rows = {**rows, **{k: v.to(self._device).contiguous() for k, v in tables.items()}}
        for done in range(0, len(ladder), size):
            here = min(size, len(ladder) - done)
            rows = {**rows, "done": torch.full((n,), done, device=self._device)}
            steps = here * ladder.moves * ladder.leapfrogs
            title = f"{name}: {done + here} of {len(ladder)} temperatures"
            rows = yield Loop(self._anneal, rows, steps, seeds, name=title, keep=[])
        return rows, rows["acceptance"].mean(0).cpu()

    def _constants(self, ladder: Ladder, n: int, b: float) -> Rows:
        """What rows have from the start. An annealing replaces eps by its tables, a pilot begins with it."""
        number = torch.zeros(n, dtype=torch.float64, device=self._device)
        whole = torch.zeros(n, dtype=torch.int64, device=self._device)
        return {
            "b": number + b,
            "eps": number + self._longest,
            "w": number,
            "leapfrogs": whole + ladder.leapfrogs,
            "moves": whole + ladder.moves,
        }
