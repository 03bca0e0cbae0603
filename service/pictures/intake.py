"""The way of a request's pictures: read, checked and fitted before its job is accepted."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
from PIL import Image
from redis.exceptions import RedisError

from pictures.budget import ByteBudget
from pictures.decoding import decode, memory
from pictures.files import BadPictureError, PictureLimits, TooLargeError, examine
from pictures.png import HEAD_BYTES, picture_of, png_of, size_of
from pictures.uris import file_of_data_uri
from service.access.security import Caller
from service.contract.cards import ModelCard, SurfaceShape
from service.contract.errors import NotFoundError, PictureError
from service.contract.jobs import GivenPicture, Inputs, JobRequest, Role
from service.pictures.fitting import Fitted, check_restored, fit
from service.pictures.samples import SAMPLES
from service.pictures.shelf import Shelf
from service.pictures.surfaces import MEMORY, fit_surface
from service.pictures.uploads import Received, Upload, Uploads, unknown
from surfaces.mesh import MeshLimits

log = logging.getLogger(__name__)

T = TypeVar("T")

_AT_A_TIME = 4
_UNDECIDED_SECONDS = 900.0
"""So long the pictures of a job are kept of which nobody knows whether it was accepted: far longer than any answer of
the database may be late."""
PICTURES_A_REQUEST = 2
"""No task takes more, which bounds the size of its bodies."""


@dataclass(frozen=True)
class Taken:
    """What was made of a request's pictures.

    Args:
        refs: what the job's record calls each: the id of the upload or sample, or the hash of the file in a data URI.
        inputs: where they are kept.
        warnings: what is unusual about them.
        restored_bytes: what the results may take that ``restore`` brings back.
    """

    refs: dict[str, str] = field(default_factory=dict)
    inputs: Inputs | None = None
    warnings: list[str] = field(default_factory=list)
    restored_bytes: int = 0


@dataclass(frozen=True)
class _Sent:
    """A picture that is not decoded yet.

    Args:
        ref: what the job's record calls it.
        size: of the picture.
        memory: bytes that it takes while it is in work.
        open: gives the picture.
    """

    ref: str
    size: tuple[int, int]
    memory: int
    open: Callable[[], Image.Image]


class Intake:
    """Reads pictures, in threads of its own and within a budget of memory.

    Args:
        shelf: where pictures of jobs are kept.
        uploads: the uploaded images.
        limits: which pictures are accepted.
        meshes: which meshes are accepted.
        max_restored: most pixels of all results that a job brings back to size.
        budget: memory for all pictures that are in work.
    """

    def __init__(
        self,
        shelf: Shelf,
        uploads: Uploads,
        limits: PictureLimits,
        meshes: MeshLimits,
        max_restored: int,
        budget: ByteBudget,
    ) -> None:
        self._meshes = meshes
        self._shelf, self._uploads, self._limits, self._max_restored = shelf, uploads, limits, max_restored
        self._budget = budget
        self._turns = anyio.CapacityLimiter(_AT_A_TIME)

    async def upload(self, data: bytes, caller: Caller) -> Upload:
        """Store an uploaded file.

        Raises:
            PictureError: it can't be used.
            StorageError: there is no room.
        """
        return await self._in_turn(partial(self._upload, data, caller))

    async def take(self, id: str, request: JobRequest, card: ModelCard, caller: Caller) -> Taken:
        """Read what a resolved request gives, fit it to its model, and keep it for the job ``id``.

        Raises:
            PictureError: one of them can't be used, or is not there.
            UnprocessableError: they do not go together.
            StorageError: there is no room.
        """
        return await self._in_turn(partial(self._take, id, request, card, caller))

    async def look(self, field: str, ref: str, caller: Caller) -> Image.Image:
        """A picture of a request, for those who must see it before there is a job.

        Raises:
            PictureError: it can't be used, or is not there.
        """
        return await self._in_turn(partial(self._look, GivenPicture(field, Role.IMAGE, ref), caller))

    async def discard(self, id: str) -> None:
        """Give up what :meth:`take` kept, for a job that was refused. Not for one that may have been accepted.

        If it can't be done now, the time of the pictures runs out.
        """
        try:
            await self._in_turn(partial(self._shelf.let_go, id))
        except (RedisError, OSError) as error:
            log.warning("the pictures of %s stay for now: %s", id, error)

    def _upload(self, data: bytes, caller: Caller) -> Upload:
        with named("file"):
            info = examine(data, self._limits)
        with self._budget.take(memory(info.width, info.height)):
            with named("file"):
                picture = decode(info)
            received = Received(png_of(picture), *picture.size, info.format, len(data), _sha256(data))
            return self._uploads.add(received, caller.owner)

    def _take(self, id: str, request: JobRequest, card: ModelCard, caller: Caller) -> Taken:
        if card.surface is not None and request.given_surfaces():
            return self._take_surface(id, request, card.surface, caller)
        sent = {given.name: self._sent(given, caller) for given in request.given_pictures()}
        check_restored(request, [one.size for one in sent.values()], self._max_restored)
        with self._budget.take(sum(one.memory for one in sent.values())):
            fitted = fit(request, card, opened(sent), self._max_restored)
            files = {name: png_of(picture) for name, picture in (fitted.pictures | fitted.restore).items()}
        names = self._shelf.keep(id, caller.owner, files, _UNDECIDED_SECONDS)
        refs = {name: one.ref for name, one in sent.items()}
        return Taken(refs, Inputs(pictures=names, frame=fitted.frame), fitted.warnings, _restored(request, fitted))

    def _take_surface(self, id: str, request: JobRequest, shape: SurfaceShape, caller: Caller) -> Taken:
        """No task takes more than one."""
        ((field, given),) = request.given_surfaces().items()
        with self._budget.take(MEMORY * len(given)):
            fitted = fit_surface(field, given, shape, self._meshes)
        names = self._shelf.keep(id, caller.owner, {field: fitted.file}, _UNDECIDED_SECONDS)
        inputs = Inputs(surface=names[field], placing=fitted.placing)
        return Taken({field: fitted.ref}, inputs, fitted.warnings)

    def _look(self, given: GivenPicture, caller: Caller) -> Image.Image:
        sent = self._sent(given, caller)
        with self._budget.take(sent.memory):
            return opened({given.name: sent})[given.name]

    def _sent(self, given: GivenPicture, caller: Caller) -> _Sent:
        if given.ref in SAMPLES:
            png = SAMPLES[given.ref].png
            size = size_of(png)
            return _Sent(given.ref, size, memory(*size), partial(picture_of, png))
        if self._uploads.is_id(given.ref):
            return self._uploaded(given, caller)
        with named(given.name):
            data = file_of_data_uri(given.ref, self._limits.max_bytes)
            info = examine(data, self._limits)
        return _Sent(f"sha256:{_sha256(data)}", info.size, memory(*info.size), partial(decode, info))

    def _uploaded(self, given: GivenPicture, caller: Caller) -> _Sent:
        try:
            held = self._uploads.find(given.ref, caller.listing)
            size = size_of(self._shelf.head(held.name, HEAD_BYTES))
        except (NotFoundError, FileNotFoundError):
            raise PictureError("unknown-image", given.name, unknown(given.ref).detail) from None
        needed = memory(*size) + held.bytes
        return _Sent(given.ref, size, needed, lambda: picture_of(self._shelf.get(held.name)))

    async def _in_turn(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._turns)


def opened(sent: Mapping[str, _Sent]) -> dict[str, Image.Image]:
    """The pictures of a request, decoded.

    Raises:
        PictureError: one of them can't be.
    """
    pictures = {}
    for name, one in sent.items():
        with named(name):
            pictures[name] = one.open()
    return pictures


@contextmanager
def named(field: str) -> Iterator[None]:
    """Errors of a picture name the field that holds it.

    Raises:
        PictureError: the picture can't be used.
    """
    try:
        yield
    except BadPictureError as error:
        raise PictureError("invalid-image", field, str(error)) from None
    except TooLargeError as error:
        raise PictureError("image-too-large", field, str(error)) from None


def _restored(request: JobRequest, fitted: Fitted) -> int:
    """Bytes of all results at the size of the picture that was sent, in colour."""
    if fitted.frame is None:
        return 0
    width, height = fitted.frame.source
    return request.rows * width * height * 3


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
