"""What a client gets: events, and pictures with what is known of them."""

from __future__ import annotations

import io
import os
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, final

if TYPE_CHECKING:
    from PIL import Image


class Event(NamedTuple):
    """One event of a job or training, such as ``progress``; docs/api.md lists them and their data."""

    id: str
    name: str
    data: dict[str, Any]

    @property
    def last(self) -> bool:
        """Whether nothing comes after it."""
        return self.name == "status" and self.data.get("status") in TERMINAL


TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


class Tracked(ABC):
    """A job or training of the server.

    Attributes:
        kind: the path under which all of its kind are.
        record: as it was when the server was last asked.
    """

    kind: ClassVar[str]

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = dict(record)

    @property
    def id(self) -> str:
        """Its identifier."""
        return str(self.record["id"])

    @property
    def status(self) -> str:
        """``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``, when the server was last asked."""
        return str(self.record["status"])

    @property
    def path(self) -> str:
        """Its own path."""
        return f"{self.kind}/{self.id}"


@final
@dataclass(frozen=True)
class Picture:
    """One picture that a job has made.

    Args:
        data: the file.
        output: its entry in the record: ``url``, ``seed``, ``energy``, ``extras`` and the rest.
    """

    data: bytes
    output: dict[str, Any]

    @property
    def seed(self) -> int:
        """Sent back as the ``seed`` of the same request with ``n`` 1, it gives this picture alone."""
        return int(self.output["seed"])

    @property
    def energy(self) -> float | None:
        """Lower is more typical; None where the method has no energy."""
        return self.output.get("energy")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file; gives where it lies."""
        target = Path(path)
        target.write_bytes(self.data)
        return target

    def pil(self) -> Image.Image:
        """As a PIL image; needs Pillow."""
        from PIL import Image

        picture = Image.open(io.BytesIO(self.data))
        picture.load()
        return picture


@final
@dataclass(frozen=True)
class Result:
    """What a job has made.

    Args:
        record: of the job.
        images: a picture for each output that has one: none for ``score``, and none for a chain that diverged.
    """

    record: dict[str, Any]
    images: Sequence[Picture]

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """All entries of the record, those without a picture too."""
        return list(self.record["outputs"])

    @property
    def warnings(self) -> list[str]:
        """What was unusual, in sentences."""
        return list(self.record["warnings"])

    def __len__(self) -> int:
        return len(self.images)
