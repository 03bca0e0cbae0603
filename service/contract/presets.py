"""Presets as data: what each learns from, whether data fit it, and what would make them fit."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.contract.data_facts import DataFacts


class Part(BaseModel):
    """Something that the file of all presets says."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sizes(Part):
    """The sides of the images that a preset takes, in pixels: `least` to `greatest` by `step`."""

    least: int = Field(description="The least side.")
    greatest: int = Field(description="The greatest side.")
    step: int = Field(description="The steps between them.")
    larger: bool = Field(description="Whether any greater side fits, too.")
    square: bool = Field(description="Whether images must be square.")

    def fit(self, width: int, height: int) -> bool:
        """Whether images of this size can be learned from."""
        side = min(width, height)
        inside = self.least <= side <= self.greatest and (side - self.least) % self.step == 0
        return (inside or (self.larger and side > self.greatest)) and (width == height or not self.square)

    def nearest(self, width: int, height: int) -> int:
        """The side to which images of a size are best resized: as they are, or a little smaller, or else larger."""
        side = min(width, height)
        if side > self.greatest and not self.larger:
            return self.greatest
        return max(self.least, side - (side - self.least) % self.step) if side <= self.greatest else side

    def words(self) -> str:
        """The sizes in words."""
        if self.least == self.greatest:
            return f"{self.least}x{self.least}"
        steps = f" by {self.step}" if self.step > 1 else ""
        return f"sides of {self.least} to {self.greatest}{steps}{', or more' if self.larger else ''}"


class Bound(Part):
    """A bound of a setting that follows from the rest of a preset, and the sentence with which it is refused."""

    least: float | None = None
    greatest: float | None = None
    says: str

    def holds(self, value: float) -> bool:
        """Whether a value is within it."""
        return (self.least is None or value >= self.least) and (self.greatest is None or value <= self.greatest)


class Preset(Part):
    """A preset, and the data that it learns from; ``labels`` and ``pairs`` say why data without them are refused."""

    settings: str
    kind: Literal["images", "domains"]
    labels: str | None
    pairs: str | None
    channels: list[int]
    sizes: Sizes
    bounds: dict[str, Bound]


class System(Part):
    """The presets of a system, and the settings of each kind of them as parts of JSON Schema."""

    settings: dict[str, dict[str, dict[str, Any]]]
    presets: dict[str, Preset]


def conversion(preset: Preset, facts: DataFacts) -> dict[str, int | None]:
    """The ``image_size`` and ``channels`` that bring data to what a preset takes; None where they do already."""
    turned = facts.channels is not None and facts.channels not in preset.channels and preset.kind == "images"
    if facts.size is None and not facts.mixed:
        size = None
    elif facts.size is None:
        size = preset.sizes.least
    else:
        size = None if preset.sizes.fit(*facts.size) else preset.sizes.nearest(*facts.size)
    return {"image_size": size, "channels": preset.channels[0] if turned else None}


def find_fault(
    preset: Preset, label: str, name: str, facts: DataFacts, direction: str
) -> tuple[tuple[str, ...], str] | None:
    """Why a preset can't learn from data, as far as they are known: the field of the request, and a sentence."""
    if wrong := _other_kind(preset, name, facts):
        return ("data",), wrong
    if direction == "BtoA" and facts.pairs is False and not facts.domains:
        return ("direction",), f"{name} has no pairs that BtoA could turn round; leave the direction out"
    for given, needed in wants(preset, facts):
        if given is False and needed is not None:
            return ("data",), needed.replace("{data}", name)
    wrong = _other_shape(preset, label, name, facts, turned=direction == "BtoA")
    return (("data",), wrong) if wrong else None


def wants(preset: Preset, facts: DataFacts) -> tuple[tuple[bool | None, str | None], tuple[bool | None, str | None]]:
    """Labels and pairs: whether the data have them, and why a preset can't do without."""
    return (facts.labels, preset.labels), (facts.pairs, preset.pairs)


def _other_kind(preset: Preset, name: str, facts: DataFacts) -> str | None:
    if preset.kind == "images" and facts.domains:
        return (
            f"{name} has two domains without pairs, but one set of images is wanted: "
            "choose a preset that translates without pairs, or give one folder of images"
        )
    if preset.kind == "domains" and facts.domains is False and facts.pairs is False:
        return f"{name} has no two domains; give aligned pairs, or a folder with the folders trainA and trainB"
    return None


def _other_shape(preset: Preset, label: str, name: str, facts: DataFacts, *, turned: bool) -> str | None:
    """Of turned pairs the images are those that were conditions, whose channels are not known."""
    one_set = preset.kind == "images"  # two domains are brought to the same channels
    if one_set and not turned and facts.channels and facts.channels not in preset.channels:
        colours = {1: "grey images (1 channel)", 3: "colour images (3 channels)"}
        wanted = " or ".join(colours[count] for count in preset.channels)
        return f"{name} has {colours[facts.channels]}, but the preset {label} takes {wanted}"
    if facts.mixed:
        return f"{name} has images of several sizes, which are to be resized to one"
    if facts.size and not preset.sizes.fit(*facts.size):
        width, height = facts.size
        return f"{name} has images of {width}x{height} pixels, but the preset {label} takes {preset.sizes.words()}"
    return None
