"""The toy of the cGML paper: y = +-4 (x, x^2, x^3), each sign for half of the points. A sign is a mode.

The answer 0 has the error 1136/315 = 3.606, and no deterministic network of least squares has a smaller one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.mode_tasks import Task, asked
from models.core.loop import Rows
from models.core.noise import Noise, streams
from models.data.images import ImageData, to_uint8
from models.metrics.modes import nearest, shares
from models.samplers.predicted import MOMENTA, pushes, walk_rows, walking
from models.systems.cgml.networks import Encoded
from models.systems.cgml.trainer import CgmlTrainer
from models.systems.cgml.variation import variance, varying

SCALE = 4.0
"""The toy's points are a fourth as large where they are pictures of one pixel, whose numbers lie in [-1, 1]."""
_KEY, _STEPS, _PLACES = 5, 20, 64
_NEAR = 0.1
"""Of the bound of latents: what is near an attractor, and how far from a latent uncertainty looks."""


def curve(x: Tensor) -> Tensor:
    """The positive mode of the toy, ``[n, 3]``."""
    return SCALE * torch.stack([x, x**2, x**3], 1)


def zero_error() -> float:
    """The mean squared error of the answer 0, over x and the three dimensions."""
    return SCALE**2 / 3 * (1 / 3 + 1 / 5 + 1 / 7)


def majority_error(p: float) -> float:
    """The error to the nearest mode of the best deterministic answer where a share p has one sign."""
    return zero_error() * (2 * min(p, 1 - p)) ** 2


def condition(x: Tensor) -> Tensor:
    """x as the networks are given it, ``[n, 1, 1, 1]``."""
    return (2 * x - 1)[:, None, None, None]


def toy(points: int = 20_000, largest: float = 1.0) -> Task:
    """The curves as pairs of pictures of one pixel, for x up to the largest."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, int(255 * largest) + 1, (points,), generator=generator)
    sign = torch.where(torch.rand(points, 1, generator=generator) < 0.5, 1.0, -1.0)
    y = to_uint8(sign * curve(levels / 255) / SCALE)[:, :, None, None]
    return Task("toy", ImageData(y, None, (), "toy", levels.to(torch.uint8)[:, None, None, None]), judge)


def judge(trainer: CgmlTrainer, n: int) -> dict[str, Any]:
    """Mean squared errors to the nearest mode, of each momentum and of random latents, and the shares of both modes."""
    x = torch.linspace(0, 1, 51)
    ends = {name: _errors(trainer, x, n, _STEPS, name) for name in MOMENTA}
    found, mode = ends[MOMENTA[0]].min(0)
    each = {f"error_{name}": float(nearest(errors)[0].mean()) for name, errors in ends.items() if name != MOMENTA[0]}
    start = float(nearest(_errors(trainer, x, n, 0, "off"))[0].mean())
    # Near x = 0 both modes are one.
    return {"error": float(found.mean()), "shares": shares(mode[25:], 2), **each, "error_at_start": start}


def _errors(trainer: CgmlTrainer, x: Tensor, n: int, steps: int, momentum: str) -> Tensor:
    """Of each answer to each mode, ``[2, len(x), n]``."""
    made = SCALE * trainer.answers(asked(condition(x)), n, _KEY, steps=steps, momentum=momentum)[..., 0, 0]
    return torch.stack([(made - s * curve(x)[:, None]).square().mean(2) for s in (1, -1)])


# What the predictor and the generator know of their doubts


def _coded(trainer: CgmlTrainer, x: Tensor, n: int) -> tuple[Encoded, Tensor]:
    """The codes of conditions, n times each, and the predictor's half of them."""
    with torch.no_grad():
        code = trainer.fit.coder.served.encode(condition(x).repeat_interleave(n, 0))
        return code, trainer.fit.predictor.served.given(code.h)


def _made(trainer: CgmlTrainer, code: Encoded, rows: Rows) -> Tensor:
    return trainer.fit.coder.served.make(code.h, rows["z"], code.skips)


def _walked(trainer: CgmlTrainer, z: Tensor, a: Tensor, steps: int) -> Tensor:
    predictor, keys = trainer.fit.predictor.served, streams(range(len(z)), 0)
    step = walking(lambda rows: predictor.moves(rows["z"], rows["a"]), trainer.fit.domain)
    rows = {**walk_rows(z, alpha=1.0, pushed=pushes("push_settle", steps)), "a": a}
    for t in range(steps):
        at = torch.full((len(z),), t)
        rows = step(rows, at, Noise.at(keys, at))
    return rows["z"]


def lengths(trainer: CgmlTrainer) -> dict[str, float]:
    """The mean expected length of steps near to where rows come to rest, and elsewhere (Fig. 3d of the paper)."""
    x, bound, n = torch.linspace(0.25, 1, 16), trainer.fit.domain.scale, 201
    z = torch.linspace(-bound, bound, n).repeat(len(x))[:, None]
    _, a = _coded(trainer, x, n)
    ends = _walked(trainer, z, a, 10 * _STEPS).reshape(len(x), n)
    with torch.no_grad():
        rho = trainer.fit.predictor.served.moves(z, a)[1].reshape(len(x), n)
    gap = (z.reshape(len(x), n, 1) - ends[:, None]).abs().amin(2)
    near = gap <= _NEAR * bound
    return {"length_near": float(rho[near].mean()), "length_elsewhere": float(rho[~near].mean())}


def doubts(trainer: CgmlTrainer) -> dict[str, float]:
    """The mean uncertainty of answers for x in [0, 0.5] and in [1, 1.5] (Fig. 22)."""
    found = {}
    for name, low in (("uncertainty_known", 0.0), ("uncertainty_beyond", 1.0)):
        x, n = torch.linspace(low, low + 0.5, 26), 16
        code, a = _coded(trainer, x, n)
        keys = streams(range(len(a)), 0)
        start = trainer.fit.domain.start(Noise.at(keys, torch.full((len(a),), 7)), 1)
        around = varying(partial(_made, trainer, code), trainer.fit.domain)
        blank = torch.zeros(len(a), 3, 1, 1)
        delta = torch.full((len(a), 1), _NEAR * trainer.fit.domain.scale)
        rows = {"z": _walked(trainer, start, a, _STEPS), "delta": delta, "mean": blank, "spread": blank}
        for t in range(_PLACES):
            at = torch.full((len(a),), t)
            rows = around(rows, at, Noise.at(keys, at))
        found[name] = float(variance(rows["spread"], _PLACES).mean()) * SCALE**2
    return found
