"""A trained toy, as kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.core.rows import MAX_STEPS
from models.samplers.langevin import Value, langevin
from models.samplers.values import evaluation, tracked
from tests.toy.config import Config


class Toy:
    """The mean that proposals lie around, and the mean under which f is greatest.

    Args:
        config: the sizes and the refinement.
        means: ``proposed`` and ``mean``, ``[C, H, W]`` each.
        calibration: values of held-out images; may be empty.
        device: where the rows live.
    """

    def __init__(
        self, config: Config, means: Mapping[str, Tensor], calibration: Mapping[str, Any], device: torch.device
    ) -> None:
        self.config, self.calibration, self.device = config, calibration, device
        self.proposed, self.mean = (means[name].to(device) for name in ("proposed", "mean"))
        self.propose: Kernel = self._propose
        self.refine: Kernel = langevin(self.value)
        self.evaluate: Kernel = evaluation(self.value)
        self.track: Kernel = tracked(self.refine, self.evaluate)

    @property
    def nbytes(self) -> int:
        return sum(mean.numel() * mean.element_size() for mean in (self.proposed, self.mean))

    def value(self, rows: Rows) -> Tensor:
        """f of each row."""
        return -(rows["y"] - self.mean).square().flatten(1).sum(1) / (2 * self.config.sigma**2)

    def log_density(self, images: Tensor) -> Tensor:
        return self.value({"y": images.to(self.device)})

    def _propose(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t
        return {**rows, "y": self.proposed + self.config.sigma / 2 * noise.normal(*self.proposed.shape)}

    def numbers(self, n: int, step_size: float = 1.0, noise: float = 0.0) -> Rows:
        """Of the refinement of n rows."""
        one = torch.ones(n, 1, 1, 1, device=self.device)
        numbers = {"eta": one * step_size * self.config.eta, "rho": one * 0}
        return {**numbers, "tau": one * noise} if noise else numbers

    def resampled(self, sampler: Callable[[Value], Kernel]) -> dict[Kernel, Kernel]:
        refine = sampler(self.value)
        return {self.refine: refine, self.track: tracked(refine, self.evaluate)}

    def examples(self) -> list[tuple[Kernel, Rows]]:
        start = self.numbers(1)
        full = {**start, "y": self.mean[None]}
        trace = torch.zeros(1, MAX_STEPS, device=self.device)
        return [
            (self.propose, start),
            (self.refine, full),
            (self.evaluate, full),
            (self.track, {**full, "trace": trace}),
        ]


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> Toy:
    return Toy(Config.model_validate(card["config"]), tensors, card.get("calibration") or {}, device)
