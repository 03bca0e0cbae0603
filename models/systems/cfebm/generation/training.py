"""Training of an energy that generates: maximum likelihood with short runs, growing by stages (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.core.loop import checked
from models.data.images import ImageData
from models.data.kinds import Data, one_set
from models.systems.cfebm.config import Config
from models.systems.cfebm.fit import EnergyFit
from models.systems.cfebm.generation.corruption import corrupted, outliers
from models.systems.cfebm.matching import Paths
from models.systems.frame import fitted, prepared
from models.training.draws import Draws, Purpose
from models.training.readings import Figures, Readings
from models.training.team import ALONE, Team

SHEET = 8
"""Rows and columns of the sheet of samples."""


class GenerationTrainer:
    """The training of an energy whose chain starts from noise.

    Args:
        config: fitted to the data.
        data: the observed images.
        seed: everything random is a function of it and of the iteration.
        device: where the network is trained.
        team: the processes that train it.

    Raises:
        ValueError: a batch can't be shared out among them.
    """

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device, team: Team = ALONE) -> None:
        self.config, self.draws, self.device, self.team = config, Draws(seed), device, team
        self.images = data.images
        self.fit = EnergyFit(config, seed, device, team=team)
        self.readings = Readings(
            device, config.training.iterations, lambda _, metrics: self.fit.judge.objection(metrics)
        )
        for stage in config.stages:
            self._check_shares(stage.batch_size)

    def _check_shares(self, n: int) -> None:
        """Each process needs as many outliers as any other, for their loss is a mean, and a chain that starts from
        noise.
        """
        size = self.team.size
        uneven = bool(self.config.training.outliers) and (n // 2) % size > 0
        if size > 1 and (uneven or n - self._spoiled(n) < size):
            raise ValueError(f"a batch of {n} is too small for {size} devices: choose a multiple of {2 * size}")

    def _spoiled(self, n: int) -> int:
        """How many chains of a batch start from corrupted images."""
        return int(self.config.training.spoiled * n)

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """One batch: the chain under frozen parameters, then the update, unless a guard holds it back.

        Nothing waits for the device but a look at the figures. Until then an update that was held back counts as one
        of the growth: the training goes back when it is seen. The end of a stage is looked at.
        """
        n, matched = self.fit.stage.batch_size, iteration < self.config.matched and not self.fit.growth.stage
        look = self.readings.due(iteration) or (not matched and self.fit.grows(n))
        self.readings.hold(iteration, self._fitted(n, iteration, lr_scale, salt, matched))
        metrics = self.readings.read() if look else {}
        if not matched and self.readings.trouble is None:
            self.fit.advance(n)
        return metrics

    def _fitted(self, n: int, iteration: int, lr_scale: float, salt: int, matched: bool) -> Figures:
        """The batch and the update."""
        data = self._observed(n, iteration, salt).to(self.device, non_blocking=True)
        paths = self._paths(data, iteration, salt) if self.config.matched and not self.fit.growth.stage else None
        if paths is not None and matched:
            return self.fit.match(paths, iteration, lr_scale, self._outliers(n, iteration, salt))
        chain = self.team.together(n, lambda: self._chain(n, iteration, salt))
        return self.fit.step(data, chain, iteration, lr_scale, paths, self._outliers(n, iteration, salt))

    def _chain(self, n: int, iteration: int, salt: int) -> Tensor:
        """This process's chain ends of a batch, whose last rows are those that start from corrupted images."""
        own, corrupted = self.team.own, self._corrupted(n, iteration, salt)
        start = own(self._noise(n, Purpose.START, iteration, salt))
        keys = own(self.draws.rows(n, Purpose.CHAIN, iteration, salt))
        if corrupted is not None:
            corrupted = own(corrupted, before=n - len(corrupted))
        return self.fit.draw(start, keys, corrupted if corrupted is not None and len(corrupted) else None)

    def _paths(self, images: Tensor, *keys: int) -> Paths:
        """From noise, uniform in [-1, 1], to these images."""
        generator = self.draws.generator(Purpose.MATCHING, *keys)
        noise = torch.rand(images.shape, generator=generator) * 2 - 1
        t = torch.rand(len(images), 1, 1, 1, generator=generator)
        return images, noise.to(self.device, non_blocking=True), t.to(self.device, non_blocking=True)

    def _outliers(self, batch: int, *keys: int) -> Tensor | None:
        """Images that are none, made of observed ones, half as many as a batch has."""
        training = self.config.training
        if not training.outliers:
            return None
        images = self._observed(max(1, batch // 2), *keys, Purpose.OUTLIERS)
        generator = self.draws.generator(Purpose.OUTLIERS, *keys)
        return outliers(images, training.spoiled_std, generator).to(self.device, non_blocking=True)

    def _corrupted(self, batch: int, iteration: int, salt: int) -> Tensor | None:
        """Other observed images, with noise and holes, for a share of the chains to start from."""
        training = self.config.training
        n = self._spoiled(batch)
        if not n:
            return None
        images = self._observed(n, iteration, salt, Purpose.CORRUPTION)
        generator = self.draws.generator(Purpose.CORRUPTION, iteration, salt)
        return corrupted(images, training.spoiled_std, generator, outlined=training.outlined).to(
            self.device, non_blocking=True
        )

    def _observed(self, n: int, *keys: int) -> Tensor:
        training = self.config.training
        chosen = self.draws.index(len(self.images), n, Purpose.DATA, *keys)
        images = prepared(self.images[chosen], self.config, self.fit.stage.size)
        if training.flip:
            flipped = torch.rand(len(images), 1, 1, 1, generator=self.draws.generator(Purpose.FLIP, *keys)) < 0.5
            images = torch.where(flipped, images.flip(3), images)
        if training.data_noise:
            noise = torch.randn(images.shape, generator=self.draws.generator(Purpose.DATA_NOISE, *keys))
            # Clamped, as chain ends are: else f learns to know images by what reaches beyond their ground.
            images = (images + training.data_noise * noise).clamp(-1, 1)
        return images

    def _noise(self, n: int, *keys: int) -> Tensor:
        size, generator = self.config.size, self.draws.generator(*keys)
        noise = torch.rand(n, self.config.channels, size, size, generator=generator) * 2 - 1
        return noise.to(self.device, non_blocking=True)

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        del iteration, metrics
        return self.readings.trouble

    @property
    def stage(self) -> int:
        return self.fit.growth.stage

    def leave_stage(self) -> bool:
        return self.fit.leave_stage()

    def state(self) -> dict[str, Tensor]:
        self.readings.read()
        return self.fit.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.fit.load_state(state)
        self.readings.clear()

    def export(self) -> dict[str, Tensor]:
        return self.fit.export()

    def draw(self, n: int) -> Tensor | None:
        """n chain ends as images, once the newest block is all there; the same noise each time."""
        return None if self.fit.alpha < 1 else self._drawn(n)

    def _drawn(self, n: int) -> Tensor:
        chunk = self.fit.rows
        start = self._noise(n, Purpose.DRAW, 0, 0).split(chunk)
        keys = self.draws.rows(n, Purpose.DRAW)
        parts = [
            self.fit.draw(part, keys[k * chunk :][: len(part)], served=True, end=checked)
            for k, part in enumerate(start)
        ]
        return torch.cat(parts).cpu()

    def reference(self, images: Tensor) -> Tensor:
        """Real uint8 images as :meth:`draw` gives its own: padded, and pooled to the size of the stage."""
        return fitted(images, self.config, self.fit.stage.size)

    def samples(self) -> Tensor:
        drawn = self._drawn(SHEET**2)
        return drawn.reshape(SHEET, SHEET, *drawn.shape[1:])


def make_trainer(config: Config, data: Data, seed: int, device: torch.device, team: Team = ALONE) -> GenerationTrainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are two domains.
    """
    return GenerationTrainer(config, one_set(data).fit(config.image_size, config.channels), seed, device, team)
