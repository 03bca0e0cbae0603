"""The files of a model that travels."""

from __future__ import annotations

CARD, CONFIG, README, WEIGHTS, SAMPLE = "card.json", "config.json", "README.md", "model.safetensors", "sample.png"

FILES = (CARD, CONFIG, README, WEIGHTS, SAMPLE)
"""All that is written, and all that is ever read or fetched."""


class TravelError(Exception):
    """A model can't be written or read, in a sentence that says why."""
