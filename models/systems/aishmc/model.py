"""A trained generator, frozen for serving: a decoder in whose latents images are looked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Key, Noise
from models.networks.progressive import Generator
from models.samplers.cogeneration import Cogeneration
from models.samplers.observation import Observation, whole
from models.systems.aishmc.config import Config
from models.systems.aishmc.settings import Settings, start_rows
from models.systems.frame import Frame
from models.systems.weights import fill, frozen, nbytes


def generator_of(config: Config) -> Generator:
    """The generator of a configuration, untrained."""
    network = config.network
    return Generator(network.latent, config.channels, config.size, network.base, network.most)


@final
class GanModel:
    """A decoder, and the kernels that solve for its latents.

    Args:
        config: sizes, and what requests get that do not say how they are solved.
        generator: the averaged one.
        calibration: what ``calibration.calibrate`` measured; may be empty.
        device: where the rows live.
    """

    scale_invariant = True

    def __init__(
        self, config: Config, generator: Generator, calibration: Mapping[str, Any], device: torch.device
    ) -> None:
        self.config, self.calibration, self.device = config, calibration, device
        self.generator = frozen(generator, device)
        frame = Frame(config)
        self.padded, self.cropped, self.margin = frame.padded, frame.cropped, frame.margin
        self.latent_shape = (config.network.latent,)
        self.image_shape = (config.channels, config.size, config.size)
        self.kernels = Cogeneration(self, device)
        self.draw: Kernel = self._draw

    @property
    def condition(self) -> Rows:
        """Nothing: it has no classes."""
        return {}

    @property
    def nbytes(self) -> int:
        return nbytes(self.generator.state_dict().values(), *self.kernels.functions)

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        """G(z), not clipped."""
        del rows
        images: Tensor = self.generator(z)
        return images

    def _draw(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        """An image of a latent from the prior."""
        del t
        rows = {**rows, "x": noise.normal(*self.latent_shape)}
        return {**rows, "image": self.kernels.image(rows)}

    def shown(self, rows: Rows) -> Tensor:
        """The images of the latents as they are, as pictures of the data's size."""
        return self.pictures(self.kernels.image(rows))

    def pictures(self, images: Tensor) -> Tensor:
        """Decoded images clipped, at the data's size."""
        return self.cropped(images.clamp(-1, 1))

    def resampled(self, sampler: Callable[[Callable[[Rows], Tensor]], Kernel]) -> dict[Kernel, Kernel]:
        return {}  # no kernel climbs the value of an image

    def examples(self) -> list[tuple[Kernel, Rows]]:
        y = torch.linspace(-1, 1, self.kernels.scalars).reshape(self.image_shape)
        seen = Observation(whole(self.image_shape), y, torch.ones(1, 1, 1))
        start = start_rows(self.kernels, seen, Settings(step_sizes="row"), 1, {})
        begun = self.kernels.begin(start, torch.zeros(1, dtype=torch.int64), Noise([Key(1, 0, 0)], self.device))
        searched = {**start, "x": begun["x"], "f": begun["f"]}
        return [
            (self.draw, {"x": begun["x"]}),
            (self.kernels.begin, start),
            (self.kernels.step, begun),
            (self.kernels.search, searched),
            (self.kernels.finish, begun),
        ]


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> GanModel:
    """Build the model of a checkpoint.

    Raises:
        KeyError, ValueError: the card lacks something, or the tensors are not those of the configuration.
    """
    config = Config.model_validate(card["config"])
    generator = generator_of(config)
    fill({"generator": generator}, tensors)
    return GanModel(config, generator, card.get("calibration") or {}, device)
