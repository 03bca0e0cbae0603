"""Untrained image-conditional models, made once."""

from __future__ import annotations

import pytest

from models.systems.ccoopnets.images.model import ImageCCoopNets
from tests.models.image_models import model_of


@pytest.fixture(scope="session")
def translator() -> ImageCCoopNets:
    return model_of("small-emoji")


@pytest.fixture(scope="session")
def inpainter() -> ImageCCoopNets:
    return model_of("small-inpaint")
