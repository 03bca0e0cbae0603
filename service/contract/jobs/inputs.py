"""Where the pictures of a job's request are kept: part of its record that clients do not see."""

from __future__ import annotations

from pydantic import Field

from pictures.framing import Frame
from service.contract.records import RecordPart
from surfaces.placing import Placing


class Inputs(RecordPart):
    """The pictures, or the surface, of a job, fitted to its model."""

    pictures: dict[str, str] = Field(
        default_factory=dict,
        description="Under which name each is kept, by its field: `image`, `images.0`; and what `restore` needs.",
    )
    surface: str | None = Field(None, description="Under which name the surface is kept.")
    placing: Placing | None = Field(None, description="Where the surface lies in the client's coordinates.")
    frame: Frame | None = Field(None, description="Where the model's picture lies in the one that was sent.")
