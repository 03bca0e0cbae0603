"""Data by name: the known sets, and a user's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.data.images import DataError, ImageData
from models.data.own import find_parts
from models.data.pairs import Direction, directed
from models.data.sets.base import DataSet
from models.data.sets.digits import DIGITS
from models.data.sets.fashion_mnist import FASHION_MNIST
from models.data.sets.fluent import FLUENT
from models.data.sets.noto import NOTO
from models.data.splits import SPLITS, Split, choose

DATASETS: Mapping[str, DataSet] = {
    "fashion-mnist": FASHION_MNIST,
    "digits": DIGITS,
    "fluent": FLUENT,
    "noto": NOTO,
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
    if split not in SPLITS:
        raise DataError(f"the split must be one of {', '.join(SPLITS)}, got {split!r}")
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
    return directed(choose(parts, split, path.stem), direction).fit(image_size, channels)
