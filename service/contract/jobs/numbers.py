"""The tasks that give numbers instead of images: how well a picture fits, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from service.contract.cards import ModelCard
from service.contract.errors import invalid
from service.contract.jobs.fitted import FittedRequest
from service.contract.jobs.labels import CHOSEN, LABEL_FORMS, Label, known_mix
from service.contract.jobs.request import PICTURE_FORMS, PictureRef, Role


class Score(FittedRequest):
    """Tell how well an image fits what the model has learned, in numbers.

    Gives no image: `outputs` has one entry without a url, whose `energy` is minus the model's value and whose `extras`
    hold the calibrated score. Values compare only between images of one condition, so the condition must be told: a
    model with classes needs the `label`, one that makes images from images the `condition`, one that fills in hidden
    parts the `mask` (or an image with transparency).
    """

    task: ClassVar[str] = "score"
    example: ClassVar[dict[str, Any]] = {
        "model": "fashion-ccoopnets",
        "image": "sample-shirt",
        "label": "T-shirt/top",
    }
    pictures: ClassVar[Mapping[str, Role]] = {
        "image": Role.IMAGE,
        "condition": Role.CONDITION,
        "mask": Role.MASK,
    }
    beyond: ClassVar[str] = "the values of `trace` after step {trained} are not comparable with those before"

    n: int | None = Field(None, ge=1, le=1, description="One: the numbers of a picture do not depend on chance.")
    steps: int | None = Field(
        None, ge=0, le=100_000, description="With more than 0, also the value after each refinement step, as `trace`."
    )
    image: PictureRef = Field(description=f"The picture to judge. {PICTURE_FORMS}")
    label: Label | None = Field(
        None,
        description=f"The class, for a model with classes: {LABEL_FORMS}.",
        examples=["T-shirt/top"],
        json_schema_extra=CHOSEN,
    )
    condition: PictureRef | None = Field(
        None, description=f"What the image was made from, for a model that makes images from images. {PICTURE_FORMS}"
    )
    mask: PictureRef | None = Field(
        None, description=f"Which pixels were filled in (white), for a model that fills in. {PICTURE_FORMS}"
    )

    def masked(self, card: ModelCard) -> bool:
        """A model that makes whole images judges whole images, even if it can also fill in."""
        return super().masked(card) and "generate" not in card.tasks

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """The label as weights by class name, if the model has classes."""
        needs = {
            "label": card.classes is not None,
            "condition": card.condition is not None,
            "mask": self.masked(card),
        }
        for field, needed in needs.items():
            given = getattr(self, field) is not None
            if given and not needed:
                raise invalid(field, f"{card.ref} takes no {field}; leave it out")
            if needed and not given and field != "mask":  # the image's transparency may be the mask
                raise invalid(field, f"{card.ref} judges an image only together with its {field}; send it")
        return {"label": known_mix(self.label, card.classes or [])}


class Embed(FittedRequest):
    """Give a picture as a vector of numbers, for search and for classifiers.

    Gives no image: `outputs` has one entry without a url, whose `extras` hold the `vector` and its `length`. Vectors
    compare only within one version of one model, which the record names.
    """

    task: ClassVar[str] = "embed"
    example: ClassVar[dict[str, Any]] = {"model": "fluent-cgml", "image": "sample-face-outline"}
    pictures: ClassVar[Mapping[str, Role]] = {"image": Role.CONDITION}

    n: int | None = Field(None, ge=1, le=1, description="One: a vector does not depend on chance.")
    image: PictureRef = Field(description=f"The picture. {PICTURE_FORMS}")

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """Nothing of its own."""
        return {}
