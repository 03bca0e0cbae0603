"""What the tasks share: the numbers of a chain, and the chain through several sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.loop import Kernel, Loop, Rows, Task
from models.systems.cfebm.config import Config

FREE = 50.0
"""Chains are clamped only at the end of a size, and trained ones reach 5 on the way; beyond this they have diverged."""


class Sampled(Protocol):
    """What a chain is run for: a model, or a network in training."""

    @property
    def config(self) -> Config:
        """The sizes and the chain."""

    @property
    def device(self) -> torch.device:
        """Where the rows live."""


def chain_numbers(model: Sampled, n: int, s0: float, step_size: float, done: int, total: int) -> Rows:
    """The numbers of n rows of a chain of ``total`` steps, of which ``done`` are over; see ``kernels.shortrun``.

    ``step_size`` multiplies the trained one; ``s0`` is the noise at the start of the chain, a standard deviation, and
    that of the end is never greater: a chain that starts without noise has none, and lacks the names.
    """
    sampler = model.config.sampler
    one = torch.ones(n, 1, 1, 1, device=model.device)
    noise = {"s0": s0, "s1": min(sampler.s1, s0)} if s0 else {}
    numbers = {"lr": step_size * sampler.lr, **noise, "k0": done, "total": max(1, total)}
    return {name: one * number for name, number in numbers.items()}


def split_steps(steps: int, parts: int) -> list[int]:
    """Steps of each size, coarse first: equal shares, what is left over to the finest ones."""
    share, left = divmod(steps, parts)
    return [share + (part >= parts - left) for part in range(parts)]


@dataclass(frozen=True)
class Segment:
    """The part of a chain that runs at one size under one energy.

    Args:
        step: a step of the short run under that energy.
        size: pixels of the side.
        steps: of this segment.
        done: steps before it, over which the noise has been annealed already.
        total: steps over which the noise is annealed.
    """

    step: Kernel
    size: int
    steps: int
    done: int
    total: int


def annealed(parts: Sequence[tuple[Kernel, int]], steps: Sequence[int], total: int | None = None) -> list[Segment]:
    """Segments of one chain: its noise falls over all of them, not anew in each.

    Args:
        parts: the step and the size of each.
        steps: of each.
        total: of the whole chain, where there is more of it to come.
    """
    done = [sum(steps[:k]) for k in range(len(steps))]
    length = max(1, sum(steps) if total is None else total)
    return [Segment(*part, n, before, length) for part, n, before in zip(parts, steps, done, strict=True)]


def resized(rows: Rows, segment: Segment) -> Rows:
    """The images at the size of a segment, each pixel repeated."""
    if rows["y"].shape[-1] == segment.size:
        return rows
    return {**rows, "y": F.interpolate(rows["y"], size=(segment.size, segment.size))}


def walk(
    rows: Rows,
    segments: Sequence[Segment],
    seeds: Sequence[int],
    *,
    enter: Callable[[Rows, Segment], Rows] = resized,
    joining: Tensor | None = None,
    preview: Callable[[Rows], Tensor] | None = None,
    judge: Kernel | None = None,
    most: float = FREE,
) -> Task[Rows]:
    """The chain from coarse to fine (Algorithm 2 and appendix A.8 of the paper), in training as in serving.

    Images are clamped to [-1, 1] at the end of each segment.

    Args:
        rows: the start at the coarsest size, with the numbers of the chain (:func:`chain_numbers`).
        segments: coarse first.
        seeds: of the rows, those that join included.
        enter: brings rows to the size of a segment.
        joining: images that start in the last segment, as further rows.
        preview: rows -> pictures.
        judge: adds ``f`` to rows of the last segment that are shown.
        most: the largest absolute value of a pixel at the end of a segment, before it is clamped.

    Raises:
        RowsError: the chain has diverged.
    """
    for segment in segments:
        rows = enter(rows, segment)
        if joining is not None and segment is segments[-1]:
            rows = _joined(rows, joining)
        rows = _timed(rows, segment)
        keys, name = seeds[: len(rows["y"])], f"{segment.size} px"
        own = judge if segment is segments[-1] else None
        rows = yield Loop(
            segment.step, rows, segment.steps, keys, name, preview=preview, judge=own, keep=["k0", "y"], bound=most
        )
        rows = {**rows, "y": rows["y"].clamp(-1, 1)}
    return rows


def _timed(rows: Rows, segment: Segment) -> Rows:
    """The rows with their place in the schedule of the noise."""
    zero = rows["k0"] * 0
    return {**rows, "k0": zero + segment.done, "total": zero + segment.total}


def _joined(rows: Rows, images: Tensor) -> Rows:
    """Further rows that start at these images, with the numbers of the others."""
    more = {name: value[:1].expand(len(images), *value.shape[1:]) for name, value in rows.items()} | {"y": images}
    return {name: torch.cat([value, more[name]]) for name, value in rows.items()}


def mixed(coarse: Tensor, noise: Tensor, alpha: float) -> Tensor:
    r"""The start of a single-growth chain: :math:`\sqrt{1 - \alpha^2}\, x + \alpha\, U`; at alpha 1 noise alone."""
    return (1 - alpha**2) ** 0.5 * coarse + alpha * noise


def growing(
    model: Sampled,
    alpha: float,
    start: Tensor,
    keys: Sequence[int],
    corrupted: Tensor | None,
    segments: Sequence[Segment],
) -> Task[Rows]:
    """The chain that is served, while the network grows.

    Args:
        model: what is sampled.
        alpha: how far the stage's size is faded in (appendix A.8).
        start: what rows start from, at the size of the last stage of the whole growth; each segment takes a corner.
        keys: one seed a row.
        corrupted: images from which the last rows start, in the last segment.
        segments: of the chain.

    Raises:
        RowsError: the chain has diverged.
    """
    single = model.config.growth == "single"
    start = start[: len(keys) - (0 if corrupted is None else len(corrupted))]

    def corner(size: int) -> Tensor:
        return start[:, :, :size, :size]

    def enter(rows: Rows, segment: Segment) -> Rows:
        if segment is segments[0] or not single:
            return resized(rows, segment)
        coarse = resized(rows, segment)["y"]
        return {**rows, "y": mixed(coarse, corner(segment.size), alpha).clamp(-1, 1)}

    rows = chain_numbers(model, len(start), model.config.sampler.s0, 1.0, 0, model.config.steps)
    rows["y"] = corner(segments[0].size)
    # Its ends are judged by the guards, which have patience with a network that has just begun.
    return (yield from walk(rows, segments, keys, enter=enter, joining=corrupted, most=math.inf))
