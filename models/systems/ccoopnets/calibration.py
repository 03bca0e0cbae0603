"""What the values of real images are, against which the value of one image is set.

f is defined up to an unknown number for each condition: both terms of its learning gradient share the condition, so it
cancels. A value by itself therefore says little, and values compare only within one condition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.loop import Loop, Task, run
from models.data.holes import holes
from models.data.images import ImageData, to_float
from models.systems.calibration import summary
from models.systems.ccoopnets.images.problem import condition_of

if TYPE_CHECKING:
    from models.systems.ccoopnets.images.model import ImageCCoopNets
    from models.systems.ccoopnets.labels.model import CCoopNets

_CHUNK = 250  # images that are judged at once
_HOLE_SEED = 7


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
    f = torch.cat(
        [
            run(_values(model, to_float(y).to(model.device), labels.to(model.device)), device=model.device)
            for y, labels in zip(data.images.split(_CHUNK), c.split(_CHUNK), strict=True)
        ]
    )
    found = {name: f[data.labels == k] for k, name in enumerate(model.classes)}
    return {"data": data.name, "conditions": {name: summary(part) for name, part in found.items() if len(part) > 1}}


def _values(model: CCoopNets | ImageCCoopNets, y: Tensor, c: Tensor) -> Task[Tensor]:
    rho = torch.full((len(y), 1, 1, 1), model.config.refinement.rho, device=model.device)
    rows = yield Loop(model.evaluate, {"y": y, "c": c, "rho": rho}, steps=1, seeds=[0] * len(y))
    return rows["f"].cpu()


def calibrate_pairs(model: ImageCCoopNets, data: ImageData) -> dict[str, Any]:
    """The values of real images under their own condition images, pooled: no condition has more than one image.

    Args:
        model: what gives the values.
        data: images that the model was not trained on, with their conditions for a translation.

    Returns:
        What goes on a card as ``calibration``: ``data``, the name of the set, and ``pooled``, see :func:`summary`.

    Raises:
        ValueError: a translation's data have no conditions.
    """
    y = to_float(data.images)
    if model.config.task == "inpaint":
        c = condition_of(y, holes(len(y), model.config.size, _HOLE_SEED))
    elif data.conditions is None:
        raise ValueError(f"{data.name} has no condition images, so values can't be calibrated on it")
    else:
        c = to_float(data.conditions)
    pairs = zip(y.split(_CHUNK), c.split(_CHUNK), strict=True)
    f = torch.cat([run(_values(model, a.to(model.device), b.to(model.device)), device=model.device) for a, b in pairs])
    return {"data": data.name, "pooled": summary(f)}
