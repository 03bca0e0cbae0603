"""A model written as a folder that others can read."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from coopserve.travel.layout import CARD, CONFIG, README, SAMPLE, WEIGHTS, TravelError
from coopserve.travel.readme import page
from service.contract.cards import ModelCard
from service.contract.catalog import Catalog


def leave(catalog: Catalog, ref: str, target: Path) -> ModelCard:
    """Write a model into a folder, which must be new or empty.

    Whose model it is does not travel.

    Raises:
        ServiceError: there is no such model, or it is damaged.
        TravelError: the folder has files, or the model's weights are not those of its card.
    """
    card = catalog.get(ref)
    source = catalog.folder(card.ref)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise TravelError(f"{target} is there already; name a new folder")
    expected = card.files.get(WEIGHTS)
    if expected is None or _sha256(source / WEIGHTS) != expected.sha256:
        raise TravelError(f"{WEIGHTS} of {card.ref} is damaged: its SHA-256 is not the one on the card")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / WEIGHTS, target / WEIGHTS)
    sample = (source / SAMPLE).is_file()
    if sample:
        shutil.copyfile(source / SAMPLE, target / SAMPLE)
    told = json.loads((source / CARD).read_text(encoding="utf-8"))
    told.pop("owner", None)
    _write(target / CARD, json.dumps(told, indent=2, ensure_ascii=False))
    _write(target / CONFIG, json.dumps(config_of(card), indent=2, ensure_ascii=False))
    _write(target / README, page(card, sample=sample))
    return card


def config_of(card: ModelCard) -> dict[str, object]:
    """What the networks are, for programs that look for a ``config.json``."""
    return {
        "library_name": "coopserve",
        "system": card.system,
        "variant": card.variant,
        "image": card.image.model_dump(),
        "condition": card.condition.model_dump() if card.condition else None,
        "classes": card.classes,
        "tasks": list(card.tasks),
        "config": card.config,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
