"""The way of a request's pictures: read and checked before its job is accepted, then stored with the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from service.access.security import Caller
from service.contract.cards import ModelCard
from service.contract.errors import NotFoundError, PictureError, invalid
from service.contract.jobs import GivenPicture, JobRequest, Role
from service.pictures.blobs import Blobs
from service.pictures.decoding import Picture, PictureLimits, ReceivedPicture, file_of_data_uri, read
from service.pictures.files import BadPictureError, TooLargeError
from service.pictures.places import job_folder, job_input
from service.pictures.uploads import Upload, Uploads

T = TypeVar("T")

_AT_A_TIME = 2
PICTURES_A_REQUEST = 2
"""No task takes more, which bounds the size of its bodies."""


@dataclass(frozen=True)
class Taken:
    """A picture of a request, read and found good.

    Args:
        picture: the picture.
        ref: what the job's record calls it: the id of the upload, or the hash of the file in a data URI.
    """

    picture: Picture
    ref: str


class Intake:
    """Reads pictures, a few at a time: a large one takes hundreds of megabytes while it is decoded.

    Args:
        blobs: where pictures of jobs are stored.
        uploads: the uploaded images.
        limits: what is accepted.
    """

    def __init__(self, blobs: Blobs, uploads: Uploads, limits: PictureLimits) -> None:
        self._blobs, self._uploads, self._limits = blobs, uploads, limits
        self._turns = anyio.CapacityLimiter(_AT_A_TIME)

    async def upload(self, data: bytes, caller: Caller) -> Upload:
        """Store an uploaded file.

        Raises:
            PictureError: it can't be used.
        """
        return await self._in_turn(
            lambda: self._uploads.add(checked("file", lambda: read(data, self._limits)), caller.owner)
        )

    async def take(self, request: JobRequest, caller: Caller) -> dict[str, Taken]:
        """The pictures that a request gives, by their names.

        Raises:
            PictureError: one of them can't be used, or is not there.
        """
        return {
            given.name: await self._in_turn(partial(self._take, given, caller)) for given in request.given_pictures()
        }

    def check(self, request: JobRequest, card: ModelCard, taken: Mapping[str, Taken]) -> None:
        """Whether the pictures of a resolved request go together; raises as :func:`check` does."""
        check(request, card, {name: one.picture for name, one in taken.items()}, self._limits)

    def store(self, id: str, taken: Mapping[str, Taken]) -> None:
        """Keep the pictures of the job ``id``, where workers and clients find them."""
        for name, one in taken.items():
            self._blobs.put(job_input(id, name).key, one.picture.png)

    def discard(self, id: str, taken: Mapping[str, Taken]) -> None:
        """Remove what :meth:`store` kept, for a job that was not accepted."""
        if taken:
            self._blobs.delete_prefix(job_folder(id))

    def _take(self, given: GivenPicture, caller: Caller) -> Taken:
        if self._uploads.is_id(given.ref):
            try:
                return Taken(Picture.stored(self._uploads.get(given.ref, caller.listing)), given.ref)
            except NotFoundError as error:
                raise PictureError("unknown-image", given.name, error.detail) from None
        received = checked(given.name, lambda: read(file_of_data_uri(given.ref, self._limits), self._limits))
        return Taken(received.picture, f"sha256:{received.sha256}")

    async def _in_turn(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._turns)


def check(request: JobRequest, card: ModelCard, pictures: Mapping[str, Picture], limits: PictureLimits) -> None:
    """Whether the pictures of a resolved request go together.

    Raises:
        UnprocessableError: a mask is missing or of another size, or the results would have too many pixels.
    """
    sizes = {name: (picture.width, picture.height) for name, picture in pictures.items()}
    if request.masked(card):
        image, mask = _field(request, Role.IMAGE), _field(request, Role.MASK)
        if mask not in pictures and not pictures[image].alpha:
            raise invalid(mask, "say what to fill in: send a mask, or an image with transparency")
        if mask in pictures and sizes[mask] != sizes[image]:
            width, height = sizes[image]
            raise invalid(mask, f"it must have the size of the image, {width}x{height}, got {sizes[mask]}")
    if getattr(request, "restore", False):
        pixels = request.rows * max(width * height for width, height in sizes.values())
        if pixels > limits.max_pixels:
            most = limits.max_pixels
            raise invalid("restore", f"the results would have {pixels} pixels in all, at most {most} are made")


def checked(field: str, work: Callable[[], ReceivedPicture]) -> ReceivedPicture:
    """What ``work`` reads, its errors named by the field.

    Raises:
        PictureError: the picture can't be used.
    """
    try:
        return work()
    except BadPictureError as error:
        raise PictureError("invalid-image", field, str(error)) from None
    except TooLargeError as error:
        raise PictureError("image-too-large", field, str(error)) from None


def _field(request: JobRequest, role: Role) -> str:
    return next(field for field, its_role in request.pictures.items() if its_role is role)
