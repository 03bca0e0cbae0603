"""All data sets that a caller may train on, and those that callers upload."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from uuid import uuid4

from layouts.layout import data_name
from layouts.listing import LeftOut
from service.contract.data_facts import Known
from service.contract.data_places import find_data, names_of_uploads, of_server, owners, uploads_of
from service.contract.errors import NotFoundError, ServiceError, StorageError, invalid
from service.contract.records import now
from service.datasets.arrays import check_npz, is_npz
from service.datasets.contents import DataSet, address, described
from service.datasets.unpacking import BadDataError, DataLimits, TooMuchDataError, opened, unpack
from service.pictures.room import Room

_CARD = ".dataset.json"
_SPAN = 2**20
_LEFT_SECONDS = 24 * 3600.0
"""A draft of this age is what an API that was killed has left behind: no upload takes so long."""


class DataSets:
    """The data sets of a folder. Safe to use from many threads and processes.

    Args:
        root: the folder of data.
        known: the data sets that can be fetched.
        limits: what an upload may hold.
        quota: most bytes of all uploads of one owner.
        room: whether the disk has room.
    """

    def __init__(self, root: Path, known: Mapping[str, Known], limits: DataLimits, quota: int, room: Room) -> None:
        self._root, self._known, self._limits, self._quota, self._room = root, known, limits, quota, room

    def list(self, owner: str | None, *, everybody: bool) -> list[DataSet]:
        """The data sets that can be fetched, those of the server, and the uploads of an owner or of everybody."""
        found = [self._fetchable(name) for name in self._known]
        found += [self._of_server(path) for path in of_server(self._root) if data_name(path) not in self._known]
        whose = dict.fromkeys([owner, *owners(self._root)]) if everybody else [owner]
        return found + [self._upload(name, one) for one in whose for name in names_of_uploads(self._root, one)]

    def get(self, name: str, owner: str | None) -> DataSet:
        """A data set that an owner may train on.

        Raises:
            NotFoundError: there is none of this name.
        """
        if name in names_of_uploads(self._root, owner):
            return self._upload(name, owner)
        if name in self._known:
            return self._fetchable(name)
        path = next((path for path in of_server(self._root) if data_name(path) == name), None)
        if path is None:
            raise self._unknown(name)
        return self._of_server(path)

    def delete(self, name: str, owner: str | None) -> None:
        """Delete an upload of an owner.

        Raises:
            NotFoundError: the owner has uploaded none of this name.
        """
        if name not in names_of_uploads(self._root, owner):
            raise self._unknown(name)
        gone = uploads_of(self._root, owner) / f".gone-{uuid4().hex}"
        (uploads_of(self._root, owner) / name).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def add(self, file: IO[bytes], name: str, owner: str | None) -> DataSet:
        """Keep an uploaded zip or npz file under a name.

        Raises:
            ServiceError: the name is taken, the file can't be used or is too large, or there is no room for it.
        """
        if name in self._known or find_data(self._root, name, owner):
            raise ServiceError("dataset-exists", f"there is a data set {name!r} already")
        self._sweep(owner)
        size = file.seek(0, 2)
        self._check_room(size, owner)
        draft = uploads_of(self._root, owner) / f".draft-{uuid4().hex}"
        draft.mkdir(parents=True)
        try:
            card = self._written(file, draft, DataSet(name=name, url=address(name), source="uploaded", owner=owner))
            self._check_room(card.bytes or 0, owner)
            (draft / _CARD).write_text(card.model_dump_json(indent=1))
            try:
                draft.rename(uploads_of(self._root, owner) / name)
            except OSError as error:
                if not (uploads_of(self._root, owner) / name).exists():
                    raise
                raise ServiceError("dataset-exists", f"there is a data set {name!r} already") from error
        except BadDataError as error:
            raise invalid("file", str(error), kind="invalid-dataset") from None
        except TooMuchDataError as error:
            raise ServiceError("dataset-too-large", f"file: {error}") from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return card

    def _sweep(self, owner: str | None) -> None:
        """Delete what killed uploads and deletions of an owner have left."""
        for path in uploads_of(self._root, owner).glob(".*"):
            if path.stat().st_mtime < time.time() - _LEFT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    def _written(self, file: IO[bytes], draft: Path, blank: DataSet) -> DataSet:
        """Write the data of an upload, and see what they are."""
        out: list[LeftOut] = []
        with opened(file, self._limits) as archive:
            path = draft / (f"{blank.name}.npz" if is_npz(archive) else blank.name)
            if is_npz(archive):
                check_npz(archive, self._limits)
            else:
                path.mkdir()
                out = unpack(archive, path, self._limits)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        if not path.is_dir():
            file.seek(0)
            with path.open("xb") as copy:
                shutil.copyfileobj(file, copy, _SPAN)
        size = sum(one.stat().st_size for one in draft.rglob("*") if one.is_file())
        kept = {"bytes": size, "sha256": sha256, "created_at": now()}
        card = described(path, blank.model_copy(update=kept), out)
        if not card.available:
            raise BadDataError(card.reason or "it holds no images")
        return card

    def _check_room(self, wanted: int, owner: str | None) -> None:
        self._room.check(wanted)
        used = sum(self._upload(name, owner).bytes or 0 for name in names_of_uploads(self._root, owner))
        if used + wanted > self._quota:
            detail = f"your data sets take {used} bytes and this one {wanted}; together at most {self._quota}"
            raise StorageError("too-much-stored", detail)

    def _upload(self, name: str, owner: str | None) -> DataSet:
        folder = uploads_of(self._root, owner) / name
        try:
            return DataSet.model_validate_json((folder / _CARD).read_bytes())
        except (OSError, ValueError):
            reason = "its description can't be read; delete it and upload it again"
            return DataSet(name=name, url=address(name), source="uploaded", owner=owner, available=False, reason=reason)

    def _of_server(self, path: Path) -> DataSet:
        return described(path, DataSet(name=data_name(path), url=address(data_name(path)), source="server"))

    def _fetchable(self, name: str) -> DataSet:
        known, here = self._known[name], (self._root / name).is_dir()
        width, height = known.size
        return DataSet(
            name=name,
            url=address(name),
            source="fetched",
            available=here,
            reason=None if here else f"it was not fetched yet; the operator does by `coopserve data fetch {name}`",
            kind="classes" if known.labels else "pairs" if known.pairs else "images",
            width=width,
            height=height,
            channels=known.channels,
        )

    def _unknown(self, name: str) -> NotFoundError:
        return NotFoundError("unknown-dataset", f"there is no data set {name[:100]!r} of yours")
