"""Checkpoints: safetensors and a card, versioned and hashed. Never pickle.

``ROOT/NAME/VERSION/model.safetensors`` holds the tensors and ``card.json`` beside it says what they are: the system and
its configuration, the hashes of the files, how the model was trained and what was measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.core.files import settle, whole
from models.core.model import LoadedModel
from models.systems.registry import load_from

WEIGHTS = "model.safetensors"
CARD = "card.json"
PORTRAIT = "sample.png"
"""A picture of what a model makes, beside its card; models need none."""
_REMOVED = ".removed"
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class CheckpointError(Exception):
    """A checkpoint that can't be used, with the reason."""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions(root: Path, name: str) -> dict[int, Path]:
    """The folders of the published versions of a model in a folder of models, oldest first."""
    home = root / name
    found = (path for path in home.iterdir() if _VERSION.fullmatch(path.name)) if home.is_dir() else ()
    return dict(sorted((int(path.name), path) for path in found))


def latest_version(root: Path, name: str) -> int:
    """The greatest version of a model that is or was in a folder of models; 0 if there is none."""
    return max([*versions(root, name), _removed(root / name)])


def publish(
    root: Path, card: Mapping[str, Any], tensors: Mapping[str, Tensor], *, after: int = 0, portrait: bytes | None = None
) -> Path:
    """Write the next version of a model from its tensors; arguments and result are those of :func:`install`.

    Args:
        root: the folder of models.
        card: of the model; ``training.run`` on it says whose work it is.
        tensors: what the system's ``load`` expects.
        after: the new version is greater than this.
        portrait: what the model makes, as a PNG file.
    """

    def fill(staging: Path) -> None:
        save_file(dict(tensors), staging / WEIGHTS)
        if portrait is not None:
            (staging / PORTRAIT).write_bytes(portrait)

    return install(root, card, fill, run=str(card.get("training", {}).get("run", "")), after=after)


def install(
    root: Path, card: Mapping[str, Any], fill: Callable[[Path], object], *, run: str = "", after: int = 0
) -> Path:
    """Write the next version of a model: it is written beside the others and appears whole, by one renaming.

    Args:
        root: the folder of models.
        card: must hold ``name``; ``version`` and ``files`` are filled in here.
        fill: writes the weights into the folder that it is given; if it fails, nothing of it stays.
        run: whose work it is: what it has left when it was killed is deleted.
        after: the new version is greater than this.

    Returns:
        ``ROOT/NAME/VERSION``.
    """
    home = root / str(card["name"])
    home.mkdir(parents=True, exist_ok=True)
    mark = f".staging-{run}-"
    for left in [path for path in home.iterdir() if path.name.startswith(mark)]:
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=mark, dir=home))
    try:
        fill(staging)
        return _place(staging, home, card, after)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _place(staging: Path, home: Path, card: Mapping[str, Any], after: int) -> Path:
    (staging / WEIGHTS).chmod(0o644)  # another user may serve it
    staging.chmod(0o755)
    settle(staging / WEIGHTS)
    weights = {"sha256": sha256(staging / WEIGHTS), "bytes": (staging / WEIGHTS).stat().st_size}
    while True:
        version = 1 + max(after, latest_version(home.parent, home.name))
        write_card(staging, {**card, "version": version, "files": {WEIGHTS: weights}})
        settle(staging)
        try:
            published = staging.rename(home / str(version))
        except OSError:
            if not (home / str(version)).exists():
                raise  # not a race for the version number
        else:
            settle(home)
            return published


def remove(folder: Path) -> None:
    """Delete a version of a model. Its number is not given again: workers may have it in memory under that number."""
    home, version = folder.parent, int(folder.name)
    replace_text(home / _REMOVED, f"{max(version, _removed(home))}\n")
    gone = folder.rename(home / f".removed-{folder.name}-{os.getpid()}")
    shutil.rmtree(gone)


def _removed(home: Path) -> int:
    """The greatest version of a model that was deleted; 0 if there is none."""
    try:
        return int((home / _REMOVED).read_text())
    except (OSError, ValueError):
        return 0


def write_card(directory: Path, card: Mapping[str, Any]) -> None:
    """Write (or replace, in one step) the card of a checkpoint."""
    replace_text(directory / CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a small file in one step: a reader finds the old text or the new one, never half of one."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_card(directory: Path) -> dict[str, Any]:
    """The card of a checkpoint.

    Raises:
        CheckpointError: there is none, or it is not a JSON object.
    """
    try:
        card = json.loads((directory / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{directory.name}: no {CARD}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{CARD} can't be read: {error}") from error
    if not isinstance(card, dict):
        raise CheckpointError(f"{CARD} is not a JSON object")
    return card


def load_model(directory: Path, device: torch.device) -> LoadedModel:
    """Load a checkpoint for serving, after checking its files against the hashes of its card.

    Raises:
        CheckpointError: damaged, incomplete or mismatched files, or a variant that this version does not know.
    """
    card = read_card(directory)
    path = directory / WEIGHTS
    try:
        expected = card["files"][WEIGHTS]["sha256"]
        if (found := sha256(path)) != expected:
            raise CheckpointError(
                f"{WEIGHTS} is damaged: its SHA-256 starts {found[:12]}, the card says {expected[:12]}"
            )
        # Copied: the file's own memory is not aligned, and some libraries sum in another order then.
        return load_from(card, {name: tensor.clone() for name, tensor in load_file(path).items()}, device)
    except FileNotFoundError:
        raise CheckpointError(f"{WEIGHTS} is missing") from None
    except KeyError as error:
        raise CheckpointError(f"the card lacks {error}") from error
    except (SafetensorError, ValueError, TypeError, OSError) as error:
        raise CheckpointError(str(error)) from error


def save_state(path: Path, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
    """Save the state of a training in one step: a reader finds the old file or the new one, never half of one."""
    with whole(path) as temporary:
        save_file(dict(tensors), temporary, metadata={"progress": json.dumps(progress)})


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`save_state` wrote.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            progress = json.loads((file.metadata() or {})["progress"])
            return {name: file.get_tensor(name) for name in file.keys()}, progress  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"the saved training {path.name} can't be read: {error}") from error
