"""A trained model of surfaces, frozen for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.serving import served
from models.systems.cgml.coder import Coder
from models.systems.cgml.images.model import Cgml
from models.systems.cgml.predictor import Predictor
from models.systems.cgml.spectral.config import Config
from models.systems.cgml.spectral.drawing import Drawing
from models.systems.cgml.spectral.poses import condition
from models.systems.weights import fill, frozen, nbytes
from surfaces.maps import MEAN_RADIUS, scales


@final
class Spectral:
    """The kernels of :class:`models.systems.cgml.images.model.Cgml` for maps, and ``draw``, which adds the ``picture``
    of surfaces.

    Args:
        config: sizes.
        maps: the model of its maps.
    """

    def __init__(self, config: Config, maps: Cgml) -> None:
        self.config, self.maps, self.device = config, maps, maps.device
        self._scales = torch.from_numpy(scales(config.deviations)).to(self.device, torch.float32)
        self._drawing = frozen(Drawing(config.degrees, config.picture), self.device)
        self._picture = served(self._drawing, self._sphere())
        self.draw: Kernel = self._draw

    @property
    def nbytes(self) -> int:
        return self.maps.nbytes + nbytes(self._drawing.buffers(), self._picture)

    def given(self, surface: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of a job ``[L^2]``, NaN where unknown: as a map with 0 there, and 1 there; ``[1, 1, L, L]``."""
        side, found = self.config.degrees, surface.to(self.device)
        unknown = found.isnan()
        shape = (1, 1, side, side)
        values = torch.where(unknown | (self._scales == 0), 0.0, found / self._scales.clamp(min=1e-12))
        return values.reshape(shape), unknown.to(values.dtype).reshape(shape)

    def coefficients(self, maps: Tensor) -> Tensor:
        """Maps ``[n, 1, L, L]`` as coefficients of mean radius 1, ``[n, L^2]``."""
        found = maps.flatten(1) * self._scales
        found[:, 0] = MEAN_RADIUS
        return found

    def condition(self, noisy: Tensor, unknown: Tensor) -> Tensor:
        """What H takes."""
        return condition(noisy, unknown)

    def _draw(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        with torch.no_grad():
            return {**rows, "picture": self._picture(rows["coefficients"])}

    def resampled(self, sampler: Callable[[Callable[[Rows], Tensor]], Kernel]) -> dict[Kernel, Kernel]:
        return {}  # no kernel climbs the value of a surface

    def examples(self) -> Sequence[tuple[Kernel, Rows]]:
        return [*self.maps.examples(), (self.draw, {"coefficients": self._sphere()})]

    def _sphere(self) -> Tensor:
        found = torch.zeros(1, self.config.degrees**2, device=self.device)
        found[:, 0], found[:, 1:4] = MEAN_RADIUS, 0.1
        return found


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> Spectral:
    """Build the model of a checkpoint.

    Raises:
        KeyError, ValueError: the card lacks something, or the tensors are not those of the configuration.
    """
    config = Config.model_validate(card["config"])
    coder, predictor = Coder(config.network, 2, 1), Predictor(config.network)
    fill({"encoder": coder.encoder, "generator": coder.generator, "predictor": predictor}, tensors)
    return Spectral(config, Cgml(config.maps, coder, predictor, card.get("calibration") or {}, device))
