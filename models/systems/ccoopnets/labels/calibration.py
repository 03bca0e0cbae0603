"""What the values of real images under their own labels are; see :mod:`models.systems.ccoopnets.calibration`."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from models.data.images import ImageData
from models.systems.calibration import summary
from models.systems.ccoopnets.calibration import values_of_pairs
from models.systems.ccoopnets.labels.model import CCoopNets


def calibrate(model: CCoopNets, data: ImageData) -> dict[str, Any]:
    """The values of real images under their own labels.

    Args:
        model: what gives the values.
        data: labelled images that the model was not trained on.

    Returns:
        What goes on a card as ``calibration``: ``data``, the name of the set, and under ``conditions`` for each class
        what :func:`summary` gives; a class without images is left out.

    Raises:
        ValueError: the data have other classes than the model.
    """
    if data.labels is None or data.classes != model.classes:
        raise ValueError(f"{data.name} does not have the classes of the model, so its values can't be calibrated on it")
    c = F.one_hot(data.labels, len(model.classes)).float()
    f = values_of_pairs(model.evaluate, data.images, c, model.config.refinement.rho, model.device)
    found = {name: f[data.labels == k] for k, name in enumerate(model.classes)}
    return {"data": data.name, "conditions": {name: summary(part) for name, part in found.items() if len(part) > 1}}
