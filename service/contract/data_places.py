"""Where data sets lie: those of the server in the folder of data, those that clients have uploaded below it.

``ROOT/NAME`` and ``ROOT/NAME.npz`` are the server's. ``ROOT/.uploads/OWNER/NAME/`` holds an upload: ``.dataset.json``
says what it is, ``NAME/`` or ``NAME.npz`` are the data. The API writes them, and trainers read them.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from layouts.layout import data_name

_PATTERN = r"^[^\x00-\x1f\x7f-\x9f/\\.][^\x00-\x1f\x7f-\x9f/\\]{0,63}$"
_MOST_BYTES = 200
_UPLOADS, _NOBODY = ".uploads", "-"
_NO_DATA = frozenset({"classifiers"})  # kept there by evaluations


def check_data_name(name: str) -> str:
    """A name that a data set can have, with its accents in one form.

    Raises:
        PydanticCustomError: it can't; a ValueError that says why.
    """
    plain = unicodedata.normalize("NFC", name)
    if plain != plain.strip() or not plain.isprintable() or len(plain.encode(errors="replace")) > _MOST_BYTES:
        message = "use letters, digits, spaces and signs that can be seen, no space at either end, not too long"
        raise PydanticCustomError(
            "data-name", "{message}", {"message": f"{name[:100]!r} is no name of data: {message}"}
        )
    return plain


DataName = Annotated[str, Field(pattern=_PATTERN), AfterValidator(check_data_name)]
"""Names of data sets: anything that can be seen, spaces and accents too, but no slashes and no dot at the beginning."""


def uploads_of(root: Path, owner: str | None) -> Path:
    """The folder of the data sets that an owner has uploaded; None: that nobody owns."""
    return root / _UPLOADS / (owner or _NOBODY)


def owners(root: Path) -> list[str | None]:
    """All who have uploaded data sets."""
    folder = root / _UPLOADS
    found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [None if name == _NOBODY else name for name in found]


def uploaded(folder: Path) -> Path | None:
    """The data of an upload's folder."""
    return next((path for path in (folder / folder.name, folder / f"{folder.name}.npz") if path.exists()), None)


def find_data(root: Path, name: str, owner: str | None) -> Path | None:
    """The file or folder of a data set: one that the owner has uploaded, else one of the server."""
    places = (uploaded(uploads_of(root, owner) / name), root / name, root / f"{name}.npz")
    return next((path for path in places if path is not None and path.exists()), None)


def of_server(root: Path) -> list[Path]:
    """The files and folders that the operator has put into the folder of data."""
    if not root.is_dir():
        return []
    found = (path for path in root.iterdir() if not path.name.startswith(".") and path.name not in _NO_DATA)
    return sorted(path for path in found if path.is_dir() or path.suffix == ".npz")


def names_of_uploads(root: Path, owner: str | None) -> list[str]:
    """The names of the data sets that an owner has uploaded."""
    folder = uploads_of(root, owner)
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())


def known_names(root: Path, owner: str | None) -> list[str]:
    """All names that a caller may train on, apart from those that can be fetched."""
    return [*map(data_name, of_server(root)), *names_of_uploads(root, owner)]
