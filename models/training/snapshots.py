"""States that a training can go back to: a few recent ones that proved healthy, and the best one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from models.checkpoints import load_state, save_state

EVERY = 200
"""Iterations between snapshots. One is healthy when the training went on for as many without objection of a guard."""

_KEPT = 3

State: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]
"""The tensors of a training, and the rest of its state."""


class Snapshots:
    """A ring of states in a folder, one file each, named by the iteration.

    A divergence is noticed when it has happened, so the newest state may already carry it; an older one does not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("*.safetensors"))

    def add(self, iteration: int, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Keep a state, and let the oldest go if there are too many."""
        save_state(self._folder / f"{iteration:09d}.safetensors", dict(tensors), dict(progress))
        for old in self._all()[:-_KEPT]:
            old.unlink()

    def go_back(self, iteration: int) -> State:
        """The newest state that was healthy when the training failed at an iteration; later ones are dropped.

        Where none is old enough, the oldest there is.
        """
        paths = self._all()
        healthy = [path for path in paths if int(path.stem) <= iteration - EVERY] or paths[:1]
        for late in paths[len(healthy) :]:
            late.unlink()
        return load_state(healthy[-1])

    def keep_newest(self) -> None:
        """Forget all others: the training has entered another stage."""
        for old in self._all()[:-1]:
            old.unlink()
