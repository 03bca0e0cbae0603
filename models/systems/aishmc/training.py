"""Training of a progressive GAN: a critic and a generator, one update each an iteration, growing by levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from models.core.noise import Noise
from models.data.images import ImageData
from models.data.kinds import Data, one_set
from models.networks.progressive import Critic, Generator, faded
from models.systems.aishmc.config import Config, TrainingConfig
from models.systems.aishmc.growth import Growth, decay, rate
from models.systems.aishmc.losses import critic_terms
from models.systems.aishmc.model import generator_of
from models.systems.frame import fitted, prepared
from models.training.draws import Draws, Purpose
from models.training.guards import Limit, allows, first, not_finite
from models.training.learner import Learner, copied, frozen
from models.training.readings import Figures, Readings

SHEET = 8
"""Rows and columns of a sheet of samples."""
_CHUNK = 250
_RESIDENT = 1 << 32
"""Bytes of images that are kept on the device; larger sets stay with the host."""
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
        self.config, self.draws, self.device = config, Draws(seed), device
        self.images = data.images.to(device) if data.images.numel() <= _RESIDENT else data.images
        self.growth, self._penalty = Growth(), torch.zeros((), dtype=torch.float64, device=device)
        self._limits = _limits(config.training)
        self.readings = Readings(device, config.training.iterations, self._objection)
        self.clock, self.salt = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self.fade = torch.zeros(1, device=device)
        self.draws.weights()
        network, betas = config.network, config.training.betas
        critic = Critic(config.channels, config.size, network.base, network.most)
        self.generator: Learner[Generator] = Learner(
            "generator",
            generator_of(config).to(device),
            self._rate,
            betas=betas,
            decay=self._decay,
            captured=device.type != "cpu",
        )
        self.critic: Learner[Critic] = Learner(
            "critic", critic.to(device), self._rate, betas=betas, captured=device.type != "cpu"
        )

    def _rate(self, iteration: int) -> float:
        del iteration  # the number of images says more, and is the same
        return rate(self.config, self.growth.kimg)

    def _decay(self) -> float:
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
        """An update of the critic, then one of the generator against it; neither where a guard objects.

        Nothing waits for the device but a look at the figures. Until then an update that was held back counts as one
        of the growth: the training goes back when it is seen. The end of a level is looked at.
        """
        place, n = self.growth, self.config.levels[self.stage].batch_size
        after = place.after(n, self.config)
        for tensor, value in ((self.clock, iteration), (self.salt, salt), (self.fade, self.alpha)):
            tensor.fill_(value)
        known = {"kimg": place.kimg, "size": float(self.size), "alpha": self.alpha}
        self.readings.hold(iteration, {**self._updated(self.observed(n), lr_scale * self._rate(iteration)), **known})
        look = self.readings.due(iteration) or after.level != place.level
        metrics = self.readings.read() if look else {}
        if self.readings.trouble is None:
            self.advance(after)
        return metrics

    def _updated(self, real: Tensor, rate: float) -> Figures:
        """Both updates; what is worth logging."""
        told = self.judge(real)
        self._penalty.copy_(_MEMORY * self._penalty + (1 - _MEMORY) * told["penalty"].detach().double())
        told["mean_penalty"] = self._penalty.clone()
        allowed = allows(self._limits, {name: told[name] for name in ("real", "mean_penalty")})
        self._apply(self.critic, rate, told["critic_gradient"], allowed)
        told |= self.improve(real)
        self._apply(self.generator, rate, told["generator_gradient"], allowed)
        return {**told}

    def _apply(self, learner: Learner[Any], rate: float, norm: Tensor, allowed: Tensor) -> None:
        learner.schedule(rate)
        learner.apply(norm, None, allowed)

    def judge(self, real: Tensor) -> dict[str, Tensor]:
        """The gradients of the critic's loss on observed images.

        What is random follows from ``clock`` and ``salt``, how far the newest block is there from ``fade``; all are on
        the device, and the host reads nothing.
        """
        alpha, n = self._blend, len(real)
        with torch.no_grad():
            fake = self._made(self.generator.network, self._latents(n, Purpose.GENERATED), alpha)
        u = self._noise(n, Purpose.MIXTURE).uniform(1, 1, 1)
        training = self.config.training
        terms = critic_terms(lambda images: self.critic.network(images, alpha), real, fake, u)
        self.critic.backward(training.penalty * terms.penalty + training.drift * terms.drift - terms.distance)
        told = {"distance": terms.distance, "real": terms.real, "fake": terms.fake, "penalty": terms.penalty}
        return told | {"critic_gradient": self.critic.norm()}

    def improve(self, real: Tensor) -> dict[str, Tensor]:
        """The gradients of the generator's loss, as :meth:`judge`. ``diversity`` is the spread of a pixel over the
        batch, beside the data's.
        """
        alpha, n = self._blend, len(real)
        with frozen(self.critic.network):
            fake = self._made(self.generator.network, self._latents(n, Purpose.FOOLING), alpha)
            self.generator.backward(-self.critic.network(fake, alpha).mean())
        made, data = (images.detach().var(0).mean().sqrt() for images in (fake, real))
        return {"diversity": made / data.clamp(min=1e-6), "generator_gradient": self.generator.norm()}

    def advance(self, growth: Growth) -> None:
        """Go on to a place of the growth; a new level begins with fresh moments."""
        if growth.level != self.growth.level:
            for learner in (self.generator, self.critic):
                learner.load_moments({})
        self.growth = growth

    @property
    def _blend(self) -> Tensor | None:
        """How far the newest block is there; None if it all is, which the host knows."""
        return self.fade if self.alpha < 1 else None

    def _made(self, generator: Generator, z: Tensor, alpha: Tensor | None) -> Tensor:
        images: Tensor = generator(z, self.size, alpha)
        return images

    def _noise(self, n: int, purpose: Purpose) -> Noise:
        return self.draws.noise_at(n, purpose, self.clock, self.salt)

    def _latents(self, n: int, purpose: Purpose) -> Tensor:
        return self._noise(n, purpose).normal(self.config.network.latent)

    def observed(self, n: int) -> Tensor:
        """n images of the data as the critic is shown them now."""
        chosen = (self._noise(n, Purpose.DATA).uniform(1).flatten().double() * len(self.images)).long()
        chosen = chosen.to(self.images.device)
        images = prepared(self.images[chosen].to(self.device), self.config, self.size)
        if self.config.training.flip:
            flipped = self._noise(n, Purpose.FLIP).uniform(1, 1, 1) < 0.5
            images = torch.where(flipped, images.flip(3), images)
        return faded(images, self._blend)

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        del iteration, metrics
        return self.readings.trouble

    def _objection(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        del iteration
        return first(not_finite(metrics), *(limit.reason(metrics) for limit in self._limits))

    # Stages and state

    @property
    def stage(self) -> int:
        return self.growth.level

    def leave_stage(self) -> bool:
        if self.stage + 1 >= len(self.config.levels):
            return False
        self.advance(self.growth.next())
        return True

    def state(self) -> dict[str, Tensor]:
        self.readings.read()
        place = {"growth": torch.tensor(self.growth), "penalty": self._penalty}
        return self.generator.state() | self.critic.state() | copied(place)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.generator.load_state(state)
        self.critic.load_state(state)
        self.growth = Growth(*state["growth"].tolist())
        self._penalty.copy_(state["penalty"])
        self.readings.clear()

    def export(self) -> dict[str, Tensor]:
        """The averaged generator."""
        return copied({f"generator.{name}": value for name, value in self.generator.served.state_dict().items()})

    # Pictures

    def draw(self, n: int) -> Tensor | None:
        """n images of the average, once the newest block is all there; the same noise each time."""
        return None if self.alpha < 1 else self._drawn(n)

    def _drawn(self, n: int) -> Tensor:
        """The same noise whenever it is."""
        alpha = None if self.alpha == 1 else torch.full_like(self.fade, self.alpha)
        latents = self.draws.noise(n, Purpose.DRAW, device=self.device).normal(self.config.network.latent)
        with torch.no_grad():
            parts = [self._made(self.generator.served, z, alpha) for z in latents.split(_CHUNK)]
        return torch.cat(parts).clamp(-1, 1).cpu()

    def reference(self, images: Tensor) -> Tensor:
        """Real uint8 images as :meth:`draw` gives its own: padded, and pooled to the size of the level."""
        return fitted(images, self.config, self.size)

    def samples(self) -> Tensor:
        drawn = self._drawn(SHEET**2)
        return drawn.reshape(SHEET, SHEET, *drawn.shape[1:])


def _limits(guards: TrainingConfig) -> list[Limit]:
    """Beyond which no update is applied."""
    smooth = guards.guard_penalty
    return [
        Limit("the scale of f runs away", "|mean f|", ("real",), guards.guard_value),
        Limit("the critic is not smooth any more", "mean penalty", ("mean_penalty",), smooth),
    ]


def make_trainer(config: Config, data: Data, seed: int, device: torch.device) -> Trainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are two domains.
    """
    return Trainer(config, one_set(data).fit(config.image_size, config.channels), seed, device)
