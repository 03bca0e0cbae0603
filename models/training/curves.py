"""What a training's curves and sheets mean, in words: each variant says it of its own, and figures show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Curve:
    """What a metric is.

    Args:
        label: it in a few words.
        unit: of its values; empty for plain numbers.
        good: what it does in a training that goes well.
        headline: whether a progress bar shows it.
    """

    label: str
    unit: str = ""
    good: str = ""
    headline: bool = False


@final
@dataclass(frozen=True)
class Headings:
    """What the rows and columns of a sheet of samples show.

    Args:
        columns: headings from left to right, each with the number of columns that it stands over.
        rows: a title for each row; none for rows that are all alike.
        made: which rows and which columns show what the model makes in the end.
    """

    columns: tuple[tuple[str, int], ...] = ()
    rows: tuple[str, ...] = ()
    made: tuple[slice, slice] = (slice(None), slice(None))


BARE = Headings()
"""Of sheets that need none."""

_COMMON = {"kid": Curve("kernel distance of drawn to real images", good="lower is better", headline=True)}


def meaning(curves: Mapping[str, Curve], name: str) -> Curve:
    """What a metric is: as a variant says it, or of several parts one, such as ``A.gap``, what ``gap`` is there."""
    part, _, own = name.rpartition(".")
    known = curves.get(own) or _COMMON.get(own)
    if known is None:
        return Curve(name.replace("_", " "))
    return Curve(f"{part}: {known.label}" if part else known.label, known.unit, known.good, known.headline)


def headlines(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The metrics that a progress bar shows, by name."""
    return {name: curve for name, curve in {**curves, **_COMMON}.items() if curve.headline}
