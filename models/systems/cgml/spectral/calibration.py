"""What is measured once on held-out maps: the scale on which uncertainty is shown."""

from __future__ import annotations

from typing import Any

from models.data.images import ImageData
from models.systems.cgml.images.calibration import uncertainty_scale
from models.systems.cgml.spectral.model import Spectral
from models.systems.cgml.spectral.poses import Cleaning

_MAPS = 32


def calibrate(model: Spectral, data: ImageData) -> dict[str, Any]:
    """For a card's ``calibration``, as that of images."""
    batch = Cleaning(model.config, data, model.device).fixed(_MAPS)
    return {"data": data.name, **uncertainty_scale(model.maps, batch)}
