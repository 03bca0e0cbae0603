"""Model cards on disk: which models can be served, and what each of them can do.

A model is a folder ``DIR/<name>/<version>/`` with a ``card.json`` and the files that the card names. New folders
are seen without a restart; a damaged card is reported and does not stop the others.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from service.contract import model_folders
from service.contract.cards import ModelCard
from service.contract.errors import NotFoundError, UnprocessableError
from service.contract.trainings import MODEL_NAME

log = logging.getLogger(__name__)

_NAME = re.compile(MODEL_NAME)
_REFERENCE = re.compile(rf"(?P<name>{MODEL_NAME.strip('^$')})(@(?P<version>latest|[1-9]\d{{0,8}}))?")
UNREADABLE = ""
"""Who owns a model whose card does not say: no key's owner has this name, so that administrators alone see it."""

_SEEN_SECONDS = 0.1
"""For how long a look at the directories is good enough for :meth:`Catalog.seen`."""
_SETTLED_NS = 2_000_000_000
"""What has changed within so many nanoseconds may change again without a later time of change."""


@dataclass(frozen=True)
class Model:
    """A folder of a model: its card, or the reason why it can't be served."""

    name: str
    version: int
    folder: Path
    card: ModelCard | None
    reason: str | None
    owner: str | None

    @property
    def ref(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


Sees = Callable[[str | None], bool]
"""Whether models of an owner are shown; models of None are everybody's."""


PICTURE = "sample.png"
"""A picture in a model's folder that shows what it makes; models need none."""


def everything(_: str | None) -> bool:
    """What operators see on the server's own machine."""
    return True


def sole_owner(holders: Set[str | None]) -> str | None:
    """Whose a name is by the owners of its versions; everybody's if they do not agree or do not say."""
    known = holders - {UNREADABLE}
    return next(iter(known)) if len(known) == 1 else None


class Catalog:
    """The models in several directories; where two hold the same name and version, the earlier directory wins.

    Safe to use from many threads.
    """

    def __init__(self, dirs: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._dirs, self._clock = tuple(dirs), clock
        self._lock = threading.Lock()
        self._signature: tuple[tuple[str, int], ...] | None = None
        self._seen: dict[str, int] = {}  # when all that a reading looked at had last changed
        self._models: dict[str, dict[int, Model]] = {}
        self._looked = -math.inf  # when the directories were last looked at

    def list(self, sees: Sees = everything) -> list[Model]:
        """All models and versions by name, newest version first; the damaged ones too, with their reason."""
        models = _seen(self._scan(), sees)
        return [models[name][version] for name in sorted(models) for version in sorted(models[name], reverse=True)]

    def folder(self, ref: str) -> Path:
        """The directory of a model that can be served; raises as :meth:`get` does."""
        return self._find(ref).folder

    def owners(self, name: str) -> frozenset[str | None]:
        """Whose the versions of a name are; nothing for a name that is free."""
        return frozenset(model.owner for model in self._scan().get(name, {}).values())

    def get(self, ref: str, sees: Sees = everything) -> ModelCard:
        """The card of ``name``, ``name@3`` or ``name@latest``. Without a number: the newest version that is whole.

        Raises:
            NotFoundError: there is no such name or version that may be seen (the detail says what exists).
            UnprocessableError: the version exists, but is damaged.
        """
        card = self._find(ref, sees).card
        assert card is not None  # _find gives back whole models only
        return card

    def seen(self, ref: str, sees: Sees = everything) -> ModelCard | None:
        """The same without a look at the directories, which may be far away: for an event loop.

        Returns:
            None if there is no such card, or the last look is not recent: ask :meth:`get`, which tells what is wrong.
        """
        if self._clock() - self._looked > _SEEN_SECONDS:
            return None
        try:
            return self._pick(_seen(self._models, sees), ref).card
        except (NotFoundError, UnprocessableError):
            return None

    def _find(self, ref: str, sees: Sees = everything) -> Model:
        return self._pick(_seen(self._scan(), sees), ref)

    def _pick(self, models: Mapping[str, Mapping[int, Model]], ref: str) -> Model:
        match = _REFERENCE.fullmatch(ref)
        versions = models.get(match["name"]) if match else None
        if match is None or versions is None:
            known = ", ".join(sorted(models)[:20]) or "none yet"
            raise NotFoundError("unknown-model", f"there is no model {ref[:100]!r}; the models are: {known}")
        if match["version"] not in (None, "latest"):
            model = versions.get(int(match["version"]))
            if model is None:
                known = ", ".join(str(version) for version in sorted(versions)[-20:])
                raise NotFoundError("unknown-model", f"{match['name']} has no version {match['version']}, but: {known}")
        else:
            whole = [version for version, model in versions.items() if model.card]
            model = versions[max(whole or versions)]
        if model.card is None:
            raise UnprocessableError("unavailable-model", f"{model.ref} can't be served: {model.reason}")
        return model

    def _scan(self) -> dict[str, dict[int, Model]]:
        """The models, read again only if a directory or card has changed."""
        looked, models = self._clock(), self._look()
        self._looked = looked
        return models

    def _look(self) -> dict[str, dict[int, Model]]:
        seen = self._seen
        if seen and all(model_folders.changed_at(path) == when for path, when in seen.items()):
            return self._models
        now = time.time_ns()
        folders = list(self._folders())
        signature = tuple((str(folder), model_folders.changed(folder)) for _, _, folder in folders)
        with self._lock:
            if signature != self._signature:
                models: dict[str, dict[int, Model]] = {}
                for name, version, folder in folders:
                    versions = models.setdefault(name, {})
                    versions.setdefault(version, _read(name, version, folder))
                self._models, self._signature = models, signature
            seen = {path: model_folders.changed_at(path) for path in self._places(folder for _, _, folder in folders)}
            self._seen = seen if max(seen.values(), default=now) < now - _SETTLED_NS else {}
            return self._models

    def _places(self, folders: Iterable[Path]) -> Iterator[str]:
        """All that changes when a model comes, goes or changes."""
        for root in self._dirs:
            yield str(root)
            yield from (str(root / name) for name in model_folders.subfolders(root))
        for folder in folders:
            yield str(folder)
            yield str(folder / "card.json")

    def _folders(self) -> Iterator[tuple[str, int, Path]]:
        for root in self._dirs:
            for name in model_folders.subfolders(root):
                if not _NAME.fullmatch(name):
                    continue
                for version in model_folders.subfolders(root / name):
                    if re.fullmatch(r"[1-9]\d{0,8}", version):
                        yield name, int(version), root / name / version


def _seen(models: dict[str, dict[int, Model]], sees: Sees) -> dict[str, dict[int, Model]]:
    if sees is everything:
        return models
    found = {name: {v: m for v, m in versions.items() if sees(m.owner)} for name, versions in models.items()}
    return {name: versions for name, versions in found.items() if versions}


def _owner(text: bytes) -> str | None:
    """The owner that a card names, as far as it can be read."""
    try:
        card = json.loads(text)
    except ValueError:
        return UNREADABLE
    owner = card.get("owner") if isinstance(card, dict) else UNREADABLE
    return owner if owner is None or isinstance(owner, str) else UNREADABLE


def _read(name: str, version: int, folder: Path) -> Model:
    owner: str | None = UNREADABLE
    try:
        text = (folder / "card.json").read_bytes()
        owner = _owner(text)
        card = ModelCard.model_validate_json(text)
        reason = _mismatch(card, name, version, folder)
    except OSError as error:
        card, reason = None, f"card.json can't be read: {error.strerror}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "card.json"
        card, reason = None, f"card.json is not valid: {where}: {first['msg']}"
    if reason is not None:
        log.warning("%s@%s at %s can't be served: %s", name, version, folder, reason)
        card = None
    return Model(name, version, folder, card, reason, owner)


def _mismatch(card: ModelCard, name: str, version: int, folder: Path) -> str | None:
    """What in the folder disagrees with its card; hashes are checked when the model is loaded."""
    if (card.name, card.version) != (name, version):
        return f"the card says {card.ref}, but the folder is {name}/{version}"
    for file, entry in card.files.items():
        try:
            size = os.stat(folder / file).st_size
        except OSError:
            return f"{file} is missing"
        if size != entry.bytes:
            return f"{file} has {size} bytes, the card says {entry.bytes}"
    return None
