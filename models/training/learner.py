"""A network in training: its weights, their average, its optimizer and rate, and their state as named tensors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Generic, TypeVar, final

import torch
from torch import Tensor, nn

from models.networks.layers import settled
from models.training.team import ALONE, Team

N = TypeVar("N", bound=nn.Module)


@final
class Learner(Generic[N]):
    """A network with all that its updates depend on.

    Args:
        name: under which its state is saved: weights as ``NAME.``, average as ``ema_NAME.``.
        network: on its device.
        rate: iteration -> learning rate. A function of the iteration alone, so that nothing about it needs saving.
        betas: of Adam.
        decay: of the average, see :meth:`update`: a number, or what gives that of now; None keeps no average.
        moments: the name of Adam's moments; by default ``opt_NAME``.
        shrunk: parameters that each update also shrinks, by adding ``shrinkage`` times each to its gradient.
        shrinkage: how much.
        captured: :meth:`apply` reads nothing on the host, and may be captured as a CUDA graph: :meth:`schedule` sets
            what differs between updates. Not for a rate or an average that is not a number.
        team: the processes that train it together.
    """

    def __init__(
        self,
        name: str,
        network: N,
        rate: Callable[[int], float],
        *,
        betas: tuple[float, float],
        decay: float | Callable[[], float] | None = None,
        moments: str | None = None,
        shrunk: Sequence[nn.Parameter] = (),
        shrinkage: float = 0.0,
        captured: bool = False,
        team: Team = ALONE,
    ) -> None:
        self._name, self._moments = name, moments or f"opt_{name}"
        self.network, self._rate, self._decay = network, rate, decay
        self.average = None if decay is None else copy.deepcopy(network).requires_grad_(False)
        groups = _groups(network, shrunk, shrinkage)
        self._captured, self._team = captured, team
        device = next(network.parameters()).device
        fused = captured or device.type == "cuda" or None
        self.optimizer = torch.optim.Adam(groups, rate(0), betas=betas, fused=fused, capturable=captured)
        self._lr: float | Tensor = torch.full((), rate(0), device=device) if captured else rate(0)
        self.schedule(rate(0))

    @property
    def served(self) -> N:
        """The network as it would be served now: its average, where there is one."""
        return self.network if self.average is None else self.average

    def backward(self, loss: Tensor) -> None:
        """The gradients of a loss, without those of earlier losses; of several processes the mean of theirs."""
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._team.average([p.grad for p in self.network.parameters() if p.grad is not None])

    def norm(self) -> Tensor:
        """The Euclidean norm of all gradients together, where they are."""
        return torch.nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None])

    def schedule(self, rate: float) -> None:
        """The rate of the next updates."""
        if isinstance(self._lr, Tensor):
            self._lr.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr if isinstance(self._lr, Tensor) else rate

    def apply(self, norm: Tensor, most: float | None, allowed: Tensor) -> None:
        """An update at the scheduled rate by the gradients, whose norm is known, scaled to a norm of at most ``most``
        (None: as they are); without leave (bool ``[]``) nothing changes.
        """
        if not self._captured and not bool(allowed):
            return
        if most is not None:
            torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), most, norm)
        if self._captured:
            self.optimizer.found_inf = (~allowed).float()  # type: ignore[attr-defined]  # as GradScaler tells it
        self.optimizer.step()
        self._follow(allowed.float() if self._captured else None)

    def update(self, iteration: int, lr_scale: float = 1.0) -> None:
        """A step of Adam at ``lr_scale`` times the rate of the iteration, then that of the average:
        average <- decay * average + (1 - decay) * weights. Buffers are copied; decay 0 copies all.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr_scale * self._rate(iteration)
        self.optimizer.step()
        self._follow()

    def _follow(self, leave: Tensor | None = None) -> None:
        if self.average is not None and self._decay is not None:
            decay = self._decay() if callable(self._decay) else self._decay
            _follow(self.average, self.network, decay, leave)

    # State

    def state(self) -> dict[str, Tensor]:
        """Weights, average and moments by name, on the CPU; copies."""
        nets = {self._name: self.network} | ({} if self.average is None else {f"ema_{self._name}": self.average})
        state = {f"{name}.{k}": v for name, net in nets.items() for k, v in net.state_dict().items()}
        return copied(state | self.moments())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to what :meth:`state` gave; names of other learners are left alone."""
        self.network.load_state_dict(below(f"{self._name}.", state))
        if self.average is not None:
            self.average.load_state_dict(below(f"ema_{self._name}.", state))
        self.load_moments(state)

    def moments(self) -> dict[str, Tensor]:
        """The moments and step counts of Adam as named tensors, so that they need no pickle."""
        moments = self.optimizer.state_dict()["state"]
        return {f"{self._moments}.{i}.{k}": v for i, one in moments.items() for k, v in one.items()}

    def load_moments(self, state: Mapping[str, Tensor]) -> None:
        """Take over moments; a state without any (before the first update) clears them."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in below(f"{self._moments}.", state).items():
            index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = value.clone()
        if self._captured and self.optimizer.state:
            self._overwrite(moments)
            return
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _overwrite(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Take over moments where they are: a captured update knows their places."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for index, parameter in enumerate(parameters):
            for key, held in self.optimizer.state[parameter].items():
                if index in moments:
                    held.copy_(moments[index][key])
                else:
                    held.zero_()


def _groups(network: nn.Module, shrunk: Sequence[nn.Parameter], shrinkage: float) -> list[dict[str, Any]]:
    """The parameters of a network as Adam takes them, those that are shrunk last."""
    last = {id(parameter) for parameter in shrunk}
    first = [parameter for parameter in network.parameters() if id(parameter) not in last]
    groups: list[dict[str, Any]] = [{"params": first}, {"params": list(shrunk), "weight_decay": shrinkage}]
    return [group for group in groups if group["params"]]


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without the prefix."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they are saved: on the CPU, contiguous, and not those that training goes on with."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}


def _follow(average: nn.Module, live: nn.Module, decay: float, leave: Tensor | None = None) -> None:
    """average <- decay * average + (1 - decay) * weights; ``leave`` (0 or 1, ``[]``) says whether, on the device."""
    old: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(live.parameters())
    with torch.no_grad():
        if leave is None:
            torch._foreach_lerp_(old, new, 1 - decay)
        else:
            way: list[Tensor] = list(torch._foreach_sub(new, old))
            torch._foreach_mul_(way, (1 - decay) * leave)
            torch._foreach_add_(old, way)
        for held, buffer in zip(average.buffers(), live.buffers(), strict=True):
            held.copy_(buffer)


@contextmanager
def frozen(network: nn.Module, precision: str = "fp32") -> Iterator[None]:
    """Parameters get no gradients meanwhile, only the rows of a chain do, or another network; under mixed precision
    they are rounded once.
    """
    network.requires_grad_(False)
    try:
        with settled(network, precision):
            yield
    finally:
        network.requires_grad_(True)


def scheduled_lr(lr: float, schedule: str, final: float, iteration: int, iterations: int) -> float:
    """The rate at an iteration of a training; ``cosine`` and ``exponential`` fall from ``lr`` to ``final * lr``."""
    done = min(iteration / max(iterations, 1), 1.0)
    if schedule == "cosine":
        return lr * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
    if schedule == "exponential":
        return lr * final**done
    return lr


def mixed_precision(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Where networks are evaluated in training: ``bf16`` computes convolutions in bfloat16, ``fp32`` nothing."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
