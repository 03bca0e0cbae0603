"""The tasks that find the latent vector of a picture, and draw it again or anew."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from service.contract.cards import ModelCard
from service.contract.jobs.fitted import RestorableRequest
from service.contract.jobs.labels import LABEL_FORMS, Label, classes_of, known_mix, mixes_of
from service.contract.jobs.request import PICTURE_FORMS, PictureRef, Role


class LatentRequest(RestorableRequest, ABC):
    """A request that infers the latent vector of its picture."""

    pictures: ClassVar[Mapping[str, Role]] = {"image": Role.IMAGE}

    image: PictureRef = Field(description=f"The picture. {PICTURE_FORMS}")
    label: Label | None = Field(
        None,
        description=f"The class of the picture: {LABEL_FORMS}. Absent: it is inferred. "
        "Models without classes take none.",
        examples=["T-shirt/top"],
    )
    latent_steps: int | None = Field(
        None,
        ge=0,
        le=100_000,
        exclude=True,  # the record shows the option
        description="The older name of the option `latent_steps`; send it in `options` instead.",
        json_schema_extra={"deprecated": True},
    )

    @model_validator(mode="before")
    @classmethod
    def _older_name(cls, given: Any) -> Any:
        """Put ``latent_steps`` among the options, where all that follows looks for it."""
        if not isinstance(given, dict) or given.get("latent_steps") is None:
            return given
        steps, options = given["latent_steps"], given.get("options", {})
        if not isinstance(options, dict):  # which its own check refuses
            return given
        if type(steps) is not int or not 0 <= steps <= 100_000:  # which the field itself refuses
            return given
        if options.get("latent_steps", steps) != steps:
            raise ValueError("latent_steps and options.latent_steps differ; leave latent_steps out")
        return {**given, "latent_steps": None, "options": {**options, "latent_steps": steps}}


class Restyle(LatentRequest):
    """Draw an image anew in other classes, in its own style.

    Finds the latent vector from which the initializer draws the picture, then draws it in each class of `labels`; the
    solver refines the results. Gives `n` images a label, in the order of the labels.
    """

    task: ClassVar[str] = "restyle"
    example: ClassVar[dict[str, Any]] = {
        "model": "fashion-ccoopnets",
        "image": "sample-shirt",
        "labels": ["Pullover", "Dress"],
        "options": {"latent_steps": 50},
        "seed": 7,
    }
    times: ClassVar[str | None] = "labels"

    n: int | None = Field(None, ge=1, le=4096, description="Number of images for each label.", examples=[1])
    labels: Annotated[list[Label], Field(min_length=1, max_length=1000)] | None = Field(
        None,
        description=f"The classes asked for, each {LABEL_FORMS}. Absent: all classes of the model.",
        examples=[["Pullover", "Dress"]],
    )

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """All labels as weights by class name; None for a label that is to be inferred."""
        classes = classes_of(card, "labels")
        asked = self.labels if self.labels is not None else list(classes)
        return {"label": known_mix(self.label, classes), "labels": mixes_of(asked, classes)}


class Reconstruct(LatentRequest):
    """Draw an image again from the latent vector, or the start of a chain, that is inferred from it.

    Shows what of a picture the model can express: the closer the result, the better the model knows such pictures.
    """

    task: ClassVar[str] = "reconstruct"
    example: ClassVar[dict[str, Any]] = {
        "model": "fashion-ccoopnets",
        "image": "sample-shirt",
        "options": {"latent_steps": 200},
        "seed": 7,
    }

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """The label as weights by class name; None if it is to be inferred, or the model has no classes."""
        if card.classes is None and self.label is None:
            return {"label": None}
        return {"label": known_mix(self.label, classes_of(card, "label"))}
