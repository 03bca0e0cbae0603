"""Training of cGML on spectral maps."""

from __future__ import annotations

import torch

from models.data.kinds import Data, one_set
from models.systems.cgml.spectral.config import Config
from models.systems.cgml.spectral.poses import Cleaning
from models.systems.cgml.trainer import CgmlTrainer


def make_trainer(config: Config, data: Data, seed: int, device: torch.device) -> CgmlTrainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are two domains.
    """
    return CgmlTrainer(config, Cleaning(config, one_set(data), device), False, seed, device)
