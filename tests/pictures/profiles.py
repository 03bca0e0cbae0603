"""Colour profiles as files have them (ICC.1:2010), made here from the primaries of their spaces, and what they mean."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

D50 = (0.9642, 1.0, 0.8249)
_TO_SRGB = np.array(
    [[3.1341359, -1.6173863, -0.4906619], [-0.9787955, 1.9162543, 0.0334430], [0.0719554, -0.2289768, 1.4053860]]
)
"""From XYZ (D50) to linear sRGB: Bradford-adapted, B. Lindbloom."""


class Space(NamedTuple):
    """Red, green and blue as XYZ (D50), and the exponent of their values."""

    primaries: tuple[tuple[float, float, float], ...]
    gamma: float


ADOBE = Space(((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 563 / 256)
P3 = Space(((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), 2.2)


def profile(space: Space) -> bytes:
    """The file of a display's profile."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(space.gamma * 256)) + bytes(2)
    tags = {f"{name}XYZ".encode(): _xyz(xyz) for name, xyz in zip("rgb", space.primaries, strict=True)}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"wtpt": _xyz(D50)}
    return _file(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    """The file of a grey profile."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    return _file(b"GRAY", {b"kTRC": curve, b"wtpt": _xyz(D50)})


def in_srgb(pixels: NDArray[np.uint8], space: Space) -> NDArray[np.float64]:
    """What the pixels ``[..., 3]`` of a space are in sRGB, 0 to 255, by the definitions of both."""
    linear = (pixels / 255.0) ** space.gamma @ np.array(space.primaries) @ _TO_SRGB.T
    return srgb_of(linear)


def srgb_of(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light as levels of sRGB (IEC 61966-2-1)."""
    light = linear.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _file(colours: bytes, tags: dict[bytes, bytes]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name + struct.pack(">II", at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", head, 0, at + len(bodies), b"lcms", 0x02400000, b"mntr", colours, b"XYZ ")
    head[36:40] = b"acsp"
    struct.pack_into(">iii", head, 68, *(round(value * 65536) for value in D50))
    return bytes(head) + table + bodies
