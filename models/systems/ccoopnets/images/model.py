"""A trained image-conditional CCoopNets, frozen for serving."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.core.rows import MAX_STEPS, begin_film
from models.networks.unet import UNet
from models.samplers.langevin import Value, langevin
from models.samplers.values import evaluation, filmed, tracked
from models.serving import served
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.networks import PairSolver, unet
from models.systems.weights import fill, frozen, nbytes


@dataclass
class Between:
    """The refinement under the mean of two conditions' values."""

    refine: Kernel
    evaluate: Kernel


class ImageCCoopNets:
    """Both networks with their kernels, which are built once so that all jobs of the model share them.

    Args:
        config: the sizes and the refinement loop.
        initializer: g; it is frozen.
        solver: f; it is frozen.
        calibration: the values of held-out pairs, as ``calibration.calibrate_pairs`` gives them; may be empty.
        device: where the rows live.
    """

    def __init__(
        self,
        config: ImageConfig,
        initializer: UNet,
        solver: PairSolver,
        calibration: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.config, self.calibration, self.device = config, calibration, device
        self.initializer, self.solver = frozen(initializer, device), frozen(solver, device)
        y, c = self._ramp(config.channels), self._ramp(config.condition_channels)
        image, w = y.clone().requires_grad_(True), torch.ones(1, 1, 1, 1, device=device) / 2
        masks = [torch.linspace(0, 1, math.prod(shape), device=device).view(1, *shape) for shape in self._mask_shapes]
        self._made = served(self.initializer, c, masks)
        self._made_between = served(self._g_between, c, c.flip(3), w, masks)
        self._value = served(self._f, {"y": image, "c": c})
        self._value_between = served(self._f_between, {"y": image, "c": c, "c1": c.flip(3), "w": w})
        self.propose: Kernel = self._propose
        self.propose_between: Kernel = self._propose_between
        self.refine: Kernel = langevin(self._value)
        self.evaluate: Kernel = evaluation(self._value)
        self.track: Kernel = tracked(self.refine, self.evaluate)
        self.film: Kernel = filmed(self.refine)
        self.between = Between(langevin(self._value_between), evaluation(self._value_between))

    @property
    def nbytes(self) -> int:
        weights = [*self.initializer.state_dict().values(), *self.solver.state_dict().values()]
        return nbytes(weights, self._made, self._made_between, self._value, self._value_between)

    @property
    def _mask_shapes(self) -> list[tuple[int, int, int]]:
        return self.initializer.mask_shapes

    def _masks(self, noise: Noise) -> list[Tensor]:
        """The dropout masks of each row, which are the noise X of the initializer."""
        return [noise.uniform(*shape) for shape in self._mask_shapes]

    def _propose(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        """Y = g(X, C); where the rows have a mask, its hidden pixels alone are taken from g."""
        del t
        with torch.no_grad():
            y = self._made(rows["c"], self._masks(noise))
        if "mask" in rows:
            y = torch.where(rows["mask"] > 0, y, rows["visible"])
        return {**rows, "y": y}

    def _propose_between(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        """Y = g between two conditions."""
        del t
        with torch.no_grad():
            return {**rows, "y": self._made_between(rows["c"], rows["c1"], rows["w"], self._masks(noise))}

    def _g_between(self, c: Tensor, c1: Tensor, w: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """The encoder's activations are mixed, (1 - w) E(C_0) + w E(C_1) (Fig. 11b)."""
        first, second = self.initializer.encode(c), self.initializer.encode(c1)
        return self.initializer.decode([torch.lerp(a, b, w) for a, b in zip(first, second, strict=True)], masks)

    def _f(self, rows: Rows) -> Tensor:
        """f(Y, C)."""
        value: Tensor = self.solver(rows["y"], rows["c"])
        return value

    def _f_between(self, rows: Rows) -> Tensor:
        """(1 - w) f(Y, C_0) + w f(Y, C_1)."""
        w = rows["w"].flatten()
        return (1 - w) * self.solver(rows["y"], rows["c"]) + w * self.solver(rows["y"], rows["c1"])

    def resampled(self, sampler: Callable[[Value], Kernel]) -> dict[Kernel, Kernel]:
        refine = sampler(self._value)
        return {
            self.refine: refine,
            self.track: tracked(refine, self.evaluate),
            self.film: filmed(refine),
            self.between.refine: sampler(self._value_between),
        }

    def examples(self) -> list[tuple[Kernel, Rows]]:
        one = torch.ones(1, 1, 1, 1, device=self.device)
        start = {"eta": one, "rho": one * self.config.refinement.rho}
        trace = torch.zeros(1, MAX_STEPS, device=self.device)
        y, c = self._ramp(self.config.channels), self._ramp(self.config.condition_channels)
        if self.config.task == "inpaint":
            hidden = {"mask": (self._ramp(1) > 0).float(), "visible": y}
            full = {**start, "c": c, "y": y, "mask": hidden["mask"]}
            return [
                (self.propose, {**start, "c": c, **hidden}),
                (self.refine, full),
                (self.evaluate, full),
                (self.track, {**full, "trace": trace}),
            ]
        full = {**start, "c": c, "y": y}
        between = {**full, "c1": c.flip(3), "w": one / 2}
        return [
            (self.propose, {**start, "c": c}),
            (self.refine, full),
            (self.evaluate, full),
            (self.track, {**full, "trace": trace}),
            (self.film, {**full, **begin_film(y, self.config.refinement.steps)}),
            (self.propose_between, {k: v for k, v in between.items() if k != "y"}),
            (self.between.refine, between),
            (self.between.evaluate, between),
        ]

    def _ramp(self, channels: int) -> Tensor:
        size = self.config.size
        return torch.linspace(-1, 1, channels * size**2, device=self.device).reshape(1, channels, size, size)


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> ImageCCoopNets:
    """Build the model of a checkpoint.

    Raises:
        KeyError, ValueError: the card lacks something, or the tensors are not those of the configuration.
    """
    config = ImageConfig.model_validate(card["config"])
    initializer, solver = unet(config), PairSolver(config)
    fill({"initializer": initializer, "solver": solver}, tensors)
    return ImageCCoopNets(config, initializer, solver, card.get("calibration") or {}, device)
