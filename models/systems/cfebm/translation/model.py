"""A trained CF-EBM that translates between two domains, frozen for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.rows import MAX_STEPS, begin_film
from models.samplers.langevin import Value
from models.systems.cfebm.chain import chain_numbers
from models.systems.cfebm.config import TranslationConfig
from models.systems.cfebm.energies import FrozenEnergy, restore
from models.systems.frame import Frame


class CFEBMTranslation:
    """Two energies, one a domain, each of which draws images of the other domain to its own.

    Args:
        config: sizes and the chain.
        energies: by the name of the domain.
        calibration: the values of held-out images of each domain, as :func:`calibrate` gives them; may be empty.
        device: where the rows live.
    """

    def __init__(
        self,
        config: TranslationConfig,
        energies: Mapping[str, FrozenEnergy],
        calibration: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.config, self.energies, self.calibration, self.device = config, energies, calibration, device
        frame = Frame(config)
        self.padded, self.cropped, self.shown = frame.padded, frame.cropped, frame.shown
        self.cropped_film = frame.cropped_film

    @property
    def nbytes(self) -> int:
        return sum(energy.nbytes for energy in self.energies.values())

    def resampled(self, sampler: Callable[[Value], Kernel]) -> dict[Kernel, Kernel]:
        return {old: new for energy in self.energies.values() for old, new in energy.resampled(sampler).items()}

    def examples(self) -> list[tuple[Kernel, Rows]]:
        found: list[tuple[Kernel, Rows]] = []
        for energy in self.energies.values():
            y = torch.linspace(-1, 1, self.config.channels * energy.size**2, device=self.device)
            y = y.reshape(1, -1, energy.size, energy.size)
            rows = {**chain_numbers(self, 1, 0.0, 1.0, 0, self.config.steps), "y": y}
            trace = torch.zeros(1, MAX_STEPS, device=self.device)
            found += [
                (energy.chain, rows),
                (energy.film, {**rows, **begin_film(y, self.config.steps)}),
                (energy.evaluate, rows),
                (energy.track, {**rows, "trace": trace}),
            ]
        return found


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> CFEBMTranslation:
    """Build the model of a checkpoint.

    Raises:
        KeyError, ValueError: the card lacks something, or the tensors are not those of the configuration.
    """
    config = TranslationConfig.model_validate(card["config"])
    last = len(config.stages) - 1
    energies = {name: restore(config, last, tensors, device, f"{name}/") for name in (config.source, config.target)}
    return CFEBMTranslation(config, energies, card.get("calibration") or {}, device)
