"""A zip file from a client becomes a folder of pictures, or is refused: nothing of its paths or sizes is believed.

Every size is counted while it is unpacked, so an archive can't grow beyond the limits, whatever its directory says.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from layouts.idx import is_idx
from layouts.listing import LeftOut, Reason, reason_of_ending, reason_of_entry
from pictures.files import BadPictureError, PictureLimits, TooLargeError, examine

_END, _END_SIZE = b"PK\x05\x06", 22
_LOCATOR_SIZE, _END64_MOST = 20, 0xFFFFFFFF
_LONGEST_COMMENT = 65_535
_ENTRY_BYTES = 600
"""Memory that the directory of an archive may take for each picture that a data set may have."""
_DEPTH = 8
_LONGEST_NAME = 255
_SPAN = 2**20
_SHOWN = 5
_DRIVE = re.compile(r"[A-Za-z]:")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError, RuntimeError)


class BadDataError(Exception):
    """The file is no data set that can be used; the message says why."""


class TooMuchDataError(Exception):
    """It is larger than is allowed; the message gives the limit."""


@dataclass(frozen=True)
class DataLimits:
    """What is accepted.

    Args:
        max_bytes: of the file, and of all that is in it.
        max_files: pictures, or arrays.
        pictures: of each picture.
    """

    max_bytes: int
    max_files: int
    pictures: PictureLimits


@dataclass(frozen=True)
class _Member:
    """A file of an archive that is kept: its path there, and the one that it gets."""

    info: zipfile.ZipInfo
    there: PurePosixPath
    path: PurePosixPath


def opened(file: IO[bytes], limits: DataLimits) -> zipfile.ZipFile:
    """The archive, once it is known that its directory is not too large to be read.

    Raises:
        BadDataError: it is no zip archive.
        TooMuchDataError: it has too many entries.
    """
    try:
        if _directory_bytes(file) > limits.max_files * _ENTRY_BYTES:
            raise TooMuchDataError(f"it has too many entries; at most {limits.max_files} pictures are accepted")
        file.seek(0)
        return zipfile.ZipFile(file)
    except _DAMAGED as error:
        raise BadDataError(f"it is no zip or npz archive, or is damaged ({error})") from None


def _directory_bytes(file: IO[bytes]) -> int:
    """How large the directory of an archive says that it is; a reader reads no more than that."""
    size = file.seek(0, 2)
    start = max(0, size - _END_SIZE - _LONGEST_COMMENT)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0:
        raise zipfile.BadZipFile("there is no directory at its end")
    (found,) = struct.unpack_from("<I", tail, at + 12)
    if found == _END64_MOST:
        (where,) = struct.unpack_from("<Q", tail, at - _LOCATOR_SIZE + 8)
        file.seek(where)
        (found,) = struct.unpack_from("<Q", file.read(56), 40)
    return int(found)


def unpack(archive: zipfile.ZipFile, folder: Path, limits: DataLimits) -> list[LeftOut]:
    """Write the pictures and IDX files of an archive into a folder; gives what was left out.

    A folder that all of them lie in is not made.

    Raises:
        BadDataError: a path leads out of the folder, an entry is encrypted, a link or damaged, or a picture can't be
            used.
        TooMuchDataError: there are too many files, or too many bytes.
    """
    out: list[LeftOut] = []
    found = list(_members(archive, out))
    out += _empty(archive, found)
    members = _without_top(found)
    if len(members) > limits.max_files:
        raise TooMuchDataError(f"it has {len(members)} pictures; at most {limits.max_files} are accepted")
    if len({member.path for member in members}) < len(members):
        raise BadDataError("two of its files have the same path")
    left, bad = limits.max_bytes, list[str]()
    for member in members:
        target = folder / member.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member.info) as source:
                left -= _kept(source, target, left, limits)
        except BadPictureError as error:
            bad.append(f"{member.there}: {error}")
            if len(bad) == _SHOWN:
                break
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise BadDataError(f"{member.there} is a file and a folder at once") from None
        except _DAMAGED as error:
            raise BadDataError(f"{member.there} is damaged ({error})") from None
    if bad:
        raise BadDataError(f"pictures can't be used; remove or replace them: {'; '.join(bad)}")
    return out


def _members(archive: zipfile.ZipFile, out: list[LeftOut]) -> Iterator[_Member]:
    """The files that are kept; the others are noted."""
    for info in archive.infolist():
        path = _safe_path(info)
        if info.is_dir():
            continue
        reason = next(filter(None, map(reason_of_entry, path.parts)), None)
        if reason is None and not is_idx(path.name):
            reason = reason_of_ending(path.suffix)
        if reason is None:
            _check_entry(info, path)
            yield _Member(info, path, path)
        elif reason is not Reason.SYSTEM:
            out.append(LeftOut(Path(path), reason))


def _empty(archive: zipfile.ZipFile, members: list[_Member]) -> Iterator[LeftOut]:
    """The folders of an archive without anything that is kept, the outermost of each."""
    used = {parent for member in members for parent in member.there.parents}
    for path in sorted(_safe_path(info) for info in archive.infolist() if info.is_dir()):
        if path not in used and path.parent in used and not any(map(reason_of_entry, path.parts)):
            yield LeftOut(Path(path), Reason.EMPTY)


def _safe_path(info: zipfile.ZipInfo) -> PurePosixPath:
    """Where an entry would lie, below the folder that it is unpacked into.

    Raises:
        BadDataError: it would lie elsewhere.
    """
    name = unicodedata.normalize("NFC", _text(info)).replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts:
        raise BadDataError(f"the path {name[:100]!r} leads out of the data set")
    if not parts or len(parts) > _DEPTH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise BadDataError(f"the path {name[:100]!r} is too long or too deep")
    if not all(part.isprintable() for part in parts):
        raise BadDataError(f"the path {name[:100]!r} has signs that can't be seen")
    return PurePosixPath(*parts)


def _text(info: zipfile.ZipInfo) -> str:
    """The name of an entry: many programs write UTF-8 without saying so, which is read as another encoding."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _check_entry(info: zipfile.ZipInfo, path: PurePosixPath) -> None:
    if info.flag_bits & 0x1:
        raise BadDataError(f"{path} is encrypted; send the archive without a password")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise BadDataError(f"{path} is a link; send the file itself")
    if info.compress_type not in _METHODS:
        raise BadDataError(f"{path} is compressed by a method that is not read; use deflate, as most programs do")


