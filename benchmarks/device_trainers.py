"""Time of the iterations of trainings, for ``benchmarks.device``."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.device_models import Figures, Shipped
from benchmarks.device_times import wait
from models.core.loop import RowsError
from models.data.images import ImageData
from models.data.kinds import Data
from models.data.unpaired import UnpairedData
from models.systems.base import Trainer
from models.systems.registry import VARIANTS, variant_of

_EAGER = 3
"""The first iterations of a stage are as they are written, also where later ones are replayed."""
_IMAGES = 256


def training(shipped: Shipped, seconds: float = 4.0) -> Figures:
    """Iterations a second of the first stage: of the second and third, and of those from the fifth on."""
    variant = VARIANTS[variant_of(shipped.card)]
    config = variant.config.model_validate(shipped.card["config"])
    trainer = variant.trainer(config, _data(shipped, variant.data == "domains"), 1, shipped.device)
    times: list[float] = []
    stage, began = trainer.stage, time.monotonic()
    while trainer.stage == stage or len(times) < 2:
        stage = trainer.stage  # a first stage of one iteration tells nothing
        times.append(_iteration(trainer, len(times), shipped.device))
        if time.monotonic() - began > seconds and len(times) > 1:
            break
    yield "eager", round(1 / min(times[1:_EAGER]), 2)
    if len(times) > _EAGER + 1:
        yield "later", round(1 / median(times[_EAGER + 1 :]), 2)


def _iteration(trainer: Trainer, number: int, device: torch.device) -> float:
    """Seconds of one."""
    wait(device)
    began = time.perf_counter()
    try:
        trainer.step(number, 1.0, 0)
    except RowsError as error:
        raise RuntimeError(f"iteration {number}: {error}") from error
    wait(device)
    return time.perf_counter() - began


def _data(shipped: Shipped, domains: bool) -> Data:
    """Random images of the sizes of the model's."""
    card, generator = shipped.card, torch.Generator().manual_seed(1)

    def drawn(shape: Any) -> Tensor:
        size = (_IMAGES, shape["channels"], shape["height"], shape["width"])
        return torch.randint(0, 256, size, generator=generator).to(torch.uint8)

    classes = tuple(card.get("classes") or ())
    if domains:
        one, two = (ImageData(drawn(card["image"]), None, (), name) for name in ("source", "target"))
        return UnpairedData(one, two, "random")
    labels = torch.arange(_IMAGES) % len(classes) if classes else None
    conditions = drawn(card["condition"]) if card.get("condition") else None
    return ImageData(drawn(card["image"]), labels, classes, "random", conditions)
