"""The training of cGML: descents that see the target teach a predictor that does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, final

import torch
from torch import Tensor

from models.systems.cgml.batch import Batch, Clock, Pose
from models.systems.cgml.config import TrainingConfig
from models.systems.cgml.fit import Figures, Fit
from models.systems.cgml.losses import row_error
from models.systems.cgml.networks import NetworkConfig
from models.training.capture import Replayed
from models.training.draws import Draws, Purpose
from models.training.guards import above, first
from models.training.learner import copied
from models.training.readings import Readings

SHEET_ROWS, SHEET_RESULTS = 8, 4
_LOOK = 100
"""Iterations between two looks at answers without targets."""
_LOOKED, _RESULTS = 8, 8
_STEPS = 20
"""Of the predictor in an answer."""
_MEMORY = 500
_WORSE, _PATIENCE, _SKIPPED = 3.0, 200, 3
_KAPPA = 1.5


class Fitted(Protocol):
    """The part of a configuration that a training needs."""

    @property
    def network(self) -> NetworkConfig: ...

    @property
    def training(self) -> TrainingConfig: ...


@final
class CgmlTrainer:
    """Both parts of a training: all learn, then the predictor alone.

    Args:
        config: fitted to the data.
        pose: what the data ask for, on the device.
        histogram: whether images are planes of colour.
        seed: everything random is a function of it and of the iteration.
        device: where the networks are trained.
    """

    def __init__(self, config: Fitted, pose: Pose, histogram: bool, seed: int, device: torch.device) -> None:
        self._training, self._network, self._pose, self.device = config.training, config.network, pose, device
        self.draws = Draws(seed)
        self.draws.weights()
        channels = pose.condition_channels, pose.channels
        self.fit = Fit(config.network, config.training, channels, histogram, device)
        self.clock = Clock(self.draws, config.training.batch_size, device)
        self._stage = 0
        self._replayed = Replayed(self._advance, device)
        self._usual, self._worse, self._skipped, self._kappa = 0.0, 0, 0, 0.0
        self.readings = Readings(device, config.training.iterations, self._objection)

    # One iteration

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """An iteration of the stage. Nothing waits for the device but a look at the figures."""
        if self._stage == 0 and iteration >= self._training.joint:
            self.leave_stage()
        self.schedule(iteration, lr_scale, salt)
        self.readings.hold(iteration, {**self.iterate(), "stage": float(self._stage)})
        look = iteration % _LOOK == 0
        metrics = self.readings.read() if look or self.readings.due(iteration) else {}
        if look:
            metrics |= self.look()
        return {k: v for k, v in metrics.items() if v == v and abs(v) != float("inf")}

    def schedule(self, iteration: int, lr_scale: float = 1.0, salt: int = 0) -> None:
        """What an iteration reads of the host, written to the device."""
        self.clock.set(iteration, salt)
        self.fit.search.finding.fill_(float(iteration < self._training.calibration * self._training.iterations))
        rate = lr_scale * self._training.rate(iteration)
        self.fit.coder.schedule(rate)
        self.fit.predictor.schedule(rate * self._training.predictor_rate)

    def iterate(self) -> Figures:
        """The rest of the iteration, without a word to the host: on a GPU one graph, captured anew in each stage."""
        return self._replayed()

    def _advance(self) -> Figures:
        batch = self._pose.batch(self.clock, self._training.batch_size)
        return (self.fit.settle if self._stage else self.fit.joint)(batch, self.clock)

    def _objection(self, iteration: int, metrics: dict[str, float]) -> str | None:
        del iteration
        self._watch(metrics)
        return self._reason()

    def _watch(self, metrics: dict[str, float]) -> None:
        """What the guards remember of an iteration; an update without finite gradients was left out."""
        broken = any(not _finite(v) for k, v in metrics.items() if k.endswith("_gradient"))
        self._skipped = self._skipped + 1 if broken else 0
        metrics["skipped"] = float(broken)
        if _finite(kappa := metrics.get("kappa", 0.0)):
            self._kappa += (kappa - self._kappa) / _MEMORY
        error = metrics.get("error", metrics.get("error_searched", 0.0))
        if not _finite(error):
            return
        self._worse = self._worse + 1 if self._usual and error > _WORSE * self._usual else 0
        self._usual = self._usual + (error - self._usual) / _MEMORY if self._usual else error

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        del iteration, metrics
        return self.readings.trouble or self._reason()

    def _reason(self) -> str | None:
        return first(
            above("gradients are not finite again and again", "iterations", self._skipped, _SKIPPED - 1),
            above("the error has grown to three times its mean", "iterations", self._worse, _PATIENCE - 1),
            above("the predictor's expected lengths are broken", "mean kappa", self._kappa, _KAPPA),
        )

    # Stages and state

    @property
    def stage(self) -> int:
        return self._stage

    def leave_stage(self) -> bool:
        if self._stage or self._training.deterministic:
            return False
        self.readings.read()
        self.fit.enter_settling()
        self._enter(1)
        self._usual, self._worse = 0.0, 0
        return True

    def _enter(self, stage: int) -> None:
        if stage != self._stage:
            self._stage, self._replayed = stage, Replayed(self._advance, self.device)

    def state(self) -> dict[str, Tensor]:
        self.readings.read()
        own = torch.tensor([self._stage, self._usual, self._worse, self._skipped, self._kappa], dtype=torch.float64)
        return copied(self.fit.state() | {"watch": own})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.fit.load_state(state)
        stage, usual, worse, skipped, self._kappa = state["watch"].tolist()
        self._enter(int(stage))
        self._usual, self._worse, self._skipped = usual, int(worse), int(skipped)
        self.readings.clear()

    def export(self) -> dict[str, Tensor]:
        """H, G and Z as they are served: their averages."""
        coder, predictor = self.fit.coder.served.state_dict(), self.fit.predictor.served.state_dict()
        tensors = coder | {f"predictor.{name}": value for name, value in predictor.items()}
        return copied({name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")})

    # What comes of it

    def answers(
        self, batch: Batch, results: int, *keys: int, steps: int = _STEPS, momentum: str = "push_settle"
    ) -> Tensor:
        """Several answers to each condition, without targets, ``[n, results, C, H, W]``; the same noise each time."""
        n = len(batch.c)
        clock = Clock(Draws(self.draws.key(*keys)), n * results, self.device)
        noise = clock(Purpose.START)
        z = self.fit.domain.start(noise, self._network.latent)
        if self._training.deterministic:
            z = torch.zeros_like(z)
        made = self.fit.answer(batch.c.repeat_interleave(results, 0), z, steps, clock, momentum)
        return made.unflatten(0, (n, results))

    def look(self) -> dict[str, float]:
        """Errors of answers on some examples of the training: the first, their mean, the best of eight; and how much
        the latent decides.
        """
        batch = self._pose.fixed(_LOOKED)
        made = self.answers(batch, _RESULTS, Purpose.DRAW)
        y, weights = (x.repeat_interleave(_RESULTS, 0) for x in (batch.y, batch.weights))
        errors = row_error(made.flatten(0, 1), y, weights, self._training.error).unflatten(0, made.shape[:2])
        apart = row_error(made[:, 0], made[:, 1], batch.weights, "l1")
        return {
            "first_error": float(errors[:, 0].mean()),
            "mean_error": float(errors.mean()),
            "best_error": float(errors.amin(1).mean()),
            "apart": float(apart.mean()),
        }

    def draw(self, n: int) -> Tensor | None:
        """Answers to n examples of the training, as pictures, one each."""
        batch = self._pose.fixed(n)
        parts = [self._shown(_part(batch, at), 1, k) for k, at in enumerate(torch.arange(len(batch.c)).split(64))]
        return torch.cat(parts)[:, 0].clamp(-1, 1).cpu()

    def _shown(self, batch: Batch, results: int, part: int) -> Tensor:
        made = self.answers(batch, results, Purpose.DRAW, part)
        given = batch.given.repeat_interleave(results, 0)
        return self._pose.shown(made.flatten(0, 1), given).unflatten(0, made.shape[:2])

    def reference(self, images: Tensor) -> Tensor:
        return self._pose.reference(images)

    def samples(self) -> Tensor:
        """A condition a row, answers to it from several starts, and what it was."""
        batch = self._pose.fixed(SHEET_ROWS)
        true = self._pose.shown(batch.y, batch.given)
        parts = [self._pose.condition(batch)[:, None], self._shown(batch, SHEET_RESULTS, 0), true[:, None]]
        return torch.cat(parts, 1).clamp(-1, 1).cpu()


def _part(batch: Batch, at: Tensor) -> Batch:
    return Batch(*(value[at.to(value.device)] for value in (batch.c, batch.y, batch.weights, batch.given)))


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
