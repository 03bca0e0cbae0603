"""What made an image: a request that makes it again, written into the image's file."""

from __future__ import annotations

import json
from typing import Any

from service.contract.jobs.request import JobRequest

RECIPE = "coopserve"
"""The keyword of the recipe among the texts of a PNG file."""

_ON_THE_WAY = frozenset({"preview_every", "priority", "max_queue_seconds", "webhook", "output_format", "animate"})
"""What changes how a job is queued, shown or sent, and no pixel."""
_OF_THE_REFINEMENT = frozenset({"refine", "steps", "step_size", "noise"})


def recipe_of(request: JobRequest, seed: int, n: int = 1) -> dict[str, Any]:
    """A request that makes an image of a resolved request again, with its ``task``.

    It holds nothing that has no effect on the image, so equal images of equal requests have equal files, whatever they
    were made beside.

    Args:
        request: the resolved request.
        seed: of the image, or of the job for all of its images.
        n: how many images.
    """
    params = {name: value for name, value in request.model_dump(mode="json").items() if value is not None}
    plain = {name: value for name, value in params.items() if name not in _ON_THE_WAY}
    if not request.refine or not request.steps:  # the proposal, however it was asked for
        plain = {name: value for name, value in plain.items() if name not in _OF_THE_REFINEMENT} | {"steps": 0}
    alone = {} if request.sequence else {"n": n, "seed": seed}
    return {"task": request.task, **plain, **alone}


def recipe_text(request: JobRequest, seed: int, n: int = 1) -> dict[str, str]:
    """The same as a text of a PNG file, by its keyword."""
    return {RECIPE: json.dumps(recipe_of(request, seed, n), sort_keys=True, separators=(",", ":"))}
