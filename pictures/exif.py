"""The one thing that Exif data (CIPA DC-008) are asked for: which side of a picture is up."""

from __future__ import annotations

import struct

_ORIENTATION, _SHORT = 0x0112, 3
_ENTRY = 12
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def orientation(exif: bytes) -> int:
    """1 to 8; 1 (upright) where it is not said, or can't be read. Other entries may be damaged.

    Args:
        exif: with or without ``Exif`` and two zeros before it, as JPEG has them.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for at in range(first + 2, first + 2 + count * _ENTRY, _ENTRY):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
            if (tag, kind) == (_ORIENTATION, _SHORT) and 1 <= value <= 8:
                return int(value)
    except struct.error:  # it is cut short, or points out of itself
        pass
    return 1
