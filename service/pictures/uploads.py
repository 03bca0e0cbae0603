"""Uploaded images: kept for some hours under an id."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field
from uuid6 import uuid7

from service.contract.errors import NotFoundError
from service.contract.records import now
from service.pictures.places import upload_url
from service.pictures.shelf import Shelf
from service.store.ledger import Held

_ID = re.compile(r"img_[0-9a-f]{32}")


class Upload(BaseModel):
    """An uploaded image. Use its `id` wherever a task asks for a picture."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="Identifier of the image.", examples=["img_0190f0e1a2b37c4d8e5f60718293a4b5"])
    url: str = Field(description="Address of the image, as PNG.")
    width: int = Field(description="Width in pixels, upright.")
    height: int = Field(description="Height in pixels, upright.")
    format: str = Field(description="Format of the file that was sent: png, jpeg or webp.", examples=["png"])
    bytes: int = Field(description="Size of the file that was sent.")
    sha256: str = Field(description="SHA-256 of the file that was sent.")
    created_at: datetime = Field(description="When it came (UTC).")
    expires_at: datetime = Field(
        description="When it is deleted (UTC). Jobs keep their own copy of what they were given."
    )


@dataclass(frozen=True)
class Received:
    """An image that is to be stored, with what is known of the file that it came in.

    Args:
        png: the image.
        width: in pixels.
        height: in pixels.
        format: of the file: ``png``, ``jpeg`` or ``webp``.
        bytes: of the file.
        sha256: of the file.
    """

    png: bytes
    width: int
    height: int
    format: str
    bytes: int
    sha256: str


class Uploads:
    """All uploaded images. Safe to use from many threads and processes.

    Args:
        shelf: where they are kept.
        hours: how long each is kept.
    """

    def __init__(self, shelf: Shelf, hours: float) -> None:
        self._shelf, self._keep = shelf, timedelta(hours=hours)

    @staticmethod
    def is_id(text: str) -> bool:
        """Whether the text has the form of an id."""
        return _ID.fullmatch(text) is not None

    def add(self, received: Received, owner: str | None = None) -> Upload:
        """Store an image under a new id; None: nobody owns it.

        Raises:
            StorageError: there is no room.
        """
        id, came = f"img_{uuid7().hex}", now()
        self._shelf.keep(id, owner, {"image": received.png}, self._keep.total_seconds())
        return Upload(
            id=id,
            url=upload_url(id),
            width=received.width,
            height=received.height,
            format=received.format,
            bytes=received.bytes,
            sha256=received.sha256,
            created_at=came,
            expires_at=came + self._keep,
        )

    def find(self, id: str, owner: str | None = None) -> Held:
        """Where an image is kept, as PNG.

        Args:
            id: which image.
            owner: look among this owner's; None: among all.

        Raises:
            NotFoundError: there is none with this id, or its time is over.
        """
        for held in self._shelf.held(id) if self.is_id(id) else ():
            if (held.until or 0.0) > time.time() and owner in (None, held.owner):
                return held
        raise unknown(id)

    def delete(self, id: str, owner: str | None = None) -> None:
        """Remove an image; arguments and errors are those of :meth:`find`."""
        self.find(id, owner)
        self._shelf.let_go(id)


def unknown(id: str) -> NotFoundError:
    """The error for an id that no image has."""
    return NotFoundError("unknown-image", f"there is no uploaded image {id[:100]!r}; it may have expired")
