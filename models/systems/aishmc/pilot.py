"""Step sizes that a few chains of their own find before others are sampled with them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from models.core.loop import Loop, Rows, Task
from models.core.noise import row_seeds
from models.samplers.cogeneration import Cogeneration
from models.samplers.observation import Observation
from models.samplers.stepsizes import LEAST, MOST, TARGET, geometric_mean, table
from models.systems.aishmc.settings import Settings, sharing, start_rows

PILOTS = 8
"""Chains that find a table of step sizes."""
_TEMPERATURES, _SEGMENTS = 200, 25
_GAIN = 0.3
"""Of a pilot with that many temperatures; a shorter one has to follow faster."""
_FIRST = 0.2
"""Near the prior long steps are right, and a size falls to what it should be faster than it rises."""


def pilot(kernels: Cogeneration, seen: Observation, how: Settings, seed: int, condition: Rows) -> Task[list[float]]:
    r"""A table of step sizes, from what a few chains of their own accept on the way down.

    They share one size. After each move :math:`\log\epsilon` changes by the difference of their mean acceptance from
    the target times a gain. Sizes have to fall by fifty times while b / s grows by a hundred, and the rule of the
    authors' code, which changes a size by at most 5 % a move, lags behind: of its sizes most moves are rejected.
    """
    temperatures = min(how.temperatures, _TEMPERATURES)
    gain = min(1.0, _GAIN * _TEMPERATURES / temperatures)
    short = replace(how, step_sizes="row", first=_FIRST, temperatures=temperatures, moves=1, stretch=1.0)
    seeds = row_seeds(seed, PILOTS)
    rows = start_rows(kernels, seen, short, PILOTS, condition)
    rows = yield Loop(kernels.begin, rows, 1, seeds, name="pilot", keep=[])
    size, precisions, sizes = _FIRST, [], []
    for move in range(temperatures):
        rows = {**rows, **sharing(kernels, PILOTS, done=move, own=size)}
        rows = yield Loop(kernels.step, rows, short.leapfrogs, seeds, name="pilot", keep=["b", "p"])
        precisions.append(float(rows["b"][0]) / short.variance)
        sizes.append(size)
        size = math.exp(math.log(size) + gain * (float(rows["p"].mean()) - TARGET))
        size = min(max(size, LEAST), MOST)
    parts = [part for part in np.array_split(np.arange(temperatures), _SEGMENTS) if len(part)]
    means = [[geometric_mean([values[k] for k in part]) for part in parts] for values in (precisions, sizes)]
    return table(*means)
