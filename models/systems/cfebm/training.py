"""Training of CF-EBM, of either task."""

from __future__ import annotations

import torch

from models.data.kinds import Data
from models.systems.cfebm.config import Config
from models.systems.cfebm.generation import training as generation
from models.systems.cfebm.generation.training import GenerationTrainer
from models.systems.cfebm.translation import training as translation
from models.systems.cfebm.translation.training import TranslationTrainer


def make_trainer(config: Config, data: Data, seed: int, device: torch.device) -> GenerationTrainer | TranslationTrainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are not of the kind that the configuration's task learns from.
    """
    task = translation if config.task == "translate" else generation
    return task.make_trainer(config, data, seed, device)
