"""A process that is killed between two steps of its work on files, without a process.

Python tells every opening, renaming and removal before it happens (:func:`sys.addaudithook`). From the chosen one on
none is let through, as if the process had ended: not even those of ``finally`` blocks. A file that was just being
opened for writing is left empty.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_EVENTS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.scandir"})
_axes: list[_Axe] = []


class KilledError(BaseException):
    """The process has ended."""


class _Axe:
    def __init__(self, root: Path, step: int) -> None:
        self.root, self.left, self.dead = str(root), step, False

    def fall(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not str(args[0]).startswith(self.root):
            return
        self.left -= 1
        if self.left > 0 or self.dead:
            if self.dead:
                raise KilledError
            return
        self.dead = True
        if event == "open" and isinstance(args[1], str) and "w" in args[1]:
            _axes.remove(self)
            os.close(os.open(args[0], os.O_CREAT | os.O_TRUNC | os.O_WRONLY))
            _axes.append(self)
        raise KilledError


def _listen(event: str, args: tuple[Any, ...]) -> None:
    for axe in list(_axes):
        axe.fall(event, args)


@contextmanager
def killed(root: Path, step: int) -> Iterator[None]:
    """Kill the block before its so manieth step on files below ``root``; a block of fewer steps comes to its end."""
    axe = _Axe(root, step)
    _axes.append(axe)
    try:
        yield
    finally:
        _axes.remove(axe)


sys.addaudithook(_listen)  # there is no way to take it away again; without an axe it does nothing
