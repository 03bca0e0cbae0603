"""The fitting of one energy: its network, the chain that it is taught by, the update, and its growth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor

from models.core.loop import Kernel, Loop, Rows, blanked, run
from models.samplers.shortrun import shortrun
from models.systems.cfebm.chain import Segment, annealed, growing
from models.systems.cfebm.config import Config, StageConfig
from models.systems.cfebm.growth import Growth, rate
from models.systems.cfebm.guards import Judge
from models.systems.cfebm.matching import Paths, mismatch, misranking
from models.systems.cfebm.networks import Energy, Kernels, fuse, value
from models.systems.cfebm.plain import exported, plain_kernels
from models.training.draws import Draws
from models.training.learner import Learner, below, copied, mixed_precision
from models.training.readings import EVERY, Figures
from models.training.team import ALONE, Team


class EnergyFit:
    """One energy in training.

    Args:
        config: sizes, chain and rates, already fitted to the data.
        seed: everything random is a function of it, of the iteration and of the salt.
        device: where the network is trained.
        function: f of images under plain kernels, called as :func:`models.systems.cfebm.networks.value` is.
        team: the processes that train it; each learns from its rows of what :meth:`step` and :meth:`match` are given.
    """

    def __init__(
        self,
        config: Config,
        seed: int,
        device: torch.device,
        function: Callable[..., Tensor] = value,
        team: Team = ALONE,
    ) -> None:
        self.config, self.draws, self.device, self._function = config, Draws(seed), device, function
        self.team = team
        self.draws.weights()
        self._begin(Growth(), self._network(0))
        self.frozen: list[Energy] = []

    def _network(self, stage: int) -> Energy:
        return Energy(self.config.network, self.config.channels, self.config.entries_of(stage)).to(self.device)

    def _begin(self, growth: Growth, network: Energy) -> None:
        """A place in the growth, with a fresh Adam and nothing for the guards to remember."""
        stage, training = self.config.stages[growth.stage], self.config.training
        self.growth = growth
        self.learner = Learner(
            "live",
            network,
            partial(rate, self.config, stage),
            betas=training.betas,
            decay=training.ema or None,
            moments="opt",
            captured=self.device.type != "cpu",
            team=self.team,
        )
        self.judge = Judge(training.guards, self.device)

    @property
    def live(self) -> Energy:
        """The network that is updated."""
        return self.learner.network

    @property
    def stage(self) -> StageConfig:
        return self.config.stages[self.growth.stage]

    @property
    def rows(self) -> int:
        """The rows that an update passes through the network at a time. No more are drawn at once, so that the memory
        of a training is that of its batches.
        """
        return 2 * self.stage.batch_size

    @property
    def alpha(self) -> float:
        return self.growth.alpha(self.config.stages)

    # The chain

    def _precision(self) -> AbstractContextManager[object]:
        return mixed_precision(self.device, self.config.training.precision)

    def _f(self, kernels: Kernels, images: Tensor, alpha: float) -> Tensor:
        with self._precision():
            return self._function(kernels, images, activation=self.config.network.activation, alpha=alpha)

    def _step(self, kernels: Kernels, alpha: float = 1.0) -> Kernel:
        """A step of the short run under plain kernels."""
        return shortrun(lambda rows: self._f(kernels, rows["y"], alpha))

    def segments(self, *, served: bool = False) -> list[Segment]:
        """The chain at this place of the growth (Algorithm 2 and appendix A.8).

        ``served``: under the averaged weights, where there are any.
        """
        stages, last, alpha = self.config.stages[: self.growth.stage + 1], self.stage, self.alpha
        precision = self.config.training.precision
        live = plain_kernels(self.learner.served if served else self.live, last.size if alpha == 1 else None, precision)
        finest = self._step(live, alpha), last.size
        if self.config.growth == "chained":
            sized = zip(self.frozen, [stage.size for stage in stages], strict=False)
            frozen = [(self._step(plain_kernels(net, size, precision)), size) for net, size in sized]
            return annealed([*frozen, finest], [stage.steps for stage in stages], self.config.steps)
        if alpha == 1 or self.config.task == "translate":
            return annealed([finest], [last.steps])
        coarse = stages[-2]
        before = annealed([(self._step(live), coarse.size)], [int(coarse.steps * (1 - alpha))])
        return [*before, *annealed([finest], [last.steps])]

    def draw(
        self,
        start: Tensor,
        keys: Sequence[int],
        corrupted: Tensor | None = None,
        *,
        served: bool = False,
        end: Callable[[Loop, Rows], Rows] = blanked,
    ) -> Tensor:
        """Chain ends in [-1, 1] at the size of the stage; those that have diverged are NaN.

        Args:
            start: of a translation: images of the other domain, at the size of the stage. Of a generation: numbers
                uniform in [-1, 1], at the size of the last stage of the whole growth, of which each segment takes a
                corner.
            keys: one seed a row.
            corrupted: images from which the last rows of a generation start, in the last segment.
            served: under the averaged weights, where there are any.
            end: as :func:`models.core.loop.run` takes it.
        """
        chain = growing(self, self.alpha, start, keys, corrupted, self.segments(served=served))
        return run(chain, device=self.device, end=end)["y"].detach()

    # The update

    def step(
        self,
        data: Tensor,
        chain: Tensor,
        iteration: int,
        lr_scale: float = 1.0,
        paths: Paths | None = None,
        outliers: Tensor | None = None,
        leave: Tensor | None = None,
    ) -> Figures:
        """Descend mean f(chain) - mean f(data), unless a guard says that this update would do harm.

        Args:
            data: observed images at the size of the stage.
            chain: as many chain ends.
            iteration: of the training, for the rate.
            lr_scale: what the rate is multiplied by.
            paths: with these, ``training.contrast`` times that, and the mismatch with them.
            outliers: with these, ``training.outliers`` times their ranking below the data as well.
            leave: bool ``[]``; an update without it is not applied either.

        Returns:
            What is worth logging, to be judged by ``judge.objection``; if that gives a reason, nothing was changed
            but the singular vectors.
        """
        self.live.train()
        kernels = fuse(self.live.effective())
        own = self.team.own(data)
        f = self._f(kernels, torch.cat([own, self.team.own(chain)]), self.alpha)
        f_data, f_chain = (part.mean() for part in f.split(len(own)))
        loss = f_chain - f_data
        if paths is not None:
            loss = self.config.training.contrast * loss + self._mismatch(kernels, paths)
        loss = loss + self._ranking(kernels, f[: len(own)], outliers)
        self.learner.backward(loss)
        return self._updated(data, chain, f_data, f_chain, iteration, lr_scale, leave)

    def match(self, paths: Paths, iteration: int, lr_scale: float = 1.0, outliers: Tensor | None = None) -> Figures:
        """Descend the mismatch with straight paths, without a chain, under the same guards; returns as :meth:`step`."""
        self.live.train()
        kernels = fuse(self.live.effective())
        loss = self._mismatch(kernels, paths)
        own = self.team.own(paths[0])
        ranking = 0.0 if outliers is None else self._ranking(kernels, self._f(kernels, own, 1.0), outliers)
        self.learner.backward(loss + ranking)
        zero, images = torch.zeros((), device=self.device), paths[0]
        return self._updated(images, images, zero, zero, iteration, lr_scale) | {
            "mismatch": self.team.mean(loss.detach())
        }

    def _mismatch(self, kernels: Kernels, paths: Paths) -> Tensor:
        return mismatch(lambda images: self._f(kernels, images, 1.0), *map(self.team.own, paths))

    def _ranking(self, kernels: Kernels, f_data: Tensor, outliers: Tensor | None) -> Tensor | float:
        """``training.outliers`` times how far each is from being ranked below an observed image."""
        if outliers is None:
            return 0.0
        f = self._f(kernels, self.team.own(outliers), self.alpha)
        return self.config.training.outliers * misranking(f, f_data[: len(f)], outliers[0].numel())

    def _updated(
        self,
        data: Tensor,
        chain: Tensor,
        f_data: Tensor,
        f_chain: Tensor,
        iteration: int,
        lr_scale: float,
        leave: Tensor | None = None,
    ) -> Figures:
        """Apply the gradients unless they would do harm; what is worth logging."""
        f_data, f_chain = (self.team.mean(mean.detach()).double() for mean in (f_data, f_chain))
        figures = self.judge.figures(data, chain, f_data, f_chain, self.learner.norm())
        if (iteration + 1) % EVERY == 0:  # it costs more than all other figures
            figures["sigma_max"] = self.live.largest_singular_value()
        allowed = self.judge.allows(figures)
        if leave is not None:
            allowed = allowed & leave
        self.learner.schedule(lr_scale * rate(self.config, self.stage, iteration))
        self.learner.apply(figures["gradient"], None, allowed)
        self.judge.note(figures, allowed)
        place = {"alpha": self.alpha, "stage": float(self.growth.stage), "seen": float(self.growth.seen)}
        return {**figures, **place}

    # Growth

    def grows(self, images: int) -> bool:
        """Whether the stage is over after an update with so many images."""
        return self.growth.after(images, self.config.stages).stage != self.growth.stage

    def advance(self, images: int) -> None:
        """Count the images of an applied update, and grow if the stage is over."""
        after = self.growth.after(images, self.config.stages)
        if self.grows(images):
            self._grow()
        self.growth = after

    def leave_stage(self) -> bool:
        """Go on to the next stage as this one is; False in the last."""
        if self.growth.stage + 1 >= len(self.config.stages):
            return False
        self._grow()
        return True

    def _grow(self) -> None:
        """Enter the next stage: chained, the stage's network is kept, frozen, and a copy goes on with a fresh Adam;
        single, the same network goes on with the moments it has.
        """
        stage, before = self.growth.stage + 1, self.learner
        self.draws.weights(stage)
        self._begin(Growth(stage), before.network.grow(self.config.stages[stage].size))
        if self.config.growth == "chained":
            self.frozen.append(before.served.eval().requires_grad_(False))
        else:
            self.learner.load_moments(before.moments())

    # State

    def state(self) -> dict[str, Tensor]:
        """Networks with their singular vectors, Adam, the place in the growth, what the guards remember."""
        frozen = {f"frozen{k}.{name}": v for k, net in enumerate(self.frozen) for name, v in net.state_dict().items()}
        growth = torch.tensor([*self.growth, int(self.judge.strained)])
        return self.learner.state() | copied(frozen) | {"growth": growth, "norms": self.judge.norms.known()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved state, of whatever stage."""
        stage, seen, strained = state["growth"].tolist()
        self._begin(Growth(stage, seen), self._network(stage))
        self.learner.load_state(state)
        self.judge.norms.recall(state["norms"])
        self.judge.strained.fill_(strained)
        self.frozen = [self._network(k) for k in range(stage if self.config.growth == "chained" else 0)]
        for k, net in enumerate(self.frozen):
            net.load_state_dict(below(f"frozen{k}.", state))
            net.eval().requires_grad_(False)

    def export(self) -> dict[str, Tensor]:
        """The plain kernels of all networks that the chain passes: ``net{size}.LAYER.weight`` and ``.bias``."""
        sizes = [stage.size for stage in self.config.stages[: self.growth.stage + 1]]
        return exported([*self.frozen, self.learner.served], sizes)
