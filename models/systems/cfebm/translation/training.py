"""Training of two energies for translation without pairs (section 3.3 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.loop import checked
from models.data.kinds import Data, two_domains
from models.data.unpaired import UnpairedData
from models.systems.cfebm.config import Config
from models.systems.cfebm.fit import EnergyFit
from models.systems.frame import fitted, pooled, prepared
from models.training.draws import Draws, Purpose
from models.training.guards import first
from models.training.learner import below
from models.training.readings import Figures, Readings
from models.training.team import ALONE, Team

_SHEET = 8


class TranslationTrainer:
    """The training of two energies, one a direction; each chain starts from images of the other domain (section 3.3).

    The two have nothing in common but the data: there is no term that closes the cycle.

    Args:
        config: fitted to the data.
        data: images of the source and of the target domain; each is drawn by itself.
        seed: everything random is a function of it and of the iteration.
        device: where the networks are trained.
        team: the processes that train them.
    """

    def __init__(self, config: Config, data: UnpairedData, seed: int, device: torch.device, team: Team = ALONE) -> None:
        self.config, self.draws, self.device, self.team = config, Draws(seed), device, team
        domains = {config.source: data.source, config.target: data.target}
        self.domains = {name: prepared(own.images, config, config.size) for name, own in domains.items()}
        self.fits = {
            name: EnergyFit(config, self.draws.key(k), device, team=team) for k, name in enumerate(self.domains)
        }
        self.readings = Readings(device, config.training.iterations, self._objection)

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """One batch in each direction; neither is updated if a guard objects to the first.

        Nothing waits for the device but a look at the figures, see :class:`..generation.training.GenerationTrainer`.
        """
        sizes = {name: fit.stage.batch_size for name, fit in self.fits.items()}
        look = self.readings.due(iteration) or any(fit.grows(sizes[name]) for name, fit in self.fits.items())
        figures: Figures = {}
        leave: Tensor | None = None
        for name, fit in self.fits.items():
            found = self._fitted(name, fit, iteration, lr_scale, salt, leave)
            leave = fit.judge.allows(found)
            figures |= {f"{name}.{key}": value for key, value in found.items()}
        self.readings.hold(iteration, figures)
        metrics = self.readings.read() if look else {}
        if self.readings.trouble is None:
            for name, fit in self.fits.items():
                fit.advance(sizes[name])
        return metrics

    def _fitted(
        self, name: str, fit: EnergyFit, iteration: int, lr_scale: float, salt: int, leave: Tensor | None
    ) -> Figures:
        """The batch and the update of one direction."""
        n = fit.stage.batch_size
        (other,) = (domain for domain in self.domains if domain != name)
        place = list(self.domains).index(name)
        data = self._observed(name, n, Purpose.DATA, place, iteration, salt)
        start = self._observed(other, n, Purpose.START, place, iteration, salt)
        own, keys = self.team.own, self.draws.rows(n, Purpose.CHAIN, place, iteration, salt)
        chain = self.team.together(n, lambda: fit.draw(own(start), own(keys)))
        return fit.step(data, chain, iteration, lr_scale, leave=leave)

    def _observed(self, name: str, n: int, *keys: int) -> Tensor:
        """Images of a domain with the noise of the training, at the size of its stage.

        Clamped, as chain ends are: by what reaches beyond a white ground alone an energy could tell the two apart. The
        authors clamp neither; at this size their chains left the range and f with them.
        """
        training, generator = self.config.training, self.draws.generator(*keys)
        images = self.domains[name]
        chosen = images[torch.randint(len(images), (n,), generator=generator)]
        if training.flip:
            flipped = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
            chosen = torch.where(flipped, chosen.flip(3), chosen)
        small = pooled(chosen, self.config.stages[self.stage].size)
        noisy = small + training.data_noise * torch.randn(small.shape, generator=generator)
        return noisy.clamp(-1, 1).to(self.device, non_blocking=True)

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        del iteration, metrics
        return self.readings.trouble

    def _objection(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        del iteration
        return first(*(self._against(name, metrics) for name in self.fits))

    def _against(self, name: str, metrics: Mapping[str, float]) -> str | None:
        """What there is against the update of one direction."""
        own = {key.removeprefix(f"{name}."): value for key, value in metrics.items() if key.startswith(f"{name}.")}
        reason = self.fits[name].judge.objection(own)
        return f"towards {name}: {reason}" if reason else None

    @property
    def stage(self) -> int:
        """That of the direction that is behind."""
        return min(fit.growth.stage for fit in self.fits.values())

    def leave_stage(self) -> bool:
        left = [fit.leave_stage() for fit in self.fits.values()]
        return all(left)

    def state(self) -> dict[str, Tensor]:
        self.readings.read()
        return {f"{name}/{key}": value for name, fit in self.fits.items() for key, value in fit.state().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, fit in self.fits.items():
            fit.load_state(below(f"{name}/", state))
        self.readings.clear()

    def export(self) -> dict[str, Tensor]:
        return {f"{name}/{key}": value for name, fit in self.fits.items() for key, value in fit.export().items()}

    def _translated(self, name: str, start: Tensor) -> Tensor:
        fit = self.fits[name]
        keys = self.draws.rows(len(start), Purpose.DRAW)
        return fit.draw(pooled(start, fit.stage.size).to(self.device), keys, end=checked).cpu()

    def draw(self, n: int) -> Tensor | None:
        """n translations into the target domain, of the first images of the source domain."""
        if any(fit.alpha < 1 for fit in self.fits.values()):
            return None
        parts = self.domains[self.config.source][:n].split(self.fits[self.config.target].rows)
        return torch.cat([self._translated(self.config.target, part) for part in parts])

    def reference(self, images: Tensor) -> Tensor:
        return fitted(images, self.config, self.config.stages[self.stage].size)

    def samples(self) -> Tensor:
        """Rows: images of the source, their translations, images of the target, their translations."""
        shown = min(_SHEET, *map(len, self.domains.values()))
        rows = []
        for name, other in ((self.config.target, self.config.source), (self.config.source, self.config.target)):
            start = self.domains[other][:shown]
            translated = self._translated(name, start)
            rows += [F.interpolate(start, size=translated.shape[-2:], mode="area"), translated]
        return torch.stack(rows)


def make_trainer(config: Config, data: Data, seed: int, device: torch.device, team: Team = ALONE) -> TranslationTrainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are not two domains.
    """
    return TranslationTrainer(config, two_domains(data).fit(config.image_size, config.channels), seed, device, team)
