"""CCoopNets: cooperative training of a fast initializer and a slow solver (Xie, Zheng, Fang, Zhu, Wu).

Conditions are class labels or images; the two kinds share the refinement and the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.data.images import ImageData
from models.data.kinds import Kind
from models.systems.base import Model, System
from models.systems.ccoopnets.calibration import calibrate, calibrate_pairs
from models.systems.ccoopnets.images.config import IMAGE_PRESETS, ImageConfig, fit_image_config
from models.systems.ccoopnets.images.model import ImageCCoopNets, describe_image_model, load_image_model
from models.systems.ccoopnets.labels.config import PRESETS, Config, fit_to
from models.systems.ccoopnets.labels.model import CCoopNets, describe, load
from models.systems.ccoopnets.training import make_trainer


def _kind(config: Config | ImageConfig) -> Kind:
    del config  # labels or condition images come with the images
    return "images"


def _fit(config: Config | ImageConfig, data: ImageData) -> Config | ImageConfig:
    return fit_image_config(config, data) if isinstance(config, ImageConfig) else fit_to(config, data)


def _load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> Model:
    # Only configurations with an image as condition say which task they were trained for.
    return load_image_model(card, tensors, device) if "task" in card["config"] else load(card, tensors, device)


def _describe(config: Config | ImageConfig, classes: Sequence[str]) -> dict[str, Any]:
    return describe_image_model(config) if isinstance(config, ImageConfig) else describe(config, classes)


def _calibrate(model: CCoopNets | ImageCCoopNets, data: ImageData) -> dict[str, Any]:
    return calibrate_pairs(model, data) if isinstance(model, ImageCCoopNets) else calibrate(model, data)


CCOOPNETS = System(
    title="CCoopNets",
    presets={**PRESETS, **IMAGE_PRESETS},
    data=_kind,
    fit_to=_fit,
    trainer=make_trainer,
    load=_load,
    card=_describe,
    calibrate=_calibrate,
)
