"""CF-EBM: one energy, learned from coarse to fine, and sampled by short runs (Zhao, Xie, Li, ICLR 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.data.kinds import Data, Kind, one_set, two_domains
from models.systems.base import Model, System
from models.systems.cfebm.config import Config
from models.systems.cfebm.generation.model import EnergyModel, calibrate, describe, load
from models.systems.cfebm.presets import PRESETS
from models.systems.cfebm.training import make_trainer
from models.systems.cfebm.translation.model import (
    CFEBMTranslation,
    calibrate_translation,
    describe_translation,
    load_translation,
)


def _kind(config: Config) -> Kind:
    return "domains" if config.task == "translate" else "images"


def fit_to(config: Config, data: Data) -> Config:
    """The configuration for images of these data: their channels, and their size if it can be padded to the model's.

    Larger images are resized to the last stage; smaller ones are padded by the border.
    """
    channels, height, width = data.shape
    size = min(height, width, config.size)
    if size < config.size and (config.size - size) % 2:
        raise ValueError(f"images of {size} pixels can't be padded to {config.size} evenly; resize them (image size)")
    # Validated anew: model_copy would not.
    return Config.model_validate({**config.model_dump(), "channels": channels, "image_size": size})


def _load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> Model:
    translates = card["config"].get("task") == "translate"
    return load_translation(card, tensors, device) if translates else load(card, tensors, device)


def _describe(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    del classes  # no energy is given a label
    return describe_translation(config) if config.task == "translate" else describe(config)


def _calibrate(model: EnergyModel | CFEBMTranslation, data: Data) -> dict[str, Any]:
    if isinstance(model, CFEBMTranslation):
        return calibrate_translation(model, two_domains(data))
    return calibrate(model, one_set(data))


CFEBM = System(
    title="CF-EBM",
    presets=PRESETS,
    data=_kind,
    fit_to=fit_to,
    trainer=make_trainer,
    load=_load,
    card=_describe,
    calibrate=_calibrate,
)
