"""A resolved request as the job that its model's task takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from models.core import jobs
from models.core.jobs import Job
from pictures.budget import ByteBudget
from service.contract.cards import ModelCard
from service.contract.jobs import Denoise, Inputs, JobRequest, Reconstruct, Restyle, numbers, tasks
from service.contract.jobs.labels import Label
from service.pictures.blobs import Blobs
from surfaces.placing import Placing
from workers.jobs.reading import Reading, Restoration, load, restoration

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """What a task and its results need.

    Args:
        job: what the task is given.
        animate: whether images that are the frames of one sequence are also given as an animation.
        restore: brings a result back to the size of the request's picture; None if the request does not ask for it.
        placing: where the request's surface lies; None without one.
    """

    job: Job
    animate: bool = False
    restore: Restoration | None = None
    placing: Placing | None = None


def prepare(inputs: Inputs, request: JobRequest, card: ModelCard, blobs: Blobs, budget: ByteBudget) -> Prepared:
    """Read the pictures of a job, and build the job of its task.

    Args:
        inputs: where its pictures are.
        request: what is asked for, resolved.
        card: of its model.
        blobs: where pictures come from.
        budget: memory for results that are brought back to size.

    Raises:
        NotFoundError: a picture is not stored any more.
    """
    reading = load(inputs, request, card, blobs)
    return Prepared(
        build(request, reading),
        getattr(request, "animate", False),
        restoration(inputs, request, card, blobs, budget),
        inputs.placing,
    )


def build(request: JobRequest, given: Reading) -> Job:
    """The job of a resolved request."""
    return BUILDERS[request.task](request, given)


class _Shared(TypedDict):
    n: int
    seed: int
    steps: int
    step_size: float
    noise: float
    refine: bool
    options: Mapping[str, Any]


def _shared(request: JobRequest) -> _Shared:
    """The fields that all jobs have."""
    return {
        "n": _concrete(request.n),
        "seed": _concrete(request.seed),
        "steps": _concrete(request.steps),
        "step_size": _concrete(request.step_size),
        "noise": _concrete(request.noise),
        "refine": _concrete(request.refine),
        "options": request.options,
    }


def _concrete(value: T | None) -> T:
    assert value is not None, "the request is not resolved"
    return value


def _weights(label: Label | None) -> Mapping[str, float] | None:
    """A label of a resolved request."""
    assert label is None or isinstance(label, dict), "the request is not resolved"
    return label


def _mixes(labels: list[Label] | None) -> list[Mapping[str, float]] | None:
    return None if labels is None else [_concrete(_weights(label)) for label in labels]


def _generate(request: tasks.Generate, given: Reading) -> jobs.GenerateJob:
    return jobs.GenerateJob(**_shared(request), label=_weights(request.label))


def _translate(request: tasks.Translate, given: Reading) -> jobs.TranslateJob:
    label = _weights(request.label)
    return jobs.TranslateJob(**_shared(request), image=given.picture("image"), label=label, animate=request.animate)


def _inpaint(request: tasks.Inpaint, given: Reading) -> jobs.InpaintJob:
    return jobs.InpaintJob(**_shared(request), image=given.picture("image"), mask=_concrete(given.mask()))


def _denoise(request: Denoise, given: Reading) -> jobs.DenoiseJob:
    return jobs.DenoiseJob(**_shared(request), image=given.optional("image"), surface=given.surface)


def _upscale(request: tasks.Upscale, given: Reading) -> jobs.UpscaleJob:
    return jobs.UpscaleJob(**_shared(request), image=given.picture("image"))


def _colorize(request: tasks.Colorize, given: Reading) -> jobs.ColorizeJob:
    return jobs.ColorizeJob(**_shared(request), image=given.picture("image"))


def _interpolate(request: tasks.Interpolate, given: Reading) -> jobs.InterpolateJob:
    mix = request.mix or "pixels"
    return jobs.InterpolateJob(
        **_shared(request),
        images=given.several("images"),
        labels=_mixes(request.labels),
        seeds=request.seeds,
        mix=mix,
    )


def _restyle(request: Restyle, given: Reading) -> jobs.RestyleJob:
    return jobs.RestyleJob(
        **_shared(request),
        image=given.picture("image"),
        labels=_concrete(_mixes(request.labels)),
        label=_weights(request.label),
    )


def _reconstruct(request: Reconstruct, given: Reading) -> jobs.ReconstructJob:
    return jobs.ReconstructJob(
        **_shared(request),
        image=given.picture("image"),
        label=_weights(request.label),
    )


def _score(request: numbers.Score, given: Reading) -> jobs.ScoreJob:
    return jobs.ScoreJob(
        **_shared(request),
        image=given.picture("image"),
        label=_weights(request.label),
        condition=given.optional("condition"),
        mask=given.mask(),
    )


def _embed(request: numbers.Embed, given: Reading) -> jobs.EmbedJob:
    return jobs.EmbedJob(**_shared(request), image=given.picture("image"))


BUILDERS: Mapping[str, Callable[[Any, Reading], Job]] = {
    "generate": _generate,
    "translate": _translate,
    "inpaint": _inpaint,
    "denoise": _denoise,
    "upscale": _upscale,
    "colorize": _colorize,
    "interpolate": _interpolate,
    "restyle": _restyle,
    "reconstruct": _reconstruct,
    "score": _score,
    "embed": _embed,
}
"""From a request and its pictures to a job, by task."""
