"""The front door: the command line, models in a notebook, and the supervisor that runs all parts on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coopserve.local import LocalModel

__all__ = ["load"]


def load(name: str, **options: Any) -> LocalModel:
    """A model that runs in this process, see :func:`coopserve.local.load`."""
    from coopserve.local import load  # torch takes seconds, which commands that need none are spared

    return load(name, **options)
