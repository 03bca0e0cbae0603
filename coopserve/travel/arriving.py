"""A model read from a folder that anybody may have written.

Two files are believed after they were checked: the card, which is JSON of a known shape, and the weights, whose size
and hash the card tells and which are safetensors. A picture is decoded and written anew. Nothing else is opened, and
nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from coopserve.travel.layout import CARD, SAMPLE, WEIGHTS, TravelError
from models.checkpoints import CheckpointError, install, latest_version, load_model, read_card, versions, write_card
from models.systems.registry import VARIANTS
from pictures.decoding import decode
from pictures.files import BadPictureError, PictureLimits, TooLargeError, examine
from pictures.png import png_of
from service.contract.cards import FileEntry, ModelCard

_CARD_BYTES = 4 * 2**20
_SAMPLE_BYTES = 8 * 2**20
_PART = 2**20


@dataclass(frozen=True)
class Arrived:
    """A model that can be served.

    Args:
        ref: name@version.
        new: False if the same model was there already.
    """

    ref: str
    new: bool


def arrive(folder: Path, models: Path, *, beside: Path, limits: PictureLimits, name: str | None = None) -> Arrived:
    """Add the model of a folder as the next version of its name. It is loaded once, to see that it works.

    Args:
        folder: where it is.
        models: the folder of models that it is added to.
        beside: another folder of models, whose versions of the name are not used again.
        limits: of its picture.
        name: in place of its own.

    Raises:
        TravelError: the folder holds no model that can be used.
    """
    card = _card(folder, name)
    weights = card.files[WEIGHTS]
    for place in (models, beside):
        if (known := _same(place, card)) is not None:
            return Arrived(known, new=False)
    told = {**card.model_dump(mode="json"), "owner": None}

    def fill(staging: Path) -> None:
        _copy_weights(folder, staging / WEIGHTS, weights)
        _check_tensors(staging / WEIGHTS)
        _copy_sample(folder, staging / SAMPLE, limits)
        write_card(staging, told)
        try:
            load_model(staging, torch.device("cpu"))
        except (CheckpointError, RuntimeError, MemoryError, ArithmeticError, LookupError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:300]
            raise TravelError(f"the model can't be loaded: {reason}") from None

    try:
        made = install(models, told, fill, run="arriving", after=latest_version(beside, card.name))
    except OSError as error:
        raise TravelError(f"{models / card.name} can't be written: {error.strerror}") from None
    return Arrived(f"{card.name}@{made.name}", new=True)


def _card(folder: Path, name: str | None) -> ModelCard:
    """The card, if all that it says can be."""
    with _opened(folder / CARD) as file:
        text = file.read(_CARD_BYTES + 1)
    if len(text) > _CARD_BYTES:
        raise TravelError(f"{CARD} has more than {_CARD_BYTES} bytes")
    try:
        card = ModelCard.model_validate_json(text)
        if name is not None:
            card = ModelCard.model_validate({**card.model_dump(), "name": name})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or CARD
        raise TravelError(f"{CARD} is not valid: {where}: {first['msg']}") from None
    if set(card.files) != {WEIGHTS}:
        raise TravelError(f"{CARD} names the files {sorted(card.files)}; a model has one, {WEIGHTS}")
    if card.variant is not None and card.variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise TravelError(f"this version knows no {card.variant[:100]!r}; the kinds of model are: {known}")
    return card


def _same(root: Path, card: ModelCard) -> str | None:
    """The version of the name that has the same weights and settings, if there is one."""
    for version, place in versions(root, card.name).items():
        try:
            known = read_card(place)
        except CheckpointError:
            continue
        if known.get("config") == card.config and _hash(known) == card.files[WEIGHTS].sha256:
            return f"{card.name}@{version}"
    return None


def _hash(card: dict[str, Any]) -> Any:
    files = card.get("files")
    entry = files.get(WEIGHTS) if isinstance(files, dict) else None
    return entry.get("sha256") if isinstance(entry, dict) else None


def _copy_weights(folder: Path, target: Path, expected: FileEntry) -> None:
    """Copy the weights, and check what was copied: the file itself may change meanwhile."""
    digest, size = hashlib.sha256(), 0
    with _opened(folder / WEIGHTS) as source, target.open("wb") as copy:
        while part := source.read(_PART):
            size += len(part)
            if size > expected.bytes:
                break
            digest.update(part)
            copy.write(part)
    if size != expected.bytes:
        more = "more" if size > expected.bytes else "fewer"
        raise TravelError(f"{WEIGHTS} has {more} bytes than the {expected.bytes} of the card")
    if digest.hexdigest() != expected.sha256:
        found = digest.hexdigest()[:12]
        raise TravelError(
            f"{WEIGHTS} is not the file of the card: its SHA-256 starts {found}, not {expected.sha256[:12]}"
        )


def _check_tensors(path: Path) -> None:
    try:
        with safe_open(path, "pt") as file:
            file.keys()
    except SafetensorError as error:
        raise TravelError(f"{WEIGHTS} is not in the format safetensors: {error}") from None


def _copy_sample(folder: Path, target: Path, limits: PictureLimits) -> None:
    """The picture, decoded and written anew; one that is not there or can't be used is left out."""
    try:
        with _opened(folder / SAMPLE) as file:
            data = file.read(_SAMPLE_BYTES + 1)
        if len(data) <= _SAMPLE_BYTES:
            target.write_bytes(png_of(decode(examine(data, limits))))
    except (TravelError, BadPictureError, TooLargeError):
        return


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A plain file of the folder itself: no link to another place, no device, no pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise TravelError(f"{path} can't be read: {reason}") from None
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise TravelError(f"{path} is no plain file")
        yield file
