"""Both models in training: their networks, gradients and updates, and what the guards remember."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.networks.flow.images import ImageFlow, bits_per_dimension
from models.networks.layers import channels_last
from models.networks.residual_energy import ResidualEnergy
from models.systems.coopflow.config import Config
from models.training.draws import Draws
from models.training.learner import Learner, mixed_precision

_HISTORY = 200
_ENOUGH = 50
"""Norms that are remembered for their median, and how many make one."""
_WINDOW = 500
_BROKEN_SHARE = 0.01
"""More than this share of so many iterations being skipped is no accident."""


class Phase(IntEnum):
    """The parts of a training."""

    NORMS = 0
    """The flow's norms fit to real images, in one iteration."""
    FLOW = 1
    """The flow learns real images by maximum likelihood."""
    WARM_UP = 2
    """The flow is frozen; the energy learns from its refined proposals."""
    COOPERATION = 3
    """Both learn."""


def weight_norm_scales(network: nn.Module) -> list[nn.Parameter]:
    """The scales of all weight-normalised layers, by what they are and not by their names."""
    layers = [module for module in network.modules() if parametrize.is_parametrized(module, "weight")]
    return [layer.parametrizations["weight"].original0 for layer in layers]  # type: ignore[index,union-attr]


@final
class Pair:
    """A flow and an energy.

    Args:
        config: sizes and rates, fitted to the data.
        draws: of the first weights.
        device: where the networks are trained.

    Attributes:
        phase: where the training is.
        done: iterations of the phase.
    """

    def __init__(self, config: Config, draws: Draws, device: torch.device) -> None:
        t = config.training
        self.config = config
        draws.weights()
        flow = ImageFlow(config.flow, config.channels, legacy_decode=config.legacy_decode).to(device)
        energy = channels_last(ResidualEnergy(config.channels, config.width, config.size).to(device))
        self.flow = Learner(
            "flow",
            flow,
            _ramp(t.lr_flow, t.ramp),
            betas=t.betas_flow,
            shrunk=weight_norm_scales(flow),
            shrinkage=t.weight_decay,
        )
        self.energy = Learner("energy", energy, _ramp(t.lr_energy, t.ramp), betas=t.betas_energy)
        self.phase, self.done = Phase.NORMS, 0
        self.steep = 0
        self._norms: dict[str, list[float]] = {"flow": [], "energy": []}
        self._broken: list[int] = []

    # Phases

    def advance(self) -> None:
        """Count an iteration, and enter the next phase that has any if this one is over."""
        self.done += 1
        while self.phase < Phase.COOPERATION and self.done >= self._length():
            self.enter_next()

    def enter_next(self) -> None:
        """Begin the next phase. The guards forget: its losses are others."""
        self.phase, self.done, self.steep = Phase(self.phase + 1), 0, 0
        self._norms = {"flow": [], "energy": []}
        self._broken = []

    def _length(self) -> int:
        t = self.config.training
        return {Phase.NORMS: 1, Phase.FLOW: t.flow_iterations, Phase.WARM_UP: t.warm_up_iterations}[self.phase]

    # Gradients and updates

    def f(self, images: Tensor) -> Tensor:
        """The value of images ``[n, C, size, size]`` as the training computes it, ``[n]``."""
        with mixed_precision(images.device, self.config.training.precision):
            value: Tensor = self.energy.network(images)
        return value

    def flow_gradients(self, images: Tensor, noise: Tensor) -> dict[str, float]:
        """The gradients of the mean of -log q (in nats), without an update."""
        network = self.flow.network.train()
        density = network.bound(images, noise)
        self.flow.backward(-density.mean())
        bits = bits_per_dimension(density.detach().mean(), images[0].numel())
        return {"bits": float(bits), "norm_flow": self.flow.gradient_norm()}

    def energy_gradients(self, real: Tensor, made: Tensor) -> dict[str, float]:
        """The gradients of mean f(made) - mean f(real), without an update."""
        f = self.f(torch.cat([real, made]))
        f_real, f_made = f[: len(real)].mean(), f[len(real) :].mean()
        self.energy.backward(f_made - f_real)
        values = {"f_data": float(f_real.detach()), "f_chain": float(f_made.detach())}
        return {**values, "gap": values["f_data"] - values["f_chain"], "norm_energy": self.energy.gradient_norm()}

    def update(self, metrics: Mapping[str, float], lr_scale: float) -> None:
        """Apply the gradients whose norms are in the metrics, each clipped."""
        for name, learner in (("flow", self.flow), ("energy", self.energy)):
            if (norm := metrics.get(f"norm_{name}")) is not None:
                learner.clip(norm, self.config.training.clip)
                learner.update(self.done, lr_scale * self._share(name))
                self._norms[name] = [*self._norms[name][1 - _HISTORY :], norm]

    def _share(self, name: str) -> float:
        """What the rate of a network is multiplied by in this phase."""
        t = self.config.training
        return t.lr_flow_alone / t.lr_flow if name == "flow" and self.phase is Phase.FLOW else 1.0

    # Guards

    def objection(self, metrics: Mapping[str, float]) -> str | None:
        """Why the gradients of this iteration must not be applied: they, or what they came from, are out of bounds."""
        guards = self.config.training.guards
        if broken := [name for name, value in metrics.items() if not math.isfinite(value)]:
            return f"{broken[0]} is not finite"
        limits = {"flow": guards.flow_norm, "energy": guards.energy_norm}
        for name, limit in limits.items():
            norm, known = metrics.get(f"norm_{name}", 0.0), self._norms[name]
            usual = guards.jump * statistics.median(known) if len(known) >= _ENOUGH else math.inf
            if norm > min(limit, usual):
                return f"the gradient of the {name} jumped to {norm:.3g}"
        return None

    def note_broken(self, broken: bool) -> None:
        """Remember whether an iteration was skipped because it was broken."""
        self._broken = [*self._broken[1 - _WINDOW :], int(broken)]

    def hopeless(self) -> str | None:
        """Why the training must go back: it has skipped too much."""
        guards = self.config.training.guards
        if len(self._broken) >= guards.skips and all(self._broken[-guards.skips :]):
            return f"{guards.skips} iterations in a row were skipped"
        if len(self._broken) == _WINDOW and sum(self._broken) > _BROKEN_SHARE * _WINDOW:
            return f"{sum(self._broken)} of {_WINDOW} iterations were skipped"
        if self.steep >= guards.patience:
            return f"the energy was too steep for {self.steep} iterations"
        return None

    # State

    def state(self) -> dict[str, Tensor]:
        """Both networks with their moments, the place in the training, what the guards remember."""
        place = torch.tensor([self.phase, self.done, self.steep])
        norms = {f"norms_{k}": torch.tensor(v, dtype=torch.float64) for k, v in self._norms.items()}
        broken = torch.tensor(self._broken, dtype=torch.uint8)
        return {**self.flow.state(), **self.energy.state(), "place": place, **norms, "broken": broken}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved state, of whatever phase."""
        self.flow.load_state(state)
        self.energy.load_state(state)
        phase, self.done, self.steep = state["place"].tolist()
        self.phase = Phase(phase)
        self._norms = {k: state[f"norms_{k}"].tolist() for k in self._norms}
        self._broken = state["broken"].tolist()


def _ramp(rate: float, iterations: int) -> Callable[[int], float]:
    """A rate that grows over the first iterations of each phase."""
    return lambda done: rate * min(1.0, (done + 1) / iterations)
