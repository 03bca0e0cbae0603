"""What the values of held-out images are."""

from __future__ import annotations

from typing import Any

from models.data.images import ImageData, to_float
from models.systems.calibration import CHUNK, summary, values
from models.systems.cfebm.generation.model import EnergyModel


def calibrate(model: EnergyModel, data: ImageData) -> dict[str, Any]:
    """The values of images that the model was not trained on, for a card's ``calibration``."""
    fitted = data.fit(model.config.image_size, model.config.channels)
    rows = ({"y": model.padded(to_float(part))} for part in fitted.images.split(CHUNK))
    f = values(model.finest.evaluate, rows, model.device)
    return {"data": data.name, "pooled": summary(f)}
