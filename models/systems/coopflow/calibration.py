"""What the values of held-out images and of generated ones are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from models.core.loop import Rows, run
from models.core.noise import row_seeds
from models.data.images import ImageData, to_float
from models.systems.calibration import CHUNK, summary, values
from models.systems.coopflow.chain import proposed_and_refined
from models.systems.coopflow.model import CoopFlow

_MOST = 1000
_SEED = 1


def calibrate(model: CoopFlow, data: ImageData) -> dict[str, Any]:
    """The values of at most 1,000 images that the model was not trained on, and of as many that it makes.

    Values compare within one checkpoint alone: the scale and the zero of f are free.
    """
    fitted = data.fit(model.config.image_size, model.config.channels)
    images = fitted.images[:_MOST]
    real = ({"y": model.padded(to_float(part)), **_numbers(model, len(part))} for part in images.split(CHUNK))
    keys = row_seeds(_SEED, len(images))
    made = ({"y": _made(model, keys[k : k + CHUNK])} for k in range(0, len(keys), CHUNK))
    with_numbers = ({**rows, **_numbers(model, len(rows["y"]))} for rows in made)
    return {
        "data": data.name,
        "pooled": summary(values(model.evaluate, real, model.device)),
        "generated": summary(values(model.evaluate, with_numbers, model.device)),
    }


def _numbers(model: CoopFlow, n: int) -> Rows:
    return {"rho": model.bounded(n, 1.0, 0.0)["rho"]}


def _made(model: CoopFlow, seeds: list[int]) -> Tensor:
    chain = model.config.chain
    numbers = model.bounded(len(seeds), chain.delta_test / chain.delta, 0.0)
    task = proposed_and_refined(model.propose, model.refine, numbers, chain.steps, seeds)
    return run(task, device=model.device)[1]["y"]
