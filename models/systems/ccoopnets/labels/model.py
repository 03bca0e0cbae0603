"""A trained CCoopNets, frozen for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.core.rows import MAX_STEPS
from models.samplers.langevin import Value, langevin
from models.samplers.latent import LatentChain, known_label, log_joint
from models.samplers.values import evaluation, tracked
from models.serving import served
from models.systems.ccoopnets.labels.config import Config
from models.systems.ccoopnets.labels.networks import Initializer, Solver
from models.systems.weights import fill, frozen, nbytes

STEP_SIZE = 0.1
"""s of eqs. 19 and 20 at the start, as in the authors' settings; rows in which it is too large halve it."""


class CCoopNets:
    """Both networks with their kernels, which are built once so that all jobs of the model share them.

    Args:
        config: the sizes and the refinement loop.
        initializer: g, with recomputed batch statistics; it is frozen.
        solver: f; it is frozen.
        classes: the names of the labels, in the order of the one-hot vector.
        calibration: the values of real images, as ``calibration.calibrate`` gives them; may be empty.
        device: where the rows live.
    """

    def __init__(
        self,
        config: Config,
        initializer: Initializer,
        solver: Solver,
        classes: Sequence[str],
        calibration: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.config, self.classes, self.calibration, self.device = config, tuple(classes), calibration, device
        self.initializer, self.solver = frozen(initializer, device), frozen(solver, device)
        x, y, c, _ = self._example()
        image = y.clone().requires_grad_(True)
        self._made = served(self.initializer, x, c)
        self._value = served(self._f, {"y": image, "c": c})
        self._log_joint = served(log_joint(self.initializer), x.clone().requires_grad_(True), c, y)
        self.propose: Kernel = self._propose
        self.render: Kernel = self._render
        self.latent: LatentChain = known_label(self._log_joint, self.initializer.latent)
        self.refine: Kernel = langevin(self._value)
        self.evaluate: Kernel = evaluation(self._value)
        self.track: Kernel = tracked(self.refine, self.evaluate)

    @property
    def nbytes(self) -> int:
        weights = [*self.initializer.state_dict().values(), *self.solver.state_dict().values()]
        return nbytes(weights, self._made, self._value, self._log_joint)

    def _propose(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        """The initializer's answer Y = g(X, C), X ~ N(0, I): eq. 7 without its epsilon, which no code adds."""
        del t
        with torch.no_grad():
            return {**rows, "y": self._made(noise.normal(self.initializer.latent), rows["c"])}

    def _render(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        """Y = g(X, C) of a latent that is known."""
        del t, noise
        with torch.no_grad():
            return {**rows, "y": self._made(rows["x"], rows["c"])}

    def _f(self, rows: Rows) -> Tensor:
        """f(Y, C)."""
        value: Tensor = self.solver(rows["y"], rows["c"])
        return value

    def resampled(self, sampler: Callable[[Value], Kernel]) -> dict[Kernel, Kernel]:
        refine = sampler(self._value)
        return {self.refine: refine, self.track: tracked(refine, self.evaluate)}

    def _example(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A latent, an image, a label and a number of one row."""
        c = torch.zeros(1, self.config.classes, device=self.device)
        c[:, :3] = torch.tensor([0.5, 0.3, 0.2])[: self.config.classes]  # a mix, whose sums have an order
        size = self.config.size
        image = torch.linspace(-1, 1, self.config.channels * size**2, device=self.device)
        x = torch.linspace(-2, 2, self.initializer.latent, device=self.device)[None]
        return x, image.reshape(1, -1, size, size), c, torch.ones(1, 1, 1, 1, device=self.device)

    def examples(self) -> list[tuple[Kernel, Rows]]:
        x, y, c, one = self._example()
        start = {"c": c, "eta": one, "rho": one * self.config.refinement.rho}
        full = {**start, "y": y}
        given = {"y": y, "c": c, "s": one.reshape(1, 1) * STEP_SIZE, "ticks": one.reshape(1).long()}
        inferred = {**given, "x": x, "grad_x": x, "l": one.reshape(1)}
        return [
            (self.propose, start),
            (self.render, {"x": x, "c": c}),
            (self.latent.start, given),
            (self.latent.step, inferred),
            (self.refine, full),
            (self.evaluate, full),
            (self.track, {**full, "trace": torch.zeros(1, MAX_STEPS, device=self.device)}),
        ]


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> CCoopNets:
    """Build the model of a checkpoint.

    Raises:
        KeyError, ValueError: the card lacks something, or the tensors are not those of the configuration.
    """
    parsed, classes = Config.model_validate(card["config"]), card.get("classes") or ()
    if len(classes) != parsed.classes:
        raise ValueError(f"the card names {len(classes)} classes, its configuration {parsed.classes}")
    initializer, solver = Initializer(parsed), Solver(parsed)
    fill({"initializer": initializer, "solver": solver}, tensors)
    return CCoopNets(parsed, initializer, solver, classes, card.get("calibration") or {}, device)
