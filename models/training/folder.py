"""The folder that a training lives in.

``config.json`` says what is trained, ``run`` names this one run of it, ``metrics.jsonl`` holds a line a logged
iteration, ``state.safetensors`` all that the next iteration depends on, ``best.safetensors`` the best state of the
stage; ``snapshots/``, ``samples/``, ``training.png``.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from torch import Tensor

from models.checkpoints import load_state, replace_text, save_state
from models.core.files import sweep
from models.training.configuration import TrainingError
from models.training.curves import BARE, Curve, Headings
from models.training.figures import draw_training, read_lines, save_sheet
from models.training.snapshots import State

_RUN, _STATE = "run", "state.safetensors"
_TRAINING = "training"
"""What a saved state calls the digest of its training's identity."""


@final
class Folder:
    """The files of one training.

    Args:
        path: the folder; it is made.
        identity: what the training is, as JSON; it is written, or held against what is there.

    Raises:
        TrainingError: the folder holds another training.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._state, self._best = path / _STATE, path / "best.safetensors"
        self.metrics_file, self._samples = path / "metrics.jsonl", path / "samples"
        self._samples.mkdir(parents=True, exist_ok=True)
        for place in (path, self._samples, path / "snapshots"):
            sweep(place)
        held, self._digest = identity_of(path), digest_of(identity)
        if held is None and self.begun:  # the file is lost or damaged, but the state names its training, too
            own = load_state(self._state)[1].get(_TRAINING, self._digest) == self._digest
            held = dict(identity) if own else {}
        if held is not None and held != identity:
            raise TrainingError(_other(path, held, identity))
        replace_text(path / "config.json", json.dumps(identity, indent=2) + "\n")

    @cached_property
    def run(self) -> str:
        """What the card of the model calls this run: the folder's name, and a mark that another run there lacks."""
        if not (self.path / _RUN).exists():
            replace_text(self.path / _RUN, f"{self.path.name}.{secrets.token_hex(4)}\n")
        return run_of(self.path)

    @property
    def begun(self) -> bool:
        """Whether a state was saved."""
        return has_begun(self.path)

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        save_state(self._state, tensors, {**progress, _TRAINING: self._digest})

    def load(self) -> State:
        tensors, progress = load_state(self._state)
        return tensors, {name: value for name, value in progress.items() if name != _TRAINING}

    def save_best(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        save_state(self._best, tensors, progress)

    def load_best(self) -> dict[str, Tensor]:
        return load_state(self._best)[0]

    def forget_best(self) -> None:
        self._best.unlink(missing_ok=True)

    def log(self, line: Mapping[str, Any]) -> None:
        """Add a line of metrics."""
        with self.metrics_file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def cut_log(self, iteration: int) -> None:
        """Forget the lines after an iteration: they will be written again. A torn line goes too."""
        if self.metrics_file.exists():
            kept = [line for line in read_lines(self.metrics_file) if line["iteration"] <= iteration]
            replace_text(self.metrics_file, "".join(f"{json.dumps(line)}\n" for line in kept))

    def save_sheet(self, images: Tensor, iteration: int, headings: Headings = BARE) -> Path:
        """Write a sheet of samples as PNG."""
        return save_sheet(images, self._samples / f"{iteration:08d}.png", headings)

    def draw_figure(self, meanings: Mapping[str, Curve] = MappingProxyType({})) -> Path | None:
        """Write ``training.png``: the metrics, and the newest sheet. None if nothing was measured yet."""
        sheets, path = sorted(self._samples.glob("*.png")), self.path / "training.png"
        drawn = draw_training(self.metrics_file, sheets[-1] if sheets else None, path, meanings)
        return path if drawn else None


def has_begun(path: Path) -> bool:
    """Whether a folder holds the state of a training."""
    return (path / _STATE).exists()


def identity_of(path: Path) -> dict[str, Any] | None:
    """What the training in a folder is, as :meth:`models.training.plan.Plan.identity` has it; None if nothing says."""
    try:
        held = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return held if isinstance(held, dict) else None


def digest_of(identity: Mapping[str, Any]) -> str:
    """A short name of a training's identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def run_of(path: Path) -> str:
    """The name of the run in a folder; empty where it was never asked for."""
    return (path / _RUN).read_text().strip() if (path / _RUN).exists() else ""


def _other(path: Path, held: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Why what a folder holds is not this training."""
    differing = {name for name in identity if held.get(name) != identity[name]}
    if differing == {"data"}:
        return (
            f"{path} holds a training on other data, so it can't go on with these: put the data back as they were, "
            "or begin a new training"
        )
    return f"{path} holds another training; choose another folder or repeat its settings"
