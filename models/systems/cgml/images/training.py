"""Training of cGML on images."""

from __future__ import annotations

import torch

from models.data.kinds import Data, one_set
from models.systems.cgml.images.config import Config
from models.systems.cgml.images.poses import POSES
from models.systems.cgml.trainer import CgmlTrainer


def make_trainer(config: Config, data: Data, seed: int, device: torch.device) -> CgmlTrainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are two domains.
    """
    images = one_set(data).fit(config.image_size, config.channels)
    pose = POSES[config.task](config, images, device)
    return CgmlTrainer(config, pose, config.task == "colorize", seed, device)
