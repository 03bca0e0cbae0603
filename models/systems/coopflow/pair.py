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
        cuda = device.type == "cuda"
        self.flow = Learner(
            "flow",
            flow,
            lambda done: t.lr_flow,
            betas=t.betas_flow,
            decay=t.average or None,
            shrunk=weight_norm_scales(flow),
            shrinkage=t.weight_decay,
            captured=cuda,
        )
        self.energy = Learner(
            "energy",
            energy,
            lambda done: t.lr_energy,
            betas=t.betas_energy,
            decay=t.average or None,
            captured=cuda,
        )
        self.phase, self.done = Phase.NORMS, 0
        self._norms = {name: Remembered(_HISTORY, device) for name in ("flow", "energy")}
        self._broken = Remembered(_WINDOW, device)
        self._steep = torch.zeros((), dtype=torch.int64, device=device)

    # Phases

    def advance(self) -> None:
        """Count an iteration, and enter the next phase that has any if this one is over."""
        self.done += 1
        while self.phase < Phase.COOPERATION and self.done >= self._length():
            self.enter_next()

    def enter_next(self) -> None:
        """Begin the next phase. The guards forget: its losses are others."""
        self.phase, self.done = Phase(self.phase + 1), 0
        self._steep.zero_()
        for memory in (*self._norms.values(), self._broken):
            memory.clear()

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
        density = network.bound(images, noise)
        self.flow.backward(-density.mean())
        bits = bits_per_dimension(density.detach().mean(), images[0].numel())
        return {"bits": bits, "norm_flow": self.flow.norm()}

    def energy_gradients(self, real: Tensor, made: Tensor) -> dict[str, Tensor]:
        """The gradients of mean f(made) - mean f(real), without an update."""
        f = self.f(torch.cat([real, made]))
        f_real, f_made = f[: len(real)].mean(), f[len(real) :].mean()
        self.energy.backward(f_made - f_real)
        values = {"f_data": f_real.detach(), "f_chain": f_made.detach()}
        return {**values, "gap": values["f_data"] - values["f_chain"], "norm_energy": self.energy.norm()}

    def schedule(self, scale: float) -> None:
        """Set the rates of the next updates, which grow at the beginning of a phase."""
        t = self.config.training
        scale *= min(1.0, (self.done + 1) / t.ramp)
        self.flow.schedule(scale * (t.lr_flow_alone if self.phase is Phase.FLOW else t.lr_flow))
        self.energy.schedule(scale * t.lr_energy)

    def update(self, metrics: Mapping[str, Tensor], steep: Tensor | None = None) -> Tensor:
        """Apply the gradients whose norms are in the metrics, each clipped, unless a guard objects; whether it did not.

        An energy that is too steep goes on learning, for updates are what makes it flatter; if it stays so, the
        training goes back.
        """
        allowed = self._allowed(metrics)
        for name, learner in (("flow", self.flow), ("energy", self.energy)):
            if (norm := metrics.get(f"norm_{name}")) is not None:
                learner.apply(norm, self.config.training.clip, allowed)
                self._norms[name].add(norm, allowed)
        self._broken.add(1.0 - allowed.double())
        self._steep.copy_(torch.zeros_like(self._steep) if steep is None else torch.where(steep, self._steep + 1, 0))
        return allowed

    # Guards

    def _allowed(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """Whether the gradients of this iteration may be applied: they, and what they came from, are within bounds."""
        guards = self.config.training.guards
        allowed = torch.stack([value.double() for value in metrics.values()]).isfinite().all()
        for name, limit in (("flow", guards.flow_norm), ("energy", guards.energy_norm)):
            if (norm := metrics.get(f"norm_{name}")) is not None:
                allowed = allowed & (norm <= limit) & (norm <= guards.jump * self._norms[name].median(_ENOUGH))
        return allowed

    def hopeless(self) -> str | None:
        """Why the training must go back: it has skipped too much. This reads numbers."""
        guards, broken, steep = self.config.training.guards, self._broken.known(), int(self._steep)
        if len(broken) >= guards.skips and bool(broken[-guards.skips :].all()):
            return f"{guards.skips} iterations in a row were skipped"
        if len(broken) == _WINDOW and float(broken.sum()) > _BROKEN_SHARE * _WINDOW:
            return f"{int(broken.sum())} of {_WINDOW} iterations were skipped"
        if steep >= guards.patience:
            return f"the energy was too steep for {steep} iterations"
        return None

    # State

    def state(self) -> dict[str, Tensor]:
        """Both networks with their moments, the place in the training, what the guards remember."""
        place = torch.tensor([self.phase, self.done, int(self._steep)])
        norms = {f"norms_{name}": memory.known() for name, memory in self._norms.items()}
        broken = self._broken.known().to(torch.uint8)
        return {**self.flow.state(), **self.energy.state(), "place": place, **norms, "broken": broken}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved state, of whatever phase."""
        self.flow.load_state(state)
        self.energy.load_state(state)
        phase, self.done, steep = state["place"].tolist()
        self.phase = Phase(phase)
        self._steep.fill_(steep)
        for name, memory in self._norms.items():
            memory.recall(state[f"norms_{name}"])
        self._broken.recall(state["broken"])


@final
class Remembered:
    """The newest numbers of a kind, at most so many, on the device that they come from.

    Args:
        most: how many.
        device: where they are.
    """

    def __init__(self, most: int, device: torch.device) -> None:
        self._numbers = torch.full((most,), torch.nan, dtype=torch.float64, device=device)

    def add(self, number: Tensor, wanted: Tensor | None = None) -> None:
        """Remember a number; with ``wanted`` (bool ``[]``) only where that is true."""
        later = torch.cat([self._numbers[1:], number.detach().double()[None]])
        self._numbers.copy_(later if wanted is None else torch.where(wanted, later, self._numbers))

    def median(self, enough: int) -> Tensor:
        """Of the numbers; infinite if they are fewer than ``enough``."""
        count = (~self._numbers.isnan()).sum()
        ordered = self._numbers.sort()[0]  # what is not known comes last
        middle = ordered.gather(0, torch.stack([(count - 1).clamp(min=0) // 2, count // 2]).clamp(max=len(ordered) - 1))
        return torch.where(count >= enough, middle.mean(), torch.inf)

    def known(self) -> Tensor:
        """The numbers, oldest first, on the CPU."""
        numbers = self._numbers.cpu()
        return numbers[~numbers.isnan()]

    def recall(self, numbers: Tensor) -> None:
        """Have what :meth:`known` gave."""
        self.clear()
        if len(numbers):
            self._numbers[-len(numbers) :] = numbers.to(self._numbers)

    def clear(self) -> None:
        self._numbers.fill_(torch.nan)
