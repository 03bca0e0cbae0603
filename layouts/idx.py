"""The names of IDX files, as MNIST and its kin give them: ``train-images-idx3-ubyte``, with ``t10k`` for the test.

Copies of them are found under other names as well: with a dot (``train-images.idx3-ubyte``), gzipped, with ``test`` in
place of ``t10k``, or with the name of the set before it (``emnist-letters-train-images-idx3-ubyte.gz``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(
    r"(?P<set>.+-)?(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx(?:3|1)-ubyte(?:\.gz)?", re.IGNORECASE
)
_PARTS = {"train": "train", "t10k": "test", "test": "test"}


class LayoutError(ValueError):
    """A folder that could mean several things; the message says what to do."""


class IdxFiles(NamedTuple):
    """The two files of one part; None where one is missing."""

    images: Path | None
    labels: Path | None


def is_idx(name: str) -> bool:
    """Whether a file is an IDX file by its name."""
    return _NAME.fullmatch(name) is not None


def find_idx(folder: Path) -> dict[str, IdxFiles]:
    """The IDX files of a folder by part; nothing if it has no images to train on.

    Raises:
        LayoutError: it holds several sets.
    """
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # the plain one of two wins
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            place = _PARTS[match["part"].lower()], match["what"].lower()
            found.setdefault((match["set"] or "").lower(), {})[place] = path
    sets = {name: files for name, files in found.items() if ("train", "images") in files}
    if len(sets) > 1:
        names = ", ".join(name.rstrip("-") or "one without a name" for name in sorted(sets))
        raise LayoutError(f"{folder.name} holds several sets of IDX files ({names}); put each into a folder of its own")
    return {
        part: IdxFiles(files.get((part, "images")), files.get((part, "labels")))
        for files in sets.values()
        for part in ("train", "test")
        if (part, "images") in files
    }
