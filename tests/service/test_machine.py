from __future__ import annotations

from pathlib import Path

import psutil

from service.machine import memory_bytes
from service.settings import Settings


def test_memory_is_that_of_the_machine_or_what_a_container_may_use(tmp_path: Path) -> None:
    whole = psutil.virtual_memory().total
    limit, none, broken = (tmp_path / name for name in ("limit", "none", "broken"))
    limit.write_text(f"{2**28}\n")
    none.write_text("max\n")
    broken.write_text("")
    assert memory_bytes([tmp_path / "missing", none, broken]) == whole
    assert memory_bytes([none, limit]) == 2**28
    limit.write_text(f"{2**63}\n")
    assert memory_bytes([limit]) == whole


def test_a_training_may_take_half_of_it_or_what_is_set() -> None:
    assert Settings().training_memory == memory_bytes() // 2
    assert Settings(training_memory_bytes=2**30).training_memory == 2**30
