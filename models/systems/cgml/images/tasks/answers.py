"""What the tasks share: H once for a picture, the predictor's walk for each row, G once at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.core.jobs import Job
from models.core.loop import Loop, Rows, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.samplers.predicted import FRAMES, pushes, walk_rows
from models.systems.cgml.images.model import Cgml
from models.systems.cgml.variation import variance

_DIGITS = 7
"""Of means over pixels, whose last bits depend on where in memory a library begins to add."""
_SCALE = 0.01
"""The variance that is shown as white, where no calibration says."""


def encoded(model: Cgml, c: Tensor, seed: int) -> Task[Rows]:
    """What the rows of a condition share."""
    code = yield Loop(model.encode, {"c": c}, steps=1, seeds=[seed], name="encode", keep=model.shared_names)
    return {name: code[name] for name in model.shared_names}


def answer(
    model: Cgml, job: Job, c: Tensor, composed: Callable[[Tensor], Tensor], *, animate: bool = False
) -> Task[Output]:
    """n answers to a condition.

    ``distances`` are the mean absolute differences of a result from all others, ``kappa`` and ``rho`` how far descents
    agree where a row came to rest, and how long they would be.

    Args:
        c: as H takes it, ``[1, Cc, H, W]``.
        composed: what G made ``[n, C, H, W]`` -> results of the data's size.
        animate: also the way of each row as a film.
    """
    code = yield from encoded(model, c, job.seed)
    seeds, options = row_seeds(job.seed, job.n), job.options
    steps = job.steps if job.refine and not model.config.training.deterministic else 0
    every = _every(options.get("trajectory", 0), steps, animate)
    a = _shared(code, ["a"], job.n)
    rows = yield Loop(model.begin, a, steps=1, seeds=seeds, name="start", keep=["z"])
    start = torch.zeros_like(rows["z"]) if model.config.training.deterministic else rows["z"]
    pushed = pushes(options.get("momentum", "push_settle"), steps)
    state = walk_rows(start, alpha=options.get("alpha", 1.0), pushed=pushed, every=every) | a
    rows = yield Loop(model.walk, state, steps=steps, seeds=seeds, name="move", keep=["z", "way", "kappa", "rho"])
    ends = {name: rows[name] for name in ("z", "way", "kappa", "rho")}
    drawn = _shared(code, model.drawn_from(code), job.n)
    images = composed((yield from _rendered(model, ends["z"], drawn, seeds)))
    frames: dict[str, Tensor] = {}
    for k, t in enumerate(range(every, steps + 1, every) if every else ()):
        frames[f"step_{t}"] = composed((yield from _rendered(model, ends["way"][:, k], drawn, seeds)))
    extras = dict(frames) if options.get("trajectory") else {}
    numbers: dict[str, list[Any]] = {
        "distances": distances(images),
        **({} if not steps else {name: ends[name].tolist() for name in ("kappa", "rho")}),
    }
    if options.get("uncertainty"):
        found = yield from _uncertainty(model, ends["z"], drawn, options, seeds)
        numbers["uncertainty_mean"] = found.double().flatten(1).mean(1).round(decimals=_DIGITS).tolist()
        extras["uncertainty"] = shown_variance(found, model.calibration)
    film = None
    if animate:
        first = composed((yield from _rendered(model, start, drawn, seeds)))
        film = torch.stack([first, *frames.values(), images], 1)
    return Output(images=images, energy=None, seeds=seeds, numbers=numbers, extras=extras, film=film)


def _every(asked: int, steps: int, animate: bool) -> int:
    """The places of the way that are noted, at most 16: as asked, or as many as a film can have."""
    if not (asked or animate):
        return 0
    return max(asked, -(-steps // FRAMES), 1)


def _shared(code: Rows, names: Any, n: int) -> Rows:
    """What is the same in all rows of a condition."""
    return {name: code[name].expand(n, *code[name].shape[1:]).clone() for name in names}


def _rendered(model: Cgml, z: Tensor, drawn: Rows, seeds: list[int]) -> Task[Tensor]:
    """What G makes of latents."""
    rows = yield Loop(model.render, {"z": z, **drawn}, steps=1, seeds=seeds, name="draw", keep=["image"])
    return rows["image"]


def _uncertainty(model: Cgml, z: Tensor, drawn: Rows, options: Mapping[str, Any], seeds: list[int]) -> Task[Tensor]:
    """The variance of images around each result, ``[n, 1, H, W]`` of the data's size."""
    config = model.config
    blank = torch.zeros(len(z), config.channels_out, config.size, config.size, device=z.device)
    state = {"z": z, **drawn, "delta": z.new_full((len(z), 1), options["delta"]), "mean": blank, "spread": blank}
    k = options["uncertainty"]
    rows = yield Loop(model.vary, state, steps=k, seeds=seeds, name="uncertainty", keep=["spread"])
    return model.cropped(variance(rows["spread"], k))


def shown_variance(values: Tensor, calibration: Mapping[str, Any]) -> Tensor:
    """Variances as pictures on the model's own scale, so that they compare across jobs."""
    return (values / calibration.get("uncertainty_scale", _SCALE)).clamp(0, 1) * 2 - 1


def distances(images: Tensor) -> list[list[float]]:
    """The mean absolute difference of each image from every one, in units of the range [-1, 1]."""
    flat = images.flatten(1).double().cpu()
    return (torch.cdist(flat, flat, p=1) / flat.shape[1]).round(decimals=_DIGITS).tolist()
