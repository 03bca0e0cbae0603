"""Uploaded images: kept for some hours under an id that tells when they came."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field
from uuid6 import uuid7

from service.contract.errors import NotFoundError
from service.contract.records import now
from service.pictures.blobs import Blobs
from service.pictures.decoding import ReceivedPicture
from service.pictures.places import upload, upload_folder

_ID = re.compile(r"img_[0-9a-f]{32}")
_TIME_DIGITS = 12  # the milliseconds of a version-7 UUID (RFC 9562)
_FOLDER_DIGITS = 6
_FOLDER_SPAN = timedelta(milliseconds=16 ** (_TIME_DIGITS - _FOLDER_DIGITS))


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


class Uploads:
    """All uploaded images. Safe to use from many threads and processes.

    Args:
        blobs: where they are stored.
        hours: how long each is kept.
    """

    def __init__(self, blobs: Blobs, hours: float) -> None:
        self._blobs, self._keep = blobs, timedelta(hours=hours)

    @staticmethod
    def is_id(text: str) -> bool:
        """Whether the text has the form of an id."""
        return _ID.fullmatch(text) is not None

    def add(self, received: ReceivedPicture, owner: str | None = None) -> Upload:
        """Store an image under a new id; None: nobody owns it."""
        id = f"img_{uuid7().hex}"
        place = upload(id, owner)
        self._blobs.put(place.key, received.picture.png)
        return Upload(
            id=id,
            url=place.url,
            width=received.picture.width,
            height=received.picture.height,
            format=received.format,
            bytes=received.bytes,
            sha256=received.sha256,
            created_at=_came(id),
            expires_at=_came(id) + self._keep,
        )

    def get(self, id: str, owner: str | None = None) -> bytes:
        """The image as PNG.

        Args:
            id: which image.
            owner: look among this owner's; None: among all.

        Raises:
            NotFoundError: there is none with this id, or its time is over.
        """
        return self._blobs.get(self._find(id, owner))

    def delete(self, id: str, owner: str | None = None) -> None:
        """Remove an image; arguments and errors are those of :meth:`get`."""
        self._blobs.delete_prefix(self._find(id, owner))

    def _find(self, id: str, owner: str | None) -> str:
        """The key of an image that exists."""
        if self.is_id(id) and now() < _came(id) + self._keep:
            for owned_by in self._owners(id) if owner is None else [owner]:
                key = upload(id, owned_by).key
                if self._blobs.exists(key):
                    return key
        raise NotFoundError("unknown-image", f"there is no uploaded image {id[:100]!r}; it may have expired")

    def _owners(self, id: str) -> Iterator[str | None]:
        """Whose an image may be."""
        yield None
        yield from self._blobs.folders(upload_folder(id))

    def sweep(self) -> None:
        """Remove all images whose time is over; those of a few hours lie in one folder and go together."""
        for folder in self._blobs.folders("uploads"):
            if _time_of(folder) + _FOLDER_SPAN + self._keep < now():
                self._blobs.delete_prefix(f"uploads/{folder}")


def _came(id: str) -> datetime:
    return _time_of(id.removeprefix("img_")[:_TIME_DIGITS])


def _time_of(digits: str) -> datetime:
    """The time whose first digits, in hexadecimal milliseconds, these are."""
    return datetime.fromtimestamp(int(digits.ljust(_TIME_DIGITS, "0"), 16) / 1000, UTC)
