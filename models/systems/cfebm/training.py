"""Training of CF-EBM: by maximum likelihood with short runs, growing by stages (Algorithm 1 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.noise import mix
from models.data.images import ImageData, to_float
from models.data.images import fit as fit_images
from models.data.kinds import Data, one_set, two_domains
from models.data.unpaired import UnpairedData
from models.systems.cfebm.config import Config
from models.systems.cfebm.fit import EnergyFit
from models.systems.cfebm.generation.corruption import spoiled
from models.systems.cfebm.growth import rate_factor

DATA, START, CHAIN, NOISE, FLIP, DRAW, SPOIL = range(7)
"""Purposes of random numbers: each is keyed by (seed, purpose, iteration), so that a resumed training repeats them."""

_SHEET = 8
_CHUNK = 250


class GenerationTrainer:
    """The training of an energy whose chain starts from noise.

    Args:
        config: fitted to the data.
        data: the observed images.
        seed: everything random is a function of it and of the iteration.
        device: where the network is trained.
    """

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device) -> None:
        self.config, self.seed, self.device = config, seed, device
        self.images = data.images
        self.fit = EnergyFit(config, seed, device)

    def _generator(self, *keys: int) -> torch.Generator:
        return torch.Generator().manual_seed(mix(self.seed, *keys))

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """One batch: the chain under frozen parameters, then the update, unless a guard holds it back."""
        stage = self.config.stages[self.fit.growth.stage]
        data = self._observed(stage.batch_size, iteration, salt).to(self.device)
        start = self._noise(START, iteration, salt, len(data))
        keys = [mix(self.seed, CHAIN, iteration, salt, row) for row in range(len(data))]
        chain = self.fit.draw(start, keys, self._spoiled(iteration, salt))
        metrics = self.fit.step(data, chain, lr_scale * rate_factor(self.config, iteration))
        if self.fit.harm(metrics) is None:
            self.fit.advance(stage.batch_size)
        return metrics

    def _spoiled(self, iteration: int, salt: int) -> Tensor | None:
        """Other observed images, with noise and holes, for a share of the chains to start from."""
        training = self.config.training
        n = int(training.spoiled * self.config.stages[self.stage].batch_size)
        if not n:
            return None
        images = self._observed(n, iteration, salt, SPOIL)
        generator = self._generator(SPOIL, iteration, salt)
        return spoiled(images, training.spoiled_std, generator).to(self.device)

    def _observed(self, n: int, *keys: int) -> Tensor:
        training = self.config.training
        chosen = torch.randint(len(self.images), (n,), generator=self._generator(DATA, *keys))
        images = prepared(self.images[chosen], self.config, self.config.stages[self.stage].size)
        if training.flip:
            flipped = torch.rand(len(images), 1, 1, 1, generator=self._generator(FLIP, *keys)) < 0.5
            images = torch.where(flipped, images.flip(3), images)
        if training.data_noise:
            noise = torch.randn(images.shape, generator=self._generator(NOISE, *keys))
            # Clamped, as chain ends are: else f learns to know images by what reaches beyond their ground.
            images = (images + training.data_noise * noise).clamp(-1, 1)
        return images

    def _noise(self, purpose: int, iteration: int, salt: int, n: int) -> Tensor:
        size, generator = self.config.size, self._generator(purpose, iteration, salt)
        return (torch.rand(n, self.config.channels, size, size, generator=generator) * 2 - 1).to(self.device)

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        return self.fit.harm(metrics)

    @property
    def stage(self) -> int:
        return self.fit.growth.stage

    def leave_stage(self) -> bool:
        return self.fit.leave_stage()

    def state(self) -> dict[str, Tensor]:
        return self.fit.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.fit.load_state(state)

    def export(self) -> dict[str, Tensor]:
        return self.fit.export()

    def draw(self, n: int) -> Tensor | None:
        """n chain ends as images, once the newest block is all there; the same noise each time."""
        if self.fit.alpha < 1:
            return None
        start = self._noise(DRAW, 0, 0, n).split(_CHUNK)
        keys = [mix(self.seed, DRAW, row) for row in range(n)]
        parts = [self.fit.draw(part, keys[k * _CHUNK :][: len(part)]) for k, part in enumerate(start)]
        return torch.cat(parts).cpu()

    def reference(self, images: Tensor) -> Tensor:
        """Real uint8 images as :meth:`draw` gives its own: padded, and pooled to the size of the stage."""
        return _fitted(images, self.config, self.stage)

    def samples(self) -> Tensor:
        start = self._noise(DRAW, 0, 0, _SHEET**2)
        drawn = self.fit.draw(start, [mix(self.seed, DRAW, row) for row in range(len(start))])
        return drawn.reshape(_SHEET, _SHEET, *drawn.shape[1:]).cpu()


class TranslationTrainer:
    """The training of two energies, one a direction; each chain starts from images of the other domain (section 3.3).

    The two have nothing in common but the data: there is no term that closes the cycle.

    Args:
        config: fitted to the data.
        data: images of the source and of the target domain; each is drawn by itself.
        seed: everything random is a function of it and of the iteration.
        device: where the networks are trained.
    """

    def __init__(self, config: Config, data: UnpairedData, seed: int, device: torch.device) -> None:
        self.config, self.seed, self.device = config, seed, device
        domains = {config.source: data.source, config.target: data.target}
        self.domains = {name: prepared(own.images, config, config.size) for name, own in domains.items()}
        self.fits = {name: EnergyFit(config, mix(seed, k), device) for k, name in enumerate(self.domains)}

    def _generator(self, *keys: int) -> torch.Generator:
        return torch.Generator().manual_seed(mix(self.seed, *keys))

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """One batch in each direction; neither is updated if a guard objects to the first."""
        metrics: dict[str, float] = {}
        for name, fit in self.fits.items():
            found = self._step(name, fit, iteration, lr_scale, salt)
            metrics |= {f"{name}.{key}": value for key, value in found.items()}
            if fit.harm(found):
                break
        return metrics

    def _step(self, name: str, fit: EnergyFit, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        stage = self.config.stages[fit.growth.stage]
        (other,) = (domain for domain in self.domains if domain != name)
        place = list(self.domains).index(name)
        data = self._drawn(name, stage.batch_size, (DATA, place, iteration, salt))
        start = self._drawn(other, stage.batch_size, (START, place, iteration, salt))
        keys = [mix(self.seed, CHAIN, place, iteration, salt, row) for row in range(len(data))]
        metrics = fit.step(data, fit.draw(start, keys), lr_scale * rate_factor(self.config, iteration))
        if fit.harm(metrics) is None:
            fit.advance(stage.batch_size)
        return metrics

    def _drawn(self, name: str, n: int, keys: tuple[int, ...]) -> Tensor:
        """Images of a domain with the noise of the training, at the size of its stage.

        Clamped, as chain ends are: by what reaches beyond a white ground alone an energy could tell the two apart. The
        authors clamp neither; at this size their chains left the range and f with them.
        """
        training, generator = self.config.training, self._generator(*keys)
        images = self.domains[name]
        chosen = images[torch.randint(len(images), (n,), generator=generator)]
        if training.flip:
            flipped = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
            chosen = torch.where(flipped, chosen.flip(3), chosen)
        size = self.config.stages[self.stage].size
        pooled = F.avg_pool2d(chosen, self.config.size // size) if size < self.config.size else chosen
        noisy = pooled + training.data_noise * torch.randn(pooled.shape, generator=generator)
        return noisy.clamp(-1, 1).to(self.device)

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        for name, fit in self.fits.items():
            own = {key.removeprefix(f"{name}."): value for key, value in metrics.items() if key.startswith(f"{name}.")}
            if own and (reason := fit.harm(own)):
                return f"towards {name}: {reason}"
        return None

    @property
    def stage(self) -> int:
        """That of the direction that is behind."""
        return min(fit.growth.stage for fit in self.fits.values())

    def leave_stage(self) -> bool:
        left = [fit.leave_stage() for fit in self.fits.values()]
        return all(left)

    def state(self) -> dict[str, Tensor]:
        return {f"{name}/{key}": value for name, fit in self.fits.items() for key, value in fit.state().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, fit in self.fits.items():
            prefix = f"{name}/"
            fit.load_state({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    def export(self) -> dict[str, Tensor]:
        return {f"{name}/{key}": value for name, fit in self.fits.items() for key, value in fit.export().items()}

    def _translated(self, name: str, start: Tensor) -> Tensor:
        fit = self.fits[name]
        size = self.config.stages[fit.growth.stage].size
        pooled = F.avg_pool2d(start, self.config.size // size) if size < self.config.size else start
        keys = [mix(self.seed, DRAW, row) for row in range(len(start))]
        return fit.draw(pooled.to(self.device), keys).cpu()

    def draw(self, n: int) -> Tensor | None:
        """n translations into the target domain, of the first images of the source domain."""
        if any(fit.alpha < 1 for fit in self.fits.values()):
            return None
        parts = self.domains[self.config.source][:n].split(_CHUNK)
        return torch.cat([self._translated(self.config.target, part) for part in parts])

    def reference(self, images: Tensor) -> Tensor:
        return _fitted(images, self.config, self.stage)

    def samples(self) -> Tensor:
        """Rows: images of the source, their translations, images of the target, their translations."""
        shown = min(_SHEET, *map(len, self.domains.values()))
        rows = []
        for name, other in ((self.config.target, self.config.source), (self.config.source, self.config.target)):
            start = self.domains[other][:shown]
            translated = self._translated(name, start)
            rows += [F.interpolate(start, size=translated.shape[-2:], mode="area"), translated]
        return torch.stack(rows)


def prepared(images: Tensor, config: Config, size: int) -> Tensor:
    """uint8 images of the data -> floats in [-1, 1] at the size of a stage: padded by the border, then averaged."""
    margin = (config.size - config.image_size) // 2
    padded = F.pad(to_float(images), (margin,) * 4, value=config.border)
    return F.avg_pool2d(padded, config.size // size) if size < config.size else padded


def _fitted(images: Tensor, config: Config, stage: int) -> Tensor:
    """The same of images as the data have them, which may be larger or of other channels."""
    return prepared(fit_images(images, config.image_size, config.channels), config, config.stages[stage].size)


def make_trainer(config: Config, data: Data, seed: int, device: torch.device) -> GenerationTrainer | TranslationTrainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are not of the kind that the configuration's task learns from.
    """
    shape = config.image_size, config.channels
    if config.task == "translate":
        return TranslationTrainer(config, two_domains(data).fit(*shape), seed, device)
    return GenerationTrainer(config, one_set(data).fit(*shape), seed, device)
