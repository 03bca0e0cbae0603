"""Both models in training: their networks, gradients and updates, and what the guards remember."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.networks.flow.images import ImageFlow, bits_per_dimension
from models.networks.layers import channels_last
from models.networks.residual_energy import ResidualEnergy
from models.systems.coopflow.config import Config
from models.systems.coopflow.guards import Guards
from models.training.draws import Draws
from models.training.learner import Learner, mixed_precision
from models.training.team import ALONE, Team


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


def value_of(energy: ResidualEnergy, images: Tensor, precision: str) -> Tensor:
    """f of images ``[n, C, size, size]`` as a training computes it, ``[n]``."""
    with mixed_precision(images.device, precision):
        value: Tensor = energy(images)
    return value


@final
class Pair:
    """A flow and an energy. All decisions about a gradient are made where the gradient is.

    Args:
        config: sizes and rates, fitted to the data.
        draws: of the first weights.
        device: where the networks are trained.
        team: the processes that train them; each learns from its rows of what the gradients are asked for.

    Attributes:
        phase: where the training is.
        done: iterations of the phase.
    """

    def __init__(self, config: Config, draws: Draws, device: torch.device, team: Team = ALONE) -> None:
        t = config.training
        self.config, self.team = config, team
        draws.weights()
        flow = ImageFlow(config.flow, config.channels, legacy_decode=config.legacy_decode).to(device)
        energy = channels_last(ResidualEnergy(config.channels, config.width, config.size).to(device))
        captured = device.type != "cpu"
        self.flow = Learner(
            "flow",
            flow,
            lambda done: t.lr_flow,
            betas=t.betas_flow,
            decay=t.average or None,
            shrunk=weight_norm_scales(flow),
            shrinkage=t.weight_decay,
            captured=captured,
            team=team,
        )
        self.energy = Learner(
            "energy",
            energy,
            lambda done: t.lr_energy,
            betas=t.betas_energy,
            decay=t.average or None,
            captured=captured,
            team=team,
        )
        self.phase, self.done = Phase.NORMS, 0
        self.guards = Guards(t.guards, device)

    # Phases

    def advance(self, *, last: bool = False) -> None:
        """Count an iteration, and enter the next phase that has any if this one is over; none after the ``last`` of the
        training, whose best state is one of the phase that it ends in.
        """
        self.done += 1
        while not last and self.phase < Phase.COOPERATION and self.done >= self._length():
            self.enter_next()

    def enter_next(self) -> None:
        """Begin the next phase. The guards forget: its losses are others."""
        self.phase, self.done = Phase(self.phase + 1), 0
        self.guards.clear()

    def _length(self) -> int:
        t = self.config.training
        return {Phase.NORMS: 1, Phase.FLOW: t.flow_iterations, Phase.WARM_UP: t.warm_up_iterations}[self.phase]

    # Gradients and updates

    def f(self, images: Tensor) -> Tensor:
        """The value of images ``[n, C, size, size]`` as the training computes it, ``[n]``."""
        return value_of(self.energy.network, images, self.config.training.precision)

    def flow_gradients(self, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """The gradients of the mean of -log q (in nats), without an update."""
        network = self.flow.network.train()
        density = network.bound(self.team.own(images), self.team.own(noise))
        self.flow.backward(-density.mean())
        bits = bits_per_dimension(self.team.mean(density.detach().mean()), images[0].numel())
        return {"bits": bits, "norm_flow": self.flow.norm()}

    def energy_gradients(self, real: Tensor, made: Tensor) -> dict[str, Tensor]:
        """The gradients of mean f(made) - mean f(real), without an update."""
        real, made = self.team.own(real), self.team.own(made)
        f = self.f(torch.cat([real, made]))
        f_real, f_made = f[: len(real)].mean(), f[len(real) :].mean()
        self.energy.backward(f_made - f_real)
        values = {"f_data": self.team.mean(f_real.detach()), "f_chain": self.team.mean(f_made.detach())}
        return {**values, "gap": values["f_data"] - values["f_chain"], "norm_energy": self.energy.norm()}

    def schedule(self, scale: float) -> None:
        """Set the rates of the next updates, which grow at the beginning of a phase."""
        t = self.config.training
        scale *= min(1.0, (self.done + 1) / t.ramp)
        self.flow.schedule(scale * (t.lr_flow_alone if self.phase is Phase.FLOW else t.lr_flow))
        self.energy.schedule(scale * t.lr_energy)

    def update(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """Apply the gradients whose norms are in the metrics, each clipped, unless a guard objects; whether it did not.

        An energy that is too steep goes on learning, for updates are what makes it flatter; if it stays so, the
        training goes back.
        """
        allowed = self.guards.allows(metrics)
        for name, learner in (("flow", self.flow), ("energy", self.energy)):
            if (norm := metrics.get(f"norm_{name}")) is not None:
                learner.apply(norm, self.config.training.clip, allowed)
        self.guards.note(metrics, allowed)
        return allowed

    # State

    def state(self) -> dict[str, Tensor]:
        """Both networks with their moments, the place in the training, what the guards remember."""
        place = torch.tensor([self.phase, self.done])
        return {**self.flow.state(), **self.energy.state(), "place": place, **self.guards.state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved state, of whatever phase."""
        self.flow.load_state(state)
        self.energy.load_state(state)
        self.guards.load_state(state)
        phase, self.done = state["place"].tolist()
        self.phase = Phase(phase)
