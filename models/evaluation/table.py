"""A short table of what was measured, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from models.evaluation.trust import ABOUT, CAVEATS, DOUBTFUL

_COLUMNS = 7
_ERRORS = ("_std_error", "_std", "_se")
_DETAILS = frozenset({"accuracy_per_class", "classes", "steps_chosen_on_validation", "saliency", "psnr", "kid"})
"""Entries whose parts are too many for a table."""

Row: TypeAlias = tuple[str, dict[str, str]]


def table(metrics: Mapping[str, Any]) -> list[str]:
    """The lines of a table of a card's ``metrics``: the caveats, then what was measured, a row a kind of image.

    Figures that are not to be trusted have a question mark.
    """
    lines = [f"caution: {sentence}" for sentence in metrics.get(CAVEATS, ())]
    if lines:
        lines.append("caution: figures with a question mark are not to be trusted, for these reasons")
    for rows in _groups(list(_rows(metrics, "", doubtful=False))):
        names = list(dict.fromkeys(name for _, figures in rows for name in figures))[:_COLUMNS]
        cells = [["", *names], *([title, *(figures.get(name, "") for name in names)] for title, figures in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)]
    return lines


def _rows(figures: Mapping[str, Any], title: str, *, doubtful: bool) -> Iterator[Row]:
    """The numbers of each part; of a part within a part after those of the whole."""
    numbers = {
        name: _shown(figures, name, doubtful)
        for name, value in figures.items()
        if isinstance(value, int | float) and name not in ABOUT and not name.endswith(_ERRORS)
    }
    apart = figures.get(DOUBTFUL, {})
    inner = {name: value for name, value in apart.items() if isinstance(value, Mapping)}
    numbers |= {
        name: _shown(apart, name, True)
        for name, value in apart.items()
        if isinstance(value, int | float) and not name.endswith(_ERRORS)
    }
    if numbers:
        yield title, numbers
    for parts, doubt in ((figures, doubtful), (inner, True)):
        for name, value in parts.items():
            if isinstance(value, Mapping) and name not in ABOUT | _DETAILS | {DOUBTFUL}:
                yield from _rows(value, f"{title} {name}".strip(), doubtful=doubt)


def _shown(figures: Mapping[str, Any], name: str, doubtful: bool) -> str:
    """A number with its error, if it has one."""
    value = figures[name]
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    error = next((figures[name + ending] for ending in _ERRORS if name + ending in figures), None)
    if error is not None:
        text += f" ± {error:.2g}"
    return f"{text} ?" if doubtful else text


def _groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Neighbouring rows that share a figure make one table."""
    group: list[Row] = []
    for row in rows:
        if group and not group[0][1].keys() & row[1].keys():
            yield group
            group = []
        group.append(row)
    if group:
        yield group
