"""The IDX format of the MNIST family: a big-endian header and raw bytes, plain or gzipped.

Header: two zero bytes, one byte for the type (8 = unsigned byte, the only one that images and labels use), one for the
number of dimensions, then each dimension as four bytes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.images import DataError, ImageData

_UNSIGNED_BYTE = 8


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, of any number of dimensions.

    Raises:
        DataError: it is not such a file, or is shorter or longer than its header says.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0":
                raise DataError(f"{path} is not an IDX file: it must begin with two zero bytes")
            if head[2] != _UNSIGNED_BYTE:
                raise DataError(f"{path} holds IDX type 0x{head[2]:02x}; only unsigned bytes (0x08) are read")
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise DataError(f"{path} is cut off within its header; replace it")
            shape = struct.unpack(f">{head[3]}I", sizes)
            content = file.read(math.prod(shape) + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be read ({error}); replace it") from error
    if len(content) != math.prod(shape):
        amount = "fewer" if len(content) < math.prod(shape) else "more"
        raise DataError(f"{path} has {amount} bytes than its header {list(shape)} says; replace it")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def find_idx(folder: Path, stem: str) -> Path | None:
    """The file ``stem`` or ``stem.gz`` in this folder, if one is there."""
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def read_idx_pair(folder: Path, part: str, classes: Sequence[str] | None, name: str) -> ImageData:
    """Read ``{part}-images-idx3-ubyte`` and ``{part}-labels-idx1-ubyte``, plain or .gz, as MNIST and its kin name them.

    Args:
        part: ``train`` or ``t10k``.
        classes: the names of the labels; None names them by their numbers.
    """
    paths = []
    for stem in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
        path = find_idx(folder, stem)
        if path is None:
            raise DataError(f"{folder} holds neither {stem} nor {stem}.gz")
        paths.append(path)
    images, labels = (read_idx(path) for path in paths)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or len(labels) == 0:
        raise DataError(
            f"{paths[0]} and {paths[1]} don't match: images must be [N, H, W] and labels [N] with N > 0, "
            f"got {list(images.shape)} and {list(labels.shape)}"
        )
    names = tuple(classes) if classes is not None else tuple(str(k) for k in range(int(labels.max()) + 1))
    return ImageData(torch.from_numpy(images)[:, None], torch.from_numpy(labels).long(), names, name)
