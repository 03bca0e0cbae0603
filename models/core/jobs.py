"""What a task is given: one class a task, every field concrete.

A job is a request after the card's defaults were filled in and its pictures were read. Pictures are float32
``[C, H, W]`` in [-1, 1] at the model's size, masks float32 ``[1, H, W]`` with 1 = hidden, labels weights by class name
that sum to 1; all of them on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar, final

from torch import Tensor

Label: TypeAlias = Mapping[str, float]
"""A class or a mix of classes: weights by class name."""

T = TypeVar("T")


def needed(value: T | None, field: str) -> T:
    """The value of a field that is optional in the class, but not for this model.

    Raises:
        ValueError: it is absent.
    """
    if value is None:
        raise ValueError(f"this model needs the field {field}")
    return value


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What the jobs of all tasks share.

    Args:
        n: results, at least 1 (for each label, where a task takes several).
        seed: of all noise, 0 to 2^63 - 1.
        steps: of the refinement, at least 0.
        step_size: a multiple of the trained one, at least 0.
        noise: standard deviation of the noise that a step adds, in units of the range [-1, 1], at least 0.
        refine: False for the proposal alone.
        options: what only some methods know, by the names that the card declares.
    """

    n: int
    seed: int
    steps: int
    step_size: float
    noise: float
    refine: bool
    options: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class GenerateJob(Job):
    """``generate``: n images of a label; None for a model without classes."""

    label: Label | None = None


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TranslateJob(Job):
    """``translate``: n answers to an image.

    Args:
        image: the condition ``[Cc, H, W]``, or the source image.
        label: what to make of it, for a model with classes.
        animate: also give the trajectory of each row.
    """

    image: Tensor
    label: Label | None = None
    animate: bool = False


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class InpaintJob(Job):
    """``inpaint``: n completions of the hidden pixels."""

    image: Tensor
    mask: Tensor


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class DenoiseJob(Job):
    """``denoise``: what is noisy, cleaned; of an image ``steps`` is the strength.

    Args:
        image: for a model of pictures.
        surface: for a model of surfaces: the coefficients of a radial function of mean radius 1, float32 ``[L^2]``; NaN
            where they are unknown.
    """

    image: Tensor | None = None
    surface: Tensor | None = None


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class UpscaleJob(Job):
    """``upscale``: a small picture, n times enlarged.

    Args:
        image: ``[C, H / factor, W / factor]``, with the factor of the options.
    """

    image: Tensor


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ColorizeJob(Job):
    """``colorize``: n colourings of a picture, of the same lightness.

    Args:
        image: the lightness of each pixel ``[1, H, W]``.
    """

    image: Tensor


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class InterpolateJob(Job):
    """``interpolate``: n frames between two conditions.

    Args:
        images: two condition images ``[Cc, H, W]``, for a model that makes images from images; or two images, for a
            model that finds their latents.
        seeds: the seeds of two images, for a model that goes from latent to latent.
        labels: two labels, for a model with classes.
        mix: what the solver sees between two images: their mean ``pixels``, or the mean ``energy`` under both.
    """

    images: Sequence[Tensor] | None = None
    labels: Sequence[Label] | None = None
    seeds: Sequence[int] | None = None
    mix: Literal["pixels", "energy"] = "pixels"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RestyleJob(Job):
    """``restyle``: the image drawn in each of ``labels``, n times each.

    Args:
        image: the image whose style is taken.
        labels: what it is drawn in, at least one.
        label: that of the image; None: it is inferred.
    """

    image: Tensor
    labels: Sequence[Label]
    label: Label | None = None


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ReconstructJob(Job):
    """``reconstruct``: the image drawn again from n latents that are inferred from it; see :class:`RestyleJob`."""

    image: Tensor
    label: Label | None = None


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreJob(Job):
    """``score``: an image under what the model is conditioned on; ``n`` is 1.

    Args:
        image: what is judged.
        label: for a model with classes.
        condition: ``[Cc, H, W]``, for a model that makes images from images.
        mask: the pixels that were filled in, for a model that fills in; None: those of its training.
    """

    image: Tensor
    label: Label | None = None
    condition: Tensor | None = None
    mask: Tensor | None = None


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class EmbedJob(Job):
    """``embed``: a picture as a vector; ``n`` is 1.

    Args:
        image: as the model takes its conditions, or an image such as it makes.
    """

    image: Tensor


JOBS: dict[str, type[Job]] = {
    "generate": GenerateJob,
    "translate": TranslateJob,
    "inpaint": InpaintJob,
    "denoise": DenoiseJob,
    "upscale": UpscaleJob,
    "colorize": ColorizeJob,
    "interpolate": InterpolateJob,
    "restyle": RestyleJob,
    "reconstruct": ReconstructJob,
    "score": ScoreJob,
    "embed": EmbedJob,
}
"""The class of each task's jobs."""
