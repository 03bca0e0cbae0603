"""Frozen energies of one image size each, and the kernels of their chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.langevin import Value
from models.samplers.shortrun import shortrun
from models.samplers.values import filmed, tracked
from models.serving import served
from models.systems.cfebm.config import Config
from models.systems.cfebm.networks import Energy, fold, fuse, value
from models.systems.weights import nbytes


@final
class FrozenEnergy:
    """One energy at one size: plain kernels, poolings and 1x1 convolutions inside the convolutions beside them.

    Args:
        plain: weights and biases by name, see :meth:`models.systems.cfebm.networks.Energy.effective`.
        channels: of its images.
        size: pixels of the side of its images.
        activation: of the network.
        device: where the rows live.

    Attributes:
        chain: a step of the short run.
        evaluate: adds ``f`` and ``slope``, the norm of f's gradient with respect to the image.
        track: a step that notes f in ``trace``.
        film: a step that notes images in ``film``.
    """

    def __init__(
        self, plain: Mapping[str, Tensor], channels: int, size: int, activation: str, device: torch.device
    ) -> None:
        self.size, self._activation = size, activation
        self._kernels = {name: kernel.to(device).contiguous() for name, kernel in fold(fuse(plain), size).items()}
        example = torch.linspace(-1, 1, channels * size**2, device=device).view(1, channels, size, size)
        self._value = served(self._f, {"y": example.requires_grad_(True)})
        self.chain: Kernel = shortrun(self._value)
        self.evaluate: Kernel = self._evaluate
        self.track: Kernel = tracked(self.chain, self._evaluate)
        self.film: Kernel = filmed(self.chain)

    @property
    def nbytes(self) -> int:
        return nbytes(self._kernels.values(), self._value)

    def resampled(self, sampler: Callable[[Value], Kernel]) -> dict[Kernel, Kernel]:
        """For each kernel of a chain, the one that a sampler makes of the same f."""
        chain = sampler(self._value)
        return {self.chain: chain, self.track: tracked(chain, self._evaluate), self.film: filmed(chain)}

    def f(self, images: Tensor) -> Tensor:
        """The value of images ``[n, C, size, size]``: ``[n]``."""
        return self._value({"y": images})

    def _f(self, rows: Rows) -> Tensor:
        return value(self._kernels, rows["y"], activation=self._activation)

    def _evaluate(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        y = rows["y"].detach().clamp(-1, 1).requires_grad_(True)
        with torch.enable_grad():
            f = self.f(y)
        (gradient,) = torch.autograd.grad(f.sum(), y)
        return {**rows, "f": f.detach(), "slope": gradient.flatten(1).norm(dim=1)}


def restore(
    config: Config, stage: int, tensors: Mapping[str, Tensor], device: torch.device, prefix: str = ""
) -> FrozenEnergy:
    """The energy of a stage from a checkpoint's tensors ``{prefix}net{size}.LAYER.weight`` and ``.bias``.

    Raises:
        ValueError: the tensors are not those of the configuration.
    """
    size, entries = config.stages[stage].size, config.entries_of(stage)
    place = f"{prefix}net{size}."
    own = {k.removeprefix(place): v for k, v in tensors.items() if k.startswith(place)}
    with torch.no_grad():
        expected = {
            name: kernel.shape
            for name, kernel in Energy(config.network, config.channels, entries).effective().items()
            if not name.startswith(tuple(f"rgb{entry}." for entry in entries[:-1]))
        }
    wrong = sorted({*expected} ^ {*own} | {k for k in {*expected} & {*own} if expected[k] != own[k].shape})
    if wrong:
        raise ValueError(f"the checkpoint's {place[:-1]} does not fit its configuration; first mismatch: {wrong[0]}")
    return FrozenEnergy(own, config.channels, size, config.network.activation, device)
