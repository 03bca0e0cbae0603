"""What the machine has, as far as this process may use it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_bytes(limits: Sequence[Path] = _CGROUPS) -> int:
    """The memory in bytes: of the machine, or what the container may use.

    Args:
        limits: files that hold the container's limit, in bytes; those that do not count.
    """
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in limits:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(found)
