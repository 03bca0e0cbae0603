"""What the values of real pairs are; see :mod:`models.systems.ccoopnets.calibration`."""

from __future__ import annotations

from typing import Any

from models.data.holes import holes
from models.data.images import ImageData, to_float
from models.systems.calibration import summary
from models.systems.ccoopnets.calibration import values_of_pairs
from models.systems.ccoopnets.images.conditions import condition_of
from models.systems.ccoopnets.images.model import ImageCCoopNets

_HOLE_SEED = 7


def calibrate(model: ImageCCoopNets, data: ImageData) -> dict[str, Any]:
    """The values of real images under their own condition images, pooled: no condition has more than one image.

    Args:
        model: what gives the values.
        data: images that the model was not trained on, with their conditions for a translation.

    Returns:
        What goes on a card as ``calibration``: ``data``, the name of the set, and ``pooled``, see :func:`summary`.

    Raises:
        ValueError: a translation's data have no conditions.
    """
    if model.config.task == "inpaint":
        c = condition_of(to_float(data.images), holes(len(data), model.config.size, _HOLE_SEED))
    elif data.conditions is None:
        raise ValueError(f"{data.name} has no condition images, so values can't be calibrated on it")
    else:
        c = to_float(data.conditions)
    f = values_of_pairs(model.evaluate, data.images, c, model.config.refinement.rho, model.device)
    return {"data": data.name, "pooled": summary(f)}
