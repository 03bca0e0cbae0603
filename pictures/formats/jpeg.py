"""JPEG (ITU-T T.81), with Exif data and colour profiles in application segments."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from pictures.info import MAX_PROFILE, BadPictureError, FileInfo, PictureLimits, check_trailer, cut_short

SIGNATURE = b"\xff\xd8\xff"

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # start of frame, by kind of coding
_SCAN, _END, _COMMENT = 0xDA, 0xD9, 0xFE
_APPS = range(0xE0, 0xF0)
_COLOURS = (0xE0, 0xEE)  # JFIF and Adobe: they tell in which space the colours are coded
_EXIF, _PROFILE = (0xE1, b"Exif\0\0"), (0xE2, b"ICC_PROFILE\0")
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # stuffed zeros and restarts belong to the data of a scan
_PADDING = re.compile(rb"[\x00\xff\r\n\t ]*")
_MAX_SCANS = 100  # encoders write about ten
_MAX_SCANNED = 2**30  # pixels; a decoder goes through the whole picture for each scan


@dataclass
class _Found:
    """What lies between the begin and the end of a JPEG."""

    end: int = 0
    size: tuple[int, int] | None = None
    channels: int = 0
    scans: int = 0
    coded: int = 0
    exif: bytes | None = None
    profile: dict[int, bytes] = field(default_factory=dict)
    kept: list[memoryview] = field(default_factory=list)


def examine(data: bytes, limits: PictureLimits, counted: bool) -> FileInfo:
    """What the file says; ``counted``: also check that its data may make as many pixels as its header promises."""
    found = _one_jpeg(data, 0, limits)
    if found.size is None:
        raise BadPictureError("the JPEG file has no picture")
    if found.scans > _MAX_SCANS:
        raise BadPictureError(f"its picture is built up in {found.scans} scans; at most {_MAX_SCANS} are accepted")
    width, height = found.size
    if found.scans > 1 and found.scans * width * height > _MAX_SCANNED:
        raise BadPictureError(f"its {width}x{height} pixels are built up in {found.scans} scans; save it with fewer")
    # No coding spends less than a bit on a block of 8x8 pixels.
    if counted and found.coded * 8 < -(-width // 8) * -(-height // 8):
        raise BadPictureError(f"its data do not make the {width}x{height} pixels of its header")
    check_trailer(data, _last_end(data, found.end, limits))
    profile = b"".join(found.profile[number] for number in sorted(found.profile))
    kept = b"".join((SIGNATURE[:2], *found.kept, b"\xff\xd9"))
    usable = profile if 0 < len(profile) <= MAX_PROFILE else None
    return FileInfo("jpeg", width, height, found.channels == 1, kept, usable, found.exif)


def _last_end(data: bytes, end: int, limits: PictureLimits) -> int:
    """Where the last picture ends: cameras append smaller ones (CIPA DC-007), of which none is used."""
    while data.startswith(SIGNATURE, start := _padded(data, end)):
        try:
            end = _one_jpeg(data, start, limits).end
        except (BadPictureError, struct.error, IndexError):
            break
    return end


def _padded(data: bytes, at: int) -> int:
    """Where padding from ``at`` on ends; a 0xFF may already be the begin of a JPEG."""
    match = _PADDING.match(data, at)
    end = match.end() if match else at
    return end - 1 if data[end - 1 : end + 2] == SIGNATURE else end


def _one_jpeg(data: bytes, start: int, limits: PictureLimits) -> _Found:
    """Walk through the segments of the JPEG that begins at ``start``."""
    found, view = _Found(), memoryview(data)
    marker, at = _marker(data, start + 2, within_scan=False)
    while marker != _END:
        (length,) = struct.unpack_from(">H", data, at + 2)
        after = at + 2 + length
        body = view[at + 4 : after]
        if marker in _FRAMES:
            height, width, found.channels = struct.unpack_from(">HHB", data, at + 5)
            limits.check(width, height)
            found.size = width, height
        if marker in _APPS:
            _take(found, marker, bytes(body))
        found.scans += marker == _SCAN
        following, next_at = _marker(data, after, within_scan=marker == _SCAN)
        found.coded += next_at - after
        if marker in _COLOURS or marker not in (*_APPS, _COMMENT):
            found.kept.append(view[at:next_at])
        marker, at = following, next_at
    found.end = at + 2
    return found


def _take(found: _Found, marker: int, body: bytes) -> None:
    """Exif data, and the parts of a profile by their numbers; the first of several is used."""
    if marker == _EXIF[0] and body.startswith(_EXIF[1]):
        found.exif = found.exif or body
    if marker == _PROFILE[0] and body.startswith(_PROFILE[1]) and len(body) > len(_PROFILE[1]) + 2:
        found.profile.setdefault(body[len(_PROFILE[1])], body[len(_PROFILE[1]) + 2 :])


def _marker(data: bytes, at: int, within_scan: bool) -> tuple[int, int]:
    """The next marker and where it is; between segments nothing but fill bytes may come before it."""
    found = _NEXT_MARKER.search(data, at)
    if found is None:
        raise cut_short()
    if not within_scan and data[at : found.start()].strip(b"\xff"):
        raise BadPictureError("the JPEG file is damaged")
    return data[found.start() + 1], found.start()
