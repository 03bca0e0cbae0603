"""Untrained image-conditional models, made once."""

from __future__ import annotations

import pytest

from models.core.model import LoadedModel
from tests.models.image_models import model_of


@pytest.fixture(scope="session")
def translator() -> LoadedModel:
    return model_of("small-emoji")


@pytest.fixture(scope="session")
def inpainter() -> LoadedModel:
    return model_of("small-inpaint")
