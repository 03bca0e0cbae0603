"""One class a task: its own fields, its words for the API's page, and how its fields become concrete.

The tasks that infer the latent vector of a picture are in ``latents.py``, those that give numbers in ``numbers.py``,
and ``denoise`` is in ``denoise.py``.

To add a task, write its class here with a docstring, an example and :meth:`JobRequest.settle`, and enter it in
:data:`TASKS`; the route, its page in the API reference, the queue message and the reading of its pictures follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from service.contract.cards import ModelCard
from service.contract.errors import invalid
from service.contract.jobs.denoise import Denoise
from service.contract.jobs.fitted import FittedRequest, RestorableRequest
from service.contract.jobs.labels import CHOSEN, LABEL_FORMS, Label, classes_of, mix_of, mixes_of
from service.contract.jobs.latents import Reconstruct, Restyle
from service.contract.jobs.numbers import Embed, Score
from service.contract.jobs.request import PICTURE_FORMS, JobRequest, PictureRef, Role


class Generate(JobRequest):
    """Make new images with a model; where it has classes, of one of them or of a mix.

    An initializer proposes each image in one pass, if the model has one, and `steps` steps of Langevin dynamics under
    the model's energy refine it. A model without an initializer starts from noise.
    """

    task: ClassVar[str] = "generate"
    example: ClassVar[dict[str, Any]] = {"model": "fashion-ccoopnets", "label": "Sneaker", "n": 4, "seed": 7}

    label: Label | None = Field(
        None,
        description=f"The class: {LABEL_FORMS}. Absent: the seed chooses a class. Models without classes take none.",
        examples=["Sneaker"],
    )

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """The label as weights by class name, in the card's order; None for a model without classes."""
        if self.label is not None:
            return {"label": mix_of(self.label, classes_of(card, "label"))}
        return {"label": {card.classes[seed % len(card.classes)]: 1.0} if card.classes else None}


class Translate(RestorableRequest):
    """Turn an image into another kind of image, such as a line drawing into a coloured one.

    Gives `n` different results for the one picture: the initializer proposes each by its own noise, and the solver
    refines it.
    """

    task: ClassVar[str] = "translate"
    example: ClassVar[dict[str, Any]] = {
        "model": "fluent-ccoopnets",
        "image": "sample-face-outline",
        "n": 4,
        "seed": 7,
    }
    pictures: ClassVar[Mapping[str, Role]] = {"image": Role.CONDITION}

    image: PictureRef = Field(description=f"The picture to translate. {PICTURE_FORMS}")
    label: Label | None = Field(
        None,
        description="The kind of image to make, for a model that knows several: its name or index. "
        "Models without classes take none.",
        json_schema_extra=CHOSEN,
    )
    animate: bool = Field(False, description="Also give the way from the start to the result as an animated PNG.")

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """The label as weights by class name; needed where the model has classes."""
        if card.classes is None and self.label is None:
            return {}
        if self.label is None:
            choices = ", ".join(card.classes or [])
            raise invalid("label", f"{card.ref} makes several kinds of image; choose one of: {choices}")
        return {"label": mix_of(self.label, classes_of(card, "label"))}


class Inpaint(RestorableRequest):
    """Fill in the hidden part of an image, in `n` different ways.

    Hidden is what is white in `mask`; without a mask, what is transparent in the image. All other pixels come back as
    they were. Any pixels may be hidden: one, all or none.
    """

    task: ClassVar[str] = "inpaint"
    example: ClassVar[dict[str, Any]] = {
        "model": "noto-ccoopnets",
        "image": "sample-face-with-hole",
        "n": 4,
        "seed": 7,
    }
    pictures: ClassVar[Mapping[str, Role]] = {"image": Role.IMAGE, "mask": Role.MASK}

    image: PictureRef = Field(description=f"The picture. {PICTURE_FORMS}")
    mask: PictureRef | None = Field(
        None,
        description="A picture of the same size: white (128 to 255) = fill in, black = keep. Where its transparency "
        "varies, that tells: white strokes on a transparent canvas are filled in; in anything else, such as a copy of "
        "the picture with an erased hole, what is transparent. Absent: the image's own transparency is the mask, "
        f"transparent (alpha below 128) = fill in. {PICTURE_FORMS}",
    )

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """Nothing of its own."""
        return {}


