"""The presets that trainings start from, and the data that each learns from."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from service.contract.presets import Preset, Sizes, System
from service.http.problems import responses
from service.http.routes.common import json_of
from service.services import Parts

router = APIRouter(tags=["trainings"])


class PresetEntry(BaseModel):
    """A preset: sizes and constants of a method, to be named in a training as `system` and `preset`."""

    system: str = Field(description="The method.", examples=["ccoopnets"])
    preset: str = Field(description="Its name.", examples=["small"])
    kind: Literal["images", "domains"] = Field(description="It learns from one set of images, or from two domains.")
    needs_classes: bool = Field(description="Whether the images must have classes.")
    needs_pairs: bool = Field(description="Whether each image must have one that it is made from.")
    channels: list[int] = Field(description="The channels that images may have: 1, grey, and 3, colour.")
    sizes: Sizes = Field(description="The sides that images may have in pixels; `image_size` brings them to one.")
    settings: dict[str, dict[str, Any]] = Field(
        description="The settings that `overrides` may replace, each with the JSON Schema of its values."
    )


class PresetList(BaseModel):
    """All presets of all methods."""

    items: list[PresetEntry] = Field(description="By method, in the order of their documentation.")


@router.get("/v1/presets", response_model=PresetList, responses=responses(["unavailable"]))
def list_presets(parts: Parts) -> Response:
    """List the presets that trainings start from, the data that each learns from, and its settings."""
    systems = parts.trainable.systems
    return json_of(
        PresetList(
            items=[
                _entry(system, known, name, preset)
                for system, known in systems.items()
                for name, preset in known.presets.items()
            ]
        )
    )


def _entry(system: str, known: System, name: str, preset: Preset) -> PresetEntry:
    return PresetEntry(
        system=system,
        preset=name,
        kind=preset.kind,
        needs_classes=preset.labels is not None,
        needs_pairs=preset.pairs is not None,
        channels=preset.channels,
        sizes=preset.sizes,
        settings=known.settings[preset.settings],
    )
