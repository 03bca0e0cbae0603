"""What the values of held-out images of each domain are."""

from __future__ import annotations

from typing import Any

from models.data.images import to_float
from models.data.unpaired import UnpairedData
from models.systems.calibration import CHUNK, summary, values
from models.systems.cfebm.translation.model import CFEBMTranslation


def calibrate(model: CFEBMTranslation, data: UnpairedData) -> dict[str, Any]:
    """The values of images of both domains that the model was not trained on, for a card's ``calibration``."""
    config = model.config
    fitted = data.fit(config.image_size, config.channels)
    domains = {config.source: fitted.source, config.target: fitted.target}
    found = {}
    for name, own in domains.items():
        rows = ({"y": model.padded(to_float(part))} for part in own.images.split(CHUNK))
        found[name] = summary(values(model.energies[name].evaluate, rows, model.device))
    return {"data": data.name, "conditions": found}
