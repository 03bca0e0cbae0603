"""What a data set holds, as clients are told."""

from __future__ import annotations

import zipfile
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from layouts.layout import layout_of
from layouts.listing import LeftOut, sentences
from service.contract.data_facts import DataFacts, NoDataError, facts_of
from service.datasets.arrays import counts

Kind = Literal["classes", "pairs", "domains", "images"]


class DataSet(BaseModel):
    """A data set that models can be trained on: send its `name` as `data` of a training."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Its name.", examples=["my photos"])
    url: str = Field(description="Its address.")
    source: Literal["uploaded", "server", "fetched"] = Field(
        description="`uploaded` by a client; put on the `server` by its operator; `fetched` from a package registry."
    )
    owner: str | None = Field(None, description="Whose upload it is; null for data of the server, and without keys.")
    available: bool = Field(True, description="False if it can't be trained on now.")
    reason: str | None = Field(None, description="Why it can't be trained on; null if it can.")
    kind: Kind | None = Field(
        None,
        description="`classes`: images with classes; `pairs`: aligned pairs; `domains`: two domains without pairs; "
        "`images`: images alone; null if it is not known.",
    )
    images: int | None = Field(None, description="How many images it has; of pairs, how many pairs; null if unknown.")
    classes: dict[str, int] | None = Field(
        None, description="How many images each class has, by its name; null without classes, or if it is not known."
    )
    width: int | None = Field(None, description="Width of the images in pixels; null if they differ, or if unknown.")
    height: int | None = Field(None, description="Height of the images; null if they differ, or if it is not known.")
    channels: int | None = Field(None, description="1: grey; 3: colour; null if it is not known.")
    left_out: list[str] = Field(default_factory=list, description="What of it is not read, in sentences.")
    bytes: int | None = Field(None, description="Size on disk, of uploads.")
    sha256: str | None = Field(None, description="SHA-256 of the file that was uploaded.")
    created_at: datetime | None = Field(None, description="When it was uploaded (UTC).")


def address(name: str) -> str:
    """The address of a data set."""
    return f"/v1/datasets/{quote(name, safe='')}"


def described(path: Path, blank: DataSet, out: list[LeftOut] | None = None) -> DataSet:
    """A data set with what there is at a path.

    Args:
        path: a folder, or an npz archive.
        blank: what is known of it already.
        out: what was left out before it came there.
    """
    try:
        facts = facts_of(path)
        found = _folder(path, out or []) if path.is_dir() else _archive(path)
    except (NoDataError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return blank.model_copy(update={"available": False, "reason": str(error)})
    width, height = facts.size or (None, None)
    seen = {"kind": kind_of(facts), "width": width, "height": height, "channels": facts.channels}
    return blank.model_copy(update={**seen, **found})


def kind_of(facts: DataFacts) -> Kind | None:
    """What data are by their facts; None if that is not known."""
    kinds: dict[Kind, bool | None] = {"classes": facts.labels, "pairs": facts.pairs, "domains": facts.domains}
    if chosen := next((kind for kind, true in kinds.items() if true), None):
        return chosen
    return None if None in kinds.values() else "images"


def _folder(path: Path, out: list[LeftOut]) -> dict[str, object]:
    layout = layout_of(path)
    said = sentences(path, [*(LeftOut(path / one.path, one.reason) for one in out), *layout.left_out])
    if layout.kind == "idx":
        return {"left_out": said}
    totals: dict[str, int] = {}
    for groups in layout.parts.values():
        for name, files in groups.items():
            totals[name] = totals.get(name, 0) + len(files)
    if layout.kind == "classes":
        return {"left_out": said, "images": sum(totals.values()), "classes": totals}
    return {"left_out": said, "images": totals.get("B", 0) if layout.kind == "pairs" else sum(totals.values())}


def _archive(path: Path) -> dict[str, object]:
    images, classes = counts(path)
    return {"images": images, "classes": classes}
