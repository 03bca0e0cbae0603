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
from torch import Tensor

from layouts.idx import IdxFiles
from models.data.images import DataError, ImageData, numbered

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


def read_idx_labels(files: IdxFiles, name: str) -> Tensor:
    """The labels of one part, int64 ``[N]``.

    Raises:
        DataError: the file is missing or damaged.
    """
    if files.labels is None:
        raise DataError(f"{name} has IDX files of images without labels; add the file of the labels")
    labels = read_idx(files.labels)
    if labels.ndim != 1:
        raise DataError(f"{files.labels} must hold labels [N], got {list(labels.shape)}")
    return torch.from_numpy(labels).long()


def read_idx_pair(files: IdxFiles, name: str, values: Tensor, names: Sequence[str] | None = None) -> ImageData:
    """Read the images and labels of one part.

    Args:
        files: of the part.
        name: what messages call the set.
        values: the labels that are classes.
        names: of the labels from 0; None names them by their numbers.

    Raises:
        DataError: a file is missing or damaged, or the two don't match.
    """
    labels = read_idx_labels(files, name)
    if files.images is None:
        raise DataError(f"{name} has IDX files of labels without images; add the file of the images")
    images = read_idx(files.images)
    if images.ndim != 3 or len(images) != len(labels) or len(labels) == 0:
        raise DataError(
            f"{files.images} and {files.labels} don't match: images must be [N, H, W] and labels [N] with N > 0, "
            f"got {list(images.shape)} and {list(labels.shape)}"
        )
    return ImageData(torch.from_numpy(images)[:, None], *numbered(labels, values, name, names), name)
