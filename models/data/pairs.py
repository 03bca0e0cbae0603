"""Aligned pairs of a user's own: a picture A and the picture B that is made from it, pixel by pixel at the same place.

They come in two layouts: files of equal names in the folders ``A`` and ``B``, or A and B side by side in one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from layouts.layout import SIDES, Groups, stem
from models.data.files import decode, extent, join
from models.data.images import DataError, ImageData, fit

Direction: TypeAlias = Literal["AtoB", "BtoA"]
"""Which picture of a pair is the condition, and which the image that is made from it."""

_NAMED = 3  # so many file names are given in a message


def directed(data: ImageData, direction: Direction) -> ImageData:
    """Pairs in this direction; data are read as ``AtoB``.

    Raises:
        DataError: no such direction, or the data are no pairs that could be turned round.
    """
    check_direction(direction)
    if direction == "AtoB":
        return data
    if data.conditions is None:
        raise DataError(f"{data.name} has no pairs that BtoA could turn round; leave the direction out")
    return ImageData(data.conditions, data.labels, data.classes, f"{data.name}/BtoA", data.images)


def check_direction(direction: Direction) -> None:
    """Refuse what is no direction.

    Raises:
        DataError: so it is.
    """
    if direction not in get_args(Direction):
        raise DataError(f"the direction must be one of {', '.join(get_args(Direction))}, got {direction!r}")


def read_pairs(sides: Groups, name: str, *, size: int | None = None) -> ImageData:
    """Read the pairs of two folders: files of equal names, whatever their endings.

    Args:
        sides: the files of A and of B.
        name: what messages call the set.
        size: crop to the central square and resize to this many pixels; None needs files that are all of one size.

    Raises:
        DataError: no pairs, a file without its partner, a damaged file, or pictures of different sizes.
    """
    if lacking := [side for side in SIDES if side not in sides]:
        raise DataError(
            f"the folder {lacking[0]} of {name} is missing; the pictures that belong to those of the other go there"
        )
    files_a, files_b = (_by_name(sides[side]) for side in SIDES)
    for mine, own, others, other in ((files_a, "A", files_b, "B"), (files_b, "B", files_a, "A")):
        if lone := sorted(mine.keys() - others.keys()):
            names = ", ".join(mine[k].name for k in lone[:_NAMED]) + (", ..." if len(lone) > _NAMED else "")
            raise DataError(
                f"files of {name}/{own} have no partner of the same name in {other}: {names}; add or remove them"
            )
    if not files_a:
        raise DataError(
            f"A and B of {name} hold no images; put the two pictures of each pair there under the same name"
        )
    paths = [(files_a[key], files_b[key]) for key in sorted(files_a)]
    pictures_a, pictures_b = [], []
    for path_a, path_b in paths:
        picture_a, picture_b = decode(path_a), decode(path_b)
        if picture_a.shape[2:] != picture_b.shape[2:]:
            sizes = " and ".join("{1}x{0}".format(*picture.shape[2:]) for picture in (picture_a, picture_b))
            raise DataError(f"{path_a} and {path_b} are of {sizes} pixels: resize one, so that they lie on each other")
        pictures_a.append(fit(picture_a, size))
        pictures_b.append(fit(picture_b, size))
    conditions = join(pictures_a, [path for path, _ in paths])
    images = join(pictures_b, [path for _, path in paths])
    return ImageData(images, None, (), name, conditions)


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if other := found.get(stem(path)):
            raise DataError(f"{other} and {path} have the same name; remove or rename one and its partner")
        found[stem(path)] = path
    return found


def are_joined(paths: Sequence[Path]) -> bool:
    """Whether these files show pairs side by side: more than half of them are exactly twice as wide as high.

    Raises:
        DataError: a damaged file.
    """
    return 2 * sum(_is_joined(path) for path in paths) > len(paths)


def _is_joined(path: Path) -> bool:
    width, height = extent(path)
    return width == 2 * height


def read_joined(paths: Sequence[Path], name: str, *, size: int | None = None) -> ImageData:
    """Read the pairs of files that show A on the left and B, of the same square size, on the right.

    Args:
        paths: the files.
        name: what messages call the set.
        size: resize both to this many pixels square; None needs files that are all of one size.

    Raises:
        DataError: no images, a damaged one, one that is not twice as wide as high, or several sizes.
    """
    if not paths:
        raise DataError(f"{name} holds no images; put files there that show A and B side by side")
    pictures_a, pictures_b = [], []
    for path in paths:
        if not _is_joined(path):
            width, height = extent(path)
            raise DataError(
                f"{path} is of {width}x{height} pixels, but files that show A and B side by side must be twice as wide "
                "as high; crop or remove it"
            )
        a, b = decode(path).chunk(2, dim=3)
        pictures_a.append(fit(a, size))
        pictures_b.append(fit(b, size))
    return ImageData(join(pictures_b, paths), None, (), name, join(pictures_a, paths))
