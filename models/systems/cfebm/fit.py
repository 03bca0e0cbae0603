"""The fitting of one energy: its network, the chain that it is taught by, the update, and the guards before it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.loop import Rows
from models.core.noise import Key, Noise, mix
from models.samplers.shortrun import shortrun
from models.systems.cfebm.config import Config
from models.systems.cfebm.growth import Growth
from models.systems.cfebm.guards import harm, measures, strained
from models.systems.cfebm.networks import Energy, Kernels, fold, fuse, value
from models.training.optim import adam_state, load_adam_state, mixed_precision

_HISTORY = 200
_ENOUGH = 50
"""Gradient norms that are remembered for their median, and how many make one."""


class Segment(NamedTuple):
    """A part of a chain that runs at one size under one energy."""

    kernels: Kernels
    size: int
    steps: int
    alpha: float = 1.0


class EnergyFit:
    """One energy in training.

    Args:
        config: sizes, chain and rates, already fitted to the data.
        seed: everything random is a function of it, of the iteration and of the salt.
        device: where the network is trained.
        function: f of images under plain kernels, called as :func:`models.systems.cfebm.networks.value` is.
    """

    def __init__(
        self, config: Config, seed: int, device: torch.device, function: Callable[..., Tensor] = value
    ) -> None:
        self.config, self.seed, self.device, self._function = config, seed, device, function
        torch.manual_seed(mix(seed) >> 1)
        self._begin(Growth())
        self.live = Energy(config.network, config.channels, config.entries_of(0)).to(device)
        self.frozen: list[Energy] = []
        self.optimizer = self._adam()
        self._chain = shortrun(self._value)
        self._segment: Segment | None = None

    def _begin(self, growth: Growth) -> None:
        self.growth = growth
        self.norms: list[float] = []
        self.strained = 0

    def _adam(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.live.parameters(), 1e-3, betas=self.config.training.betas)

    @property
    def alpha(self) -> float:
        return self.growth.alpha(self.config.stages)

    # The chain

    def _precision(self) -> torch.autocast:
        return mixed_precision(self.device, self.config.training.precision)

    def _value(self, rows: Rows) -> Tensor:
        segment = self._segment
        assert segment is not None
        with self._precision():
            return self._function(
                segment.kernels, rows["y"], activation=self.config.network.activation, alpha=segment.alpha
            )

    def _plain(self, net: Energy, size: int | None) -> dict[str, Tensor]:
        """The fused kernels of a network that is not updated meanwhile; folded for a size if it is the only one."""
        with torch.no_grad():
            fused = fuse(net.eval().effective())
            kernels = fused if size is None else fold(fused, size)
            return {name: kernel.detach() for name, kernel in kernels.items()}

    def _segments(self) -> list[Segment]:
        """The chain of a generation at this place of the growth (Algorithm 2 and appendix A.8)."""
        stages, growth, alpha = self.config.stages, self.growth, self.alpha
        live = self._plain(self.live, stages[growth.stage].size if alpha == 1 else None)
        last = Segment(live, stages[growth.stage].size, stages[growth.stage].steps, alpha)
        if self.config.growth == "chained":
            frozen = [
                Segment(self._plain(net, stage.size), stage.size, stage.steps)
                for net, stage in zip(self.frozen, stages, strict=False)
            ]
            return [*frozen, last]
        if alpha == 1:
            return [last]
        coarse = stages[growth.stage - 1]
        return [Segment(live, coarse.size, int(coarse.steps * (1 - alpha))), last]

    def draw(self, start: Tensor, keys: Sequence[int], spoiled: Tensor | None = None) -> Tensor:
        """Chain ends in [-1, 1] at the size of the stage.

        Args:
            start: of a translation: images of the other domain, at the size of the stage. Of a generation: numbers
                uniform in [-1, 1], at the size of the last stage of the whole growth, of which each segment takes a
                corner.
            keys: one seed a row.
            spoiled: images from which the last rows of a generation start, in the last segment.
        """
        if self.config.task == "translate":
            stage = self.config.stages[self.growth.stage]
            kernels = self._plain(self.live, stage.size if self.alpha == 1 else None)
            return self._run(Segment(kernels, stage.size, stage.steps, self.alpha), start, keys, 0, 0)
        segments = self._segments()
        chained = self.config.growth == "chained"
        made = len(start) - (0 if spoiled is None else len(spoiled))
        y, done = start[:made, :, : segments[0].size, : segments[0].size], 0
        for number, segment in enumerate(segments):
            if number:
                y = F.interpolate(y, scale_factor=2.0)
                if not chained:
                    noise = start[:made, :, : segment.size, : segment.size]
                    y = mixed(y, noise, segment.alpha).clamp(-1, 1)
            if spoiled is not None and segment is segments[-1]:
                y = torch.cat([y, spoiled])
            y = self._run(segment, y, keys[: len(y)], number, done)
            done += segment.steps if chained else 0
        return y

    def _run(self, segment: Segment, y: Tensor, keys: Sequence[int], number: int, done: int) -> Tensor:
        """The steps of one segment, clamped at its end."""
        sampler = self.config.sampler
        chained = self.config.growth == "chained" and self.config.task == "generate"
        total = sum(stage.steps for stage in self.config.stages) if chained else max(1, segment.steps)
        one = torch.ones(len(y), 1, 1, 1, device=self.device)
        numbers = {"lr": sampler.lr, "s0": sampler.s0, "s1": sampler.s1, "k0": float(done), "total": float(total)}
        rows: Rows = {"y": y, **{name: one * number for name, number in numbers.items()}}
        self._segment = segment
        for k in range(segment.steps):
            step = torch.full((len(y),), k, device=self.device)
            rows = self._chain(rows, step, Noise([Key(key, number, k) for key in keys], self.device))
        self._segment = None
        return rows["y"].detach().clamp(-1, 1)

    # The update

    def step(self, data: Tensor, chain: Tensor, lr_scale: float) -> dict[str, float]:
        """Descend mean f(chain) - mean f(data), unless a guard says that this update would do harm.

        Args:
            data: observed images at the size of the stage.
            chain: as many chain ends.

        Returns:
            What is worth logging, to be judged by :meth:`harm`; if that gives a reason, nothing was changed but the
            singular vectors.
        """
        stage = self.config.stages[self.growth.stage]
        self.live.train()
        with self._precision():
            f = self._function(
                fuse(self.live.effective()),
                torch.cat([data, chain]),
                activation=self.config.network.activation,
                alpha=self.alpha,
            )
        loss = f[len(data) :].mean() - f[: len(data)].mean()
        f_data, f_chain = (float(part.detach().mean()) for part in f.split(len(data)))
        self.optimizer.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in self.live.parameters() if p.grad is not None]))
        metrics = measures(data, chain) | {
            "f_data": f_data,
            "f_chain": f_chain,
            "gap": f_data - f_chain,
            "gradient": norm,
            "sigma_max": max(self.live.singular_values().values()) if math.isfinite(norm) else math.nan,
            "jump": norm / statistics.median(self.norms) if len(self.norms) >= _ENOUGH else 1.0,
            "alpha": self.alpha,
            "stage": float(self.growth.stage),
            "seen": float(self.growth.seen),
            "strained": float(self.strained + 1 if strained(self.config.training.guards, data, chain) else 0),
        }
        if self.harm(metrics) is None:
            for group in self.optimizer.param_groups:
                group["lr"] = lr_scale * stage.learning_rate
            self.optimizer.step()
            self.norms = [*self.norms[1 - _HISTORY :], norm]
            self.strained = int(metrics["strained"])
        return metrics

    def harm(self, metrics: Mapping[str, float]) -> str | None:
        """Why an update with these metrics must not be applied; None if it may."""
        return harm(self.config.training.guards, metrics)

    # Growth

    def advance(self, images: int) -> None:
        """Count the images of an applied update, and grow if the stage is over."""
        after = self.growth.after(images, self.config.stages)
        if after.stage != self.growth.stage:
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
        stage = self.growth.stage + 1
        before = self.live
        moments = adam_state("opt", self.optimizer)
        torch.manual_seed(mix(self.seed, stage) >> 1)
        self.live = before.grow(self.config.stages[stage].size)
        if self.config.growth == "chained":
            self.frozen.append(before.eval().requires_grad_(False))
        self._begin(Growth(stage))
        self.optimizer = self._adam()
        if self.config.growth == "single":
            load_adam_state("opt", self.optimizer, moments)

    # State

    def state(self) -> dict[str, Tensor]:
        """Networks with their singular vectors, Adam, the place in the growth, what the guards remember."""
        nets = {"live": self.live} | {f"frozen{k}": net for k, net in enumerate(self.frozen)}
        state = {f"{name}.{k}": v for name, net in nets.items() for k, v in net.state_dict().items()}
        state |= adam_state("opt", self.optimizer)
        state["growth"] = torch.tensor([*self.growth, self.strained])
        state["norms"] = torch.tensor(self.norms, dtype=torch.float64)
        return {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved state, of whatever stage."""
        stage, seen, strained = state["growth"].tolist()
        self._begin(Growth(stage, seen))
        self.norms, self.strained = state["norms"].tolist(), strained
        network = self.config.network, self.config.channels
        self.live = Energy(*network, self.config.entries_of(stage))
        kept = stage if self.config.growth == "chained" else 0
        self.frozen = [Energy(*network, self.config.entries_of(k)) for k in range(kept)]
        for name, net in [("live.", self.live), *((f"frozen{k}.", net) for k, net in enumerate(self.frozen))]:
            net.load_state_dict({k.removeprefix(name): v for k, v in state.items() if k.startswith(name)})
            net.to(self.device)
        for net in self.frozen:
            net.eval().requires_grad_(False)
        self.optimizer = self._adam()
        load_adam_state("opt", self.optimizer, state)

    def export(self) -> dict[str, Tensor]:
        """The plain kernels of all networks that the chain passes: ``net{size}.LAYER.weight`` and ``.bias``."""
        nets = [*self.frozen, self.live]
        sizes = [stage.size for stage in self.config.stages[: self.growth.stage + 1]][-len(nets) :]
        found: dict[str, Tensor] = {}
        for net, size in zip(nets, sizes, strict=True):
            with torch.no_grad():
                plain = net.eval().effective()
            unused = {f"rgb{entry}." for entry in net.sizes[:-1]}
            found |= {
                f"net{size}.{name}": kernel.detach().cpu().contiguous().clone()
                for name, kernel in plain.items()
                if not name.startswith(tuple(unused))
            }
        return found


def mixed(coarse: Tensor, noise: Tensor, alpha: float) -> Tensor:
    r"""The start of a single-growth chain: :math:`\sqrt{1 - \alpha^2}\, x + \alpha\, U`; at alpha 1 noise alone."""
    return (1 - alpha**2) ** 0.5 * coarse + alpha * noise