class Upscale(JobRequest):
    """Enlarge a small picture, in `n` different ways.

    The model draws images of its own size whose averages over squares of `options.factor` pixels a side are the pixels
    of the picture. So the picture has the model's size divided by that factor, and is not scaled before.
    """

    task: ClassVar[str] = "upscale"
    example: ClassVar[dict[str, Any]] = {
        "model": "fashion-pgan",
        "image": "sample-small-shirt",
        "options": {"factor": 2, "temperatures": 20},
        "seed": 7,
    }
    pictures: ClassVar[Mapping[str, Role]] = {"image": Role.SMALL}

    image: PictureRef = Field(description=f"The small picture. {PICTURE_FORMS}")

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """Nothing of its own, if the factor divides the model's size."""
        factor = card.tasks[self.task].settings(self.options, card.ref)["factor"]
        if card.image.width % factor or card.image.height % factor:
            size = f"{card.image.width}x{card.image.height}"
            raise invalid("options.factor", f"{card.ref} makes {size} pixels, which {factor} does not divide")
        return {}


class Colorize(RestorableRequest):
    """Colour a grey picture, in `n` different ways.

    Of the picture that is sent only the lightness is looked at, so a coloured one is coloured anew. Each pixel of a
    result has the lightness that it had before, with `restore` also at the picture's own size.
    """

    task: ClassVar[str] = "colorize"
    example: ClassVar[dict[str, Any]] = {
        "model": "emoji-pgan",
        "image": "sample-grey-face",
        "options": {"temperatures": 20},
        "n": 2,
        "seed": 7,
    }
    pictures: ClassVar[Mapping[str, Role]] = {"image": Role.GREY}
    keeps_lightness: ClassVar[bool] = True

    image: PictureRef = Field(description=f"The picture. {PICTURE_FORMS}")

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """Nothing of its own."""
        return {}


class Interpolate(FittedRequest):
    """Go from one condition to another in `n` frames, the first and the last of which are the ends.

    A model that makes images from images takes `images`, one with classes takes `labels`, one that goes from latent
    vector to latent vector takes `images` or `seeds`. All frames share their noise, so they change with the condition
    alone.
    """

    task: ClassVar[str] = "interpolate"
    example: ClassVar[dict[str, Any]] = {
        "model": "fashion-ccoopnets",
        "labels": ["T-shirt/top", "Dress"],
        "n": 8,
        "seed": 7,
        "animate": True,
    }
    pictures: ClassVar[Mapping[str, Role]] = {"images": Role.CONDITION}
    sequence: ClassVar[bool] = True

    n: int | None = Field(None, ge=2, le=4096, description="Number of frames, both ends included.", examples=[8])
    images: Annotated[list[PictureRef], Field(min_length=2, max_length=2)] | None = Field(
        None, description=f"The two pictures. {PICTURE_FORMS}"
    )
    labels: Annotated[list[Label], Field(min_length=2, max_length=2)] | None = Field(
        None, description=f"The two classes, each {LABEL_FORMS}.", examples=[["T-shirt/top", "Dress"]]
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=2, max_length=2)] | None = Field(
        None,
        description="The seeds of two images that `generate` makes, for a model that goes from latent to latent.",
        examples=[[7, 8]],
    )
    animate: bool = Field(False, description="Also give all frames as one animated PNG, in `extras` of the first.")
    mix: Literal["pixels", "energy"] | None = Field(
        None,
        description="What the solver sees between two pictures: their mixed `pixels` (the default), or the mixed "
        "`energy` of both, which takes twice the time. Models with classes take none.",
    )

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """The labels as weights by class name, for a model with classes; the mix, for one with condition images."""
        if card.condition is None and card.classes is None:
            return self._between_latents(card)
        if self.seeds is not None:
            raise invalid("seeds", f"{card.ref} has no latents to go between; leave seeds out")
        if card.condition is not None:
            if self.images is None or self.labels is not None:
                raise invalid("images", f"{card.ref} goes from image to image: send two `images` and no `labels`")
            return {"mix": self.mix or "pixels"}
        if self.labels is None or self.images is not None:
            raise invalid("labels", f"{card.ref} goes from class to class: send two `labels` and no `images`")
        if self.mix is not None:
            raise invalid("mix", f"{card.ref} has classes, whose labels are mixed; leave mix out")
        return {"labels": mixes_of(self.labels, classes_of(card, "labels"))}

    def _between_latents(self, card: ModelCard) -> dict[str, Any]:
        """Nothing; either two pictures or two seeds are needed."""
        for field in ("labels", "mix"):
            if getattr(self, field) is not None:
                raise invalid(field, f"{card.ref} takes no {field}; send two `images` or two `seeds`")
        if (self.images is None) == (self.seeds is None):
            raise invalid("images", f"{card.ref} goes from latent to latent: send either two `images` or two `seeds`")
        return {}


TASKS: dict[str, type[JobRequest]] = {
    "generate": Generate,
    "translate": Translate,
    "inpaint": Inpaint,
    "denoise": Denoise,
    "upscale": Upscale,
    "colorize": Colorize,
    "interpolate": Interpolate,
    "restyle": Restyle,
    "reconstruct": Reconstruct,
    "score": Score,
    "embed": Embed,
}
"""Every task that a client can ask for."""