def _without_top(members: list[_Member]) -> list[_Member]:
    """The members without the folders that all of them lie in."""
    while members and all(len(member.path.parts) > 1 for member in members):
        if len({member.path.parts[0] for member in members}) > 1:
            break
        members = [replace(member, path=PurePosixPath(*member.path.parts[1:])) for member in members]
    return members


def _kept(source: IO[bytes], target: Path, left: int, limits: DataLimits) -> int:
    """Write one file; gives its bytes. A picture is looked at as those of requests are.

    Raises:
        BadPictureError: it is none that could be used.
        TooMuchDataError: no more than ``left`` bytes may be written.
    """
    too_much = TooMuchDataError(f"it has more than {limits.max_bytes} bytes in it")
    if reason_of_ending(target.suffix) is None:
        data = source.read(limits.pictures.max_bytes + 1)
        if len(data) > limits.pictures.max_bytes:
            raise BadPictureError(f"it has more than {limits.pictures.max_bytes} bytes")
        if len(data) > left:
            raise too_much
        try:
            examine(data, limits.pictures)
        except TooLargeError as error:
            raise BadPictureError(str(error)) from None
        target.write_bytes(data)
        return len(data)
    written = 0
    with target.open("xb") as file:
        while chunk := source.read(_SPAN):
            written += len(chunk)
            if written > left:
                raise too_much
            file.write(chunk)
    return written
