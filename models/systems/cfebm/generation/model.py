"""A trained CF-EBM, frozen for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.core.rows import MAX_STEPS
from models.samplers.langevin import Value
from models.systems.cfebm.chain import chain_numbers
from models.systems.cfebm.config import GenerationConfig
from models.systems.cfebm.energies import FrozenEnergy, restore
from models.systems.frame import Frame


class EnergyModel:
    """The energies that a chain passes, from coarse to fine.

    Args:
        config: sizes and the chain.
        energies: one a size, ascending; one alone where the growth was single.
        calibration: the values of held-out images, as :func:`calibrate` gives them; may be empty.
        device: where the rows live.
    """

    def __init__(
        self,
        config: GenerationConfig,
        energies: list[FrozenEnergy],
        calibration: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.config, self.energies, self.calibration, self.device = config, energies, calibration, device
        frame = Frame(config)
        self.padded, self.cropped, self.shown = frame.padded, frame.cropped, frame.shown
        self.begin: Kernel = partial(_begin, config.channels, energies[0].size)

    @property
    def finest(self) -> FrozenEnergy:
        """The energy of whole images."""
        return self.energies[-1]

    @property
    def nbytes(self) -> int:
        return sum(energy.nbytes for energy in self.energies)

    def log_density(self, images: Tensor) -> Tensor:
        """f of images ``[n, C, H, W]`` in [-1, 1], of the data's size: the log density up to a constant, ``[n]``."""
        return self.finest.f(self.padded(images.to(self.device)))

    def resampled(self, sampler: Callable[[Value], Kernel]) -> dict[Kernel, Kernel]:
        return {old: new for energy in self.energies for old, new in energy.resampled(sampler).items()}

    def examples(self) -> list[tuple[Kernel, Rows]]:
        numbers = chain_numbers(self, 1, 0.0, 1.0, 0, 45)
        found: list[tuple[Kernel, Rows]] = [(self.begin, numbers)]
        for energy in self.energies:
            y = torch.linspace(-1, 1, self.config.channels * energy.size**2, device=self.device)
            rows = {**numbers, "y": y.reshape(1, -1, energy.size, energy.size)}
            found.append((energy.chain, rows))
        trace = torch.zeros(1, MAX_STEPS, device=self.device)
        return [*found, (self.finest.evaluate, rows), (self.finest.track, {**rows, "trace": trace})]


def _begin(channels: int, size: int, rows: Rows, t: Tensor, noise: Noise) -> Rows:
    """The start of a chain: U(-1, 1) in each pixel."""
    del t
    return {**rows, "y": noise.uniform(channels, size, size) * 2 - 1}


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> EnergyModel:
    """Build the model of a checkpoint.

    Raises:
        KeyError, ValueError: the card lacks something, or the tensors are not those of the configuration.
    """
    config = GenerationConfig.model_validate(card["config"])
    stages = range(len(config.stages)) if config.growth == "chained" else [len(config.stages) - 1]
    energies = [restore(config, stage, tensors, device) for stage in stages]
    return EnergyModel(config, energies, card.get("calibration") or {}, device)
