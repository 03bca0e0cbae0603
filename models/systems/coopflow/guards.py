"""What a training of CoopFlow remembers of itself, and when it skips an update or goes back."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from models.systems.coopflow.config import GuardConfig
from models.training.remembered import Remembered

_HISTORY = 10
"""Norms that are remembered for their median. Few: an energy that begins to learn has six times as much in as many."""
_WINDOW = 500
_BROKEN_SHARE = 0.01
"""More than this share of so many iterations being skipped is no accident."""
_LOST_BITS = 0.5
"""A flow whose bits are no further above the usual ones sharpens where its gradient jumps, at flat backgrounds."""
_EPOCHS = 3
_CONTRAST = 0.05
"""Chain ends whose contrast is further from the data's are bad."""


@final
class Guards:
    """Limits, and what is remembered to hold an iteration against.

    :meth:`allows` and :meth:`note` read nothing on the host; the rest does.

    Args:
        config: the limits.
        device: where the training computes.
    """

    def __init__(self, config: GuardConfig, device: torch.device) -> None:
        self._config = config
        self._norms = {name: Remembered(_HISTORY, device) for name in ("flow", "energy")}
        self._usual_bits = Remembered(_HISTORY, device)
        self._broken, self._epochs = Remembered(_WINDOW, device), Remembered(_EPOCHS + 1, device)
        # Iterations in a row that were too steep; that were still; whether chains have ever moved.
        self._counts = torch.zeros(3, dtype=torch.int64, device=device)
        # Bits of this epoch, and how many iterations they are of.
        self._bits = torch.zeros(2, dtype=torch.float64, device=device)

    def allows(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """Whether the gradients of an iteration may be applied: they, and what they came from, are within bounds."""
        allowed = torch.stack([value.double() for value in metrics.values()]).isfinite().all()
        for name, limit in (("flow", self._config.flow_norm), ("energy", self._config.energy_norm)):
            if (norm := metrics.get(f"norm_{name}")) is not None:
                usual = norm <= self._config.jump * self._norms[name].median()
                if name == "flow":
                    usual = usual | (metrics["bits"] <= self._usual_bits.median() + _LOST_BITS)
                allowed = allowed & (norm <= limit) & usual
        return allowed

    def note(self, metrics: Mapping[str, Tensor], allowed: Tensor) -> None:
        """Remember an iteration."""
        for name, memory in self._norms.items():
            if (norm := metrics.get(f"norm_{name}")) is not None:
                memory.add(norm, allowed)
        self._broken.add(1.0 - allowed.double())
        if "bits" in metrics:
            now = torch.stack([metrics["bits"].double(), torch.ones_like(self._bits[0])])
            self._bits.add_(torch.where(allowed, now, 0.0))
            self._usual_bits.add(metrics["bits"], allowed)
        if "move" in metrics:
            self._note_chains(metrics)

    def _note_chains(self, metrics: Mapping[str, Tensor]) -> None:
        """An energy is too steep that drives pixels against their bounds. One has gone flat whose chains stay where
        they are, though they moved once and their ends are not like the data; where ends are good that is no fault.
        """
        c, counts = self._config, self._counts
        steep = (metrics["cut"] > c.cut) | (metrics["saturated"] - metrics["saturated_data"] > c.saturated)
        moves = metrics["move"] >= c.still
        bad = (metrics["contrast_refined"] - 1).abs() > _CONTRAST
        moved = (counts[2] > 0) | moves
        still = moved & ~moves & bad
        counts.copy_(torch.stack([torch.where(steep, counts[0] + 1, 0), torch.where(still, counts[1] + 1, 0), moved]))

    def end_epoch(self) -> None:
        """Remember the mean bits of what the flow has learned since the last call."""
        if bool(self._bits[1] > 0):
            self._epochs.add(self._bits[0] / self._bits[1])
        self._bits.zero_()

    def hopeless(self) -> str | None:
        """Why the training must go back."""
        c, broken, counts = self._config, self._broken.known(), self._counts.tolist()
        if len(broken) >= c.skips and bool(broken[-c.skips :].all()):
            return f"{c.skips} iterations in a row were skipped"
        if len(broken) == _WINDOW and float(broken.sum()) > _BROKEN_SHARE * _WINDOW:
            return f"{int(broken.sum())} of {_WINDOW} iterations were skipped"
        if counts[0] >= c.patience:
            return f"the energy was too steep for {counts[0]} iterations"
        if counts[1] >= c.still_patience:
            return (
                f"the energy has gone flat: chains have not moved for {counts[1]} iterations, and their ends are not "
                "like the data; raise chain.delta by a third, or let chains have noise (training.noise_epochs)"
            )
        bits = self._epochs.known().tolist()
        if len(bits) > _EPOCHS and all(b > a for a, b in pairwise(bits)) and bits[-1] - bits[0] > c.rise:
            return (
                f"the flow loses the chains: their bits rose from {bits[0]:.3g} to {bits[-1]:.3g} in {_EPOCHS} epochs"
            )
        return None

    # State

    def clear(self) -> None:
        """Forget all: another phase has other losses."""
        for memory in (*self._norms.values(), self._usual_bits, self._broken, self._epochs):
            memory.clear()
        self._counts.zero_()
        self._bits.zero_()

    def state(self) -> dict[str, Tensor]:
        """All that is remembered."""
        norms = {f"norms_{name}": memory.known() for name, memory in self._norms.items()}
        own = {
            "guards.usual_bits": self._usual_bits.known(),
            "guards.epochs": self._epochs.known(),
            "guards.bits": self._bits.cpu(),
            "guards.counts": self._counts.cpu(),
        }
        return {**norms, "broken": self._broken.known().to(torch.uint8), **{k: v.clone() for k, v in own.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Remember what :meth:`state` gave."""
        for name, memory in self._norms.items():
            memory.recall(state[f"norms_{name}"])
        self._broken.recall(state["broken"])
        self._usual_bits.recall(state["guards.usual_bits"])
        self._epochs.recall(state["guards.epochs"])
        self._bits.copy_(state["guards.bits"])
        self._counts.copy_(state["guards.counts"])
