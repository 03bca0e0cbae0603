"""Which of the forms of an answer a request prefers, by its Accept header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from fastapi import Request

Form: TypeAlias = Literal["json", "png", "webp", "jpeg", "zip"]

TYPES: Mapping[Form, str] = {
    "json": "application/json",
    "png": "image/png",
    "webp": "image/webp",
    "jpeg": "image/jpeg",
    "zip": "application/zip",
}
"""Forms in the order in which they are taken where a request likes several equally."""


def form_of(request: Request) -> Form:
    """The form that a request prefers: JSON, unless it names another one and likes that better."""
    asked = dict(map(_weighed, ",".join(request.headers.getlist("accept")).split(",")))
    if "text/html" in asked:  # a person follows a link in a browser, which likes every picture
        return "json"
    return max(TYPES, key=lambda form: _liked(asked, TYPES[form]))


def _weighed(entry: str) -> tuple[str, float]:
    """A media range in small letters, and its weight; one that can't be read counts as 0."""
    name, *params = (part.strip().lower() for part in entry.split(";"))
    for param in params:
        if param.startswith("q="):
            try:
                return name, min(1.0, max(0.0, float(param[2:])))
            except ValueError:
                return name, 0.0
    return name, 1.0


def _liked(asked: Mapping[str, float], type: str) -> float:
    for name in (type, f"{type.partition('/')[0]}/*", "*/*"):
        if name in asked:
            return asked[name]
    return 0.0
