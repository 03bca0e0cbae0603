"""Training of a progressive GAN: a critic and a generator, one update each an iteration, growing by levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from models.data.images import ImageData
from models.data.kinds import Data, one_set
from models.networks.progressive import Critic, Generator, faded
from models.systems.aishmc.config import Config
from models.systems.aishmc.growth import Growth, decay, rate
from models.systems.aishmc.losses import critic_terms
from models.systems.aishmc.model import generator_of
from models.systems.frame import fitted, prepared
from models.training.draws import Draws, Purpose
from models.training.guards import above, first, runaway
from models.training.learner import Learner, copied, frozen

SHEET = 8
"""Rows and columns of a sheet of samples."""
_CHUNK = 250
_MEMORY = 0.99
"""Of the running mean of the penalty: about a hundred updates."""


@final
class Trainer:
    """The training of a progressive GAN.

    Args:
        config: fitted to the data.
        data: the observed images.
        seed: everything random is a function of it and of the iteration.
        device: where the networks are trained.
    """

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device) -> None:
        self.config, self.draws, self.device, self.images = config, Draws(seed), device, data.images
        self.growth, self._penalty = Growth(), 0.0
        self.draws.weights()
        network, betas = config.network, config.training.betas
        critic = Critic(config.channels, config.size, network.base, network.most)
        self._generator: Learner[Generator] = Learner(
            "generator", generator_of(config).to(device), self._rate, betas=betas, decay=self._decay
        )
        self._critic: Learner[Critic] = Learner("critic", critic.to(device), self._rate, betas=betas)

    def _rate(self, iteration: int) -> float:
        del iteration  # the number of images says more, and is the same
        return rate(self.config, self.growth.kimg)

    def _decay(self, iteration: int) -> float:
        del iteration
        return decay(self.config, self.growth.kimg)

    @property
    def size(self) -> int:
        """Pixels of the side at this level."""
        return self.config.levels[self.stage].size

    @property
    def alpha(self) -> float:
        return self.growth.alpha(self.config)

    # The update

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """An update of the critic, then one of the generator against it."""
        n = self.config.levels[self.stage].batch_size
        real = self._observed(n, iteration, salt)
        metrics = self._judge(real, n, iteration, salt) | {
            "kimg": self.growth.kimg,
            "size": float(self.size),
            "alpha": self.alpha,
        }
        if self.diverged(iteration, metrics) is not None:
            return metrics
        self._critic.update(iteration, lr_scale)
        metrics |= self._draw_better(real, n, iteration, salt)
        self._generator.update(iteration, lr_scale)
        self._advance(self.growth.after(n, self.config))
        return metrics

    def _judge(self, real: Tensor, n: int, *keys: int) -> dict[str, float]:
        """The gradients of the critic's loss."""
        with torch.no_grad():
            fake = self._made(self._generator.network, self._latents(n, Purpose.GENERATED, *keys))
        u = self.draws.noise(n, Purpose.MIXTURE, *keys, device=self.device).uniform(1, 1, 1)
        training = self.config.training
        terms = critic_terms(lambda images: self._critic.network(images, self.alpha), real, fake, u)
        self._critic.backward(training.penalty * terms.penalty + training.drift * terms.drift - terms.distance)
        told = {"distance": terms.distance, "real": terms.real, "fake": terms.fake, "penalty": terms.penalty}
        numbers = {name: float(value.detach()) for name, value in told.items()}
        self._penalty = _MEMORY * self._penalty + (1 - _MEMORY) * numbers["penalty"]
        return {
            **numbers,
            "mean_penalty": self._penalty,
            "critic_gradient": self._critic.gradient_norm(),
        }

    def _draw_better(self, real: Tensor, n: int, *keys: int) -> dict[str, float]:
        """The gradients of the generator's loss. ``diversity`` is the spread of a pixel over the batch, beside the
        data's.
        """
        with frozen(self._critic.network):
            fake = self._made(self._generator.network, self._latents(n, Purpose.FOOLING, *keys))
            self._generator.backward(-self._critic.network(fake, self.alpha).mean())
        spread = [float(images.detach().var(0).mean().sqrt()) for images in (fake, real)]
        return {
            "diversity": spread[0] / max(spread[1], 1e-6),
            "generator_gradient": self._generator.gradient_norm(),
        }

    def _advance(self, growth: Growth) -> None:
        """Go on to a place of the growth; a new level begins with fresh moments."""
        if growth.level != self.growth.level:
            for learner in (self._generator, self._critic):
                learner.load_moments({})
        self.growth = growth

    def _made(self, generator: Generator, z: Tensor) -> Tensor:
        images: Tensor = generator(z, self.size, self.alpha)
        return images

    def _latents(self, n: int, *keys: int) -> Tensor:
        return self.draws.noise(n, *keys, device=self.device).normal(self.config.network.latent)

    def _observed(self, n: int, *keys: int) -> Tensor:
        chosen = self.draws.index(len(self.images), n, Purpose.DATA, *keys)
        images = prepared(self.images[chosen], self.config, self.size).to(self.device)
        if self.config.training.flip:
            flipped = self.draws.noise(n, Purpose.FLIP, *keys, device=self.device).uniform(1, 1, 1) < 0.5
            images = torch.where(flipped, images.flip(3), images)
        return faded(images, self.alpha)

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        guards = self.config.training
        return first(
            runaway((metrics["real"],), guards.guard_value),
            above("the critic is not smooth any more", "mean penalty", metrics["mean_penalty"], guards.guard_penalty),
        )

    # Stages and state

    @property
    def stage(self) -> int:
        return self.growth.level

    def leave_stage(self) -> bool:
        if self.stage + 1 >= len(self.config.levels):
            return False
        self._advance(self.growth.next())
        return True

    def state(self) -> dict[str, Tensor]:
        place = {"growth": torch.tensor(self.growth), "penalty": torch.tensor(self._penalty, dtype=torch.float64)}
        return self._generator.state() | self._critic.state() | place

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._generator.load_state(state)
        self._critic.load_state(state)
        self.growth, self._penalty = Growth(*state["growth"].tolist()), float(state["penalty"])

    def export(self) -> dict[str, Tensor]:
        """The averaged generator."""
        return copied({f"generator.{name}": value for name, value in self._generator.served.state_dict().items()})

    # Pictures

    def draw(self, n: int) -> Tensor | None:
        """n images of the average, once the newest block is all there; the same noise each time."""
        return None if self.alpha < 1 else self._drawn(n)

    def _drawn(self, n: int) -> Tensor:
        with torch.no_grad():
            parts = [self._made(self._generator.served, z) for z in self._latents(n, Purpose.DRAW).split(_CHUNK)]
        return torch.cat(parts).clamp(-1, 1).cpu()

    def reference(self, images: Tensor) -> Tensor:
        """Real uint8 images as :meth:`draw` gives its own: padded, and pooled to the size of the level."""
        return fitted(images, self.config, self.size)

    def samples(self) -> Tensor:
        drawn = self._drawn(SHEET**2)
        return drawn.reshape(SHEET, SHEET, *drawn.shape[1:])


def make_trainer(config: Config, data: Data, seed: int, device: torch.device) -> Trainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are two domains.
    """
    return Trainer(config, one_set(data).fit(config.image_size, config.channels), seed, device)
