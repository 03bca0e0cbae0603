"""Fixed splits: the same images are held out whenever and wherever a set is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from models.data.images import DataError, ImageData

Split: TypeAlias = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Parts: TypeAlias = Mapping[str, Callable[[], ImageData]]
"""How to read each part that the data come in: ``train``, ``valid``, ``test``, or all in one under the empty name."""

_SEED = 0
_HELD_OUT: tuple[Split, ...] = ("test", "valid")
_ONE_OF = 10  # one image of this many is held out for each split that has to be made


def choose(parts: Parts, split: Split, name: str) -> ImageData:
    """The images of one split.

    Data in one piece are split by a fixed permutation: a tenth ``test``, a tenth ``valid``, the rest ``train``. Data
    that come with ``train`` but without ``valid`` or ``test`` give a tenth of their training images to each that they
    lack. Splits never overlap.

    Raises:
        DataError: the data have no such split, too few images to make it, or a class without an image to learn from.
    """
    return _with_every_class(_chosen(parts, split, name)) if split == "train" else _chosen(parts, split, name)


def _chosen(parts: Parts, split: Split, name: str) -> ImageData:
    if "" in parts:
        return _carve(parts[""](), split, _HELD_OUT, name)
    lacking = tuple(part for part in _HELD_OUT if part not in parts)
    if split in parts and (split != "train" or not lacking):
        return replace(parts[split](), name=f"{name}/{split}")
    if "train" not in parts:
        raise DataError(f"{name} has no train split; it has {', '.join(sorted(parts))}")
    return _carve(parts["train"](), split, lacking, name)


def _carve(data: ImageData, split: Split, held_out: tuple[Split, ...], name: str) -> ImageData:
    size = max(1, len(data) // _ONE_OF)
    if size * len(held_out) >= len(data):
        raise DataError(f"{name} has only {len(data)} images: too few to hold some out for {' and '.join(held_out)}")
    # The legacy generator's stream is frozen by NumPy's policy, so the split is the same with every version.
    order = np.random.RandomState(_SEED).permutation(len(data))
    if split in held_out:
        start = held_out.index(split) * size
        chosen = order[start : start + size]
    else:
        chosen = order[len(held_out) * size :]
    return data.subset(np.sort(chosen).tolist(), f"{name}/{split}")


def _with_every_class(data: ImageData) -> ImageData:
    """The same data; a class that no model could learn is refused before one is trained to serve it."""
    if data.labels is not None and (few := set(range(len(data.classes))) - set(data.labels.tolist())):
        names = ", ".join(data.classes[k] for k in sorted(few))
        raise DataError(
            f"{data.name} has no image to learn from of the classes {names}, as some images are held out; add images, "
            "remove the classes, or put the images into train and test folders"
        )
    return data
