"""The start from which the chain ends at a given image: what reconstruction, inpainting and interpolation share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.core.jobs import Job
from models.core.loop import Loop, Rows, Task
from models.samplers.adjoint import begin, cosine, judged, misfit
from models.systems.coopflow.chain import FREE
from models.systems.coopflow.model import CoopFlow

_PROBED = ["known", "target", "y"]
_EVERY, _LIKE = 20, 0.9
"""Iterations between two looks at whether the adjoint is like the identity, and the least cosine at which it is."""
_FOUND = ["best", "curve", "image", "iteration", "least", "path", "target", "known", "y"]


def descended(model: CoopFlow, job: Job, target: Tensor, known: Tensor, seeds: Sequence[int]) -> Task[Rows]:
    """The best start ``best`` of each row, where the chain from there ends (``image``), and the ``curve`` of the error.

    Each iteration is T steps of the chain and T of its adjoint. All that it decides is in the state of the rows, so a
    task that is resumed needs none of the iterations that it has finished but for which rows were done.

    With the option ``adjoint`` "identity" an iteration is T steps of the chain and one more, as long as the first row's
    gradient is hardly turned by the chain; ``straight`` of the result is the share of iterations that were so.

    Args:
        model: its kernels.
        job: steps T and step size, and the options ``iterations``, ``rate`` and ``decay``.
        target: images ``[n, C, size, size]``.
        known: 1 where they are known, ``[n or 1, 1, size, size]``.
        seeds: of the rows: each starts at another proposal.

    Raises:
        RowsError: a chain has diverged.
    """
    numbers, steps = model.free(len(seeds), job.step_size), job.steps if job.refine else 0
    proposed = yield Loop(model.begin, numbers, steps=1, seeds=seeds, name="propose", keep=["y"])
    iterations, chain = job.options["iterations"], model.config.chain
    rows = begin(
        {**numbers, "y": proposed["y"]},
        target,
        known,
        rate=job.options["rate"],
        decay=job.options["decay"],
        steps=steps,
        iterations=max(iterations, chain.descents),
        room=chain.steps,
    )
    if not steps:  # the chain is the identity
        best = torch.where(rows["known"] > 0, rows["target"], rows["y"])
        return {**rows, "best": best, "image": best, "least": rows["loss"]}
    approximate, taken, done = job.options["adjoint"] == "identity", 0, 0
    for k in range(iterations):
        name, probed = f"iteration {k + 1} of {iterations}", approximate and k % _EVERY == 0
        keep = _PROBED if probed else []
        rows = yield Loop(model.forward, rows, steps, seeds, name=name, preview=model.shown, keep=keep, bound=FREE)
        if probed:
            approximate = yield from _like_identity(model, rows, steps, seeds)
        taken, done = taken + approximate, done + 1
        kernel, length = (model.straight, 1) if approximate else (model.backward, steps)
        rows = yield Loop(kernel, rows, length, seeds, name=f"{name}, back", keep=["done"])
        if bool(rows["done"].all()):
            break
    rows = yield Loop(model.forward, rows, steps, seeds, name="refine", preview=model.shown, keep=_FOUND, bound=FREE)
    return {**rows, **judged(rows), "straight": torch.full((len(seeds),), taken / max(done, 1))}


def _like_identity(model: CoopFlow, rows: Rows, steps: int, seeds: Sequence[int]) -> Task[bool]:
    """Whether the chain hardly turns the gradient of the first row."""
    first = {name: value[:1] for name, value in rows.items()}
    exact = yield Loop(model.backward, first, steps, seeds[:1], name="probe", keep=["lam"])
    return bool(cosine(exact["lam"], misfit(first)) > _LIKE)


def told(rows: Rows) -> list[str]:
    """What a job's record says of a search whose derivatives were not exact."""
    share = float(rows["straight"][0]) if "straight" in rows else 0.0
    if not share:
        return []
    return [f"{share:.0%} of the iterations took the derivative of the chain for the identity: not the paper's search"]


def trace_of(rows: Rows) -> list[list[float]]:
    """The error at the start of each iteration, and that of the best start, for each row."""
    counts = rows["iteration"].tolist()
    curves = [curve[:count].tolist() for curve, count in zip(rows["curve"], counts, strict=True)]
    return [[*curve, least] for curve, least in zip(curves, rows["least"].tolist(), strict=True)]
