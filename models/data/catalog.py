"""Data by name: the known sets, and a user's own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from layouts.layout import SIDES, data_name
from models.data.images import DataError, ImageData
from models.data.kinds import Data, Kind
from models.data.own import find_domains, find_parts, has_domains
from models.data.pairs import Direction, check_direction, directed
from models.data.sets.base import DataSet
from models.data.sets.digits import DIGITS
from models.data.sets.emoji import EMOJI
from models.data.sets.fashion_mnist import FASHION_MNIST
from models.data.sets.fluent import FLUENT
from models.data.sets.noto import NOTO
from models.data.sets.primitives import PRIMITIVE_MAPS
from models.data.splits import SPLITS, Split, choose
from models.data.unpaired import UnpairedData, drop_pairs, keep_pairs

DATASETS: Mapping[str, DataSet] = {
    "fashion-mnist": FASHION_MNIST,
    "digits": DIGITS,
    "fluent": FLUENT,
    "noto": NOTO,
    "emoji": EMOJI,
    "primitives": PRIMITIVE_MAPS,
}
"""The known data sets. To add one, write its file in ``sets/`` and a line here."""


def load(
    name: str,
    split: Split,
    root: Path,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    direction: Direction = "AtoB",
) -> ImageData:
    """Read one split of a data set.

    Args:
        name: a name of ``DATASETS``, or a path to data of one's own (see :func:`models.data.own.find_parts`).
        split: ``train``, ``valid`` (for choices during training) or ``test``; no two share an image.
        root: the folder in which fetched data sets lie.
        image_size: resize to this many pixels square; None keeps the data's own size.
        channels: 1 converts the images to grey, 3 to colour; None keeps what the data have. Conditions keep theirs.
        direction: of aligned pairs, which picture is the condition: A of ``AtoB``, B of ``BtoA``.

    Raises:
        DataError: no such data, or they can't be read; the message says what to do.
    """
    _check_split(split)
    if name in DATASETS:
        folder = root / name
        if not folder.is_dir():
            raise DataError(f"the data set {name} is not in {root}; run `coopserve data fetch {name}`")
        try:
            data = DATASETS[name].read(folder, split)
        except DataError as error:
            raise DataError(f"{error}; or remove {folder} and run `coopserve data fetch {name}`") from error
        return directed(data, direction).fit(image_size, channels)
    path = Path(name)
    if not name or not path.exists():
        known = ", ".join(DATASETS)
        raise DataError(f"no data called {name!r}: give one of {known}, or the path of an npz file or a folder")
    parts = find_parts(path, size=image_size, channels=channels)
    return directed(choose(parts, split, data_name(path)), direction).fit(image_size, channels)


def load_domains(
    name: str,
    split: Split,
    root: Path,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    direction: Direction = "AtoB",
    disjoint: bool = False,
) -> UnpairedData:
    """Read one split of two domains, for systems that translate without pairs.

    A folder with ``trainA`` and ``trainB`` has no pairs in any split. Data that come in aligned pairs give their
    ``train`` and ``valid`` images in an order of each domain's own and keep the pairs of ``test``, which score a model.

    Args:
        name: a name of ``DATASETS`` that holds aligned pairs, or a path to such data or to a folder with ``trainA`` and
            ``trainB`` (see :func:`models.data.own.find_domains`).
        split: ``train``, ``valid`` (for choices during training) or ``test``; no two share an image.
        root: the folder in which fetched data sets lie.
        image_size: resize to this many pixels square; None keeps the data's own size.
        channels: 1 converts both domains to grey, 3 to colour; None makes both colour if one of them is.
        direction: which domain is the source: A of ``AtoB``, B of ``BtoA``.
        disjoint: for training on aligned pairs, take the source images of one half and the target images of the other.

    Raises:
        DataError: no such data, they have no two domains, or they can't be read; the message says what to do.
    """
    check_direction(direction)
    if name not in DATASETS and name and has_domains(Path(name)):
        data = _two_folders(Path(name), split, image_size, channels)
    else:
        pairs = load(name, split, root, image_size=image_size)
        width = channels or max(pairs.shape[0], 1 if pairs.conditions is None else pairs.conditions.shape[1])
        pairs = pairs.fit(channels=width, condition_channels=width)
        data = keep_pairs(pairs) if split == "test" else drop_pairs(pairs, disjoint=disjoint and split == "train")
    return data if direction == "AtoB" else data.reversed()


_READERS: Mapping[Kind, Callable[..., Data]] = {"images": load, "domains": load_domains}


def read(
    kind: Kind,
    name: str,
    split: Split,
    root: Path,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    direction: Direction = "AtoB",
) -> Data:
    """Read one split as the kind of data that a system learns from: by :func:`load` or :func:`load_domains`.

    Raises:
        DataError: as said there.
    """
    return _READERS[kind](name, split, root, image_size=image_size, channels=channels, direction=direction)


def _two_folders(path: Path, split: Split, size: int | None, channels: int | None) -> UnpairedData:
    _check_split(split)
    parts = find_domains(path, size=size, channels=channels)
    a, b = (choose(own, split, f"{data_name(path)}/{side}") for own, side in zip(parts, SIDES, strict=True))
    width = max(a.shape[0], b.shape[0])
    return UnpairedData(a.fit(channels=width), b.fit(channels=width), f"{data_name(path)}/{split}")


def _check_split(split: Split) -> None:
    if split not in SPLITS:
        raise DataError(f"the split must be one of {', '.join(SPLITS)}, got {split!r}")
