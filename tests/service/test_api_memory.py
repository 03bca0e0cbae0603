"""Trainings that would take more memory than any trainer has."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.store.presence import Presence


@pytest.mark.parametrize("changes", [{"batch_size": 65_536}, {"overrides": {"training.batch_size": 65_536}}])
def test_a_training_that_takes_too_much_memory_is_refused(
    api: httpx.Client, presence: Presence, changes: dict[str, Any]
) -> None:
    body = {"data": "sample", "name": "mine", **changes}
    presence.announce("a-trainer", {"kind": "training", "training_memory_bytes": 2**32}, 60)
    presence.announce("another", {"kind": "training", "training_memory_bytes": 2**30}, 60)
    answer = api.post("/v1/trainings", json=body)
    assert answer.status_code == 422
    document = answer.json()
    assert document["errors"][0]["loc"] in (["body", "batch_size"], ["body", "overrides", "training.batch_size"])
    assert "GiB of memory, but it may take 4.0 GiB; choose a smaller batch_size" in document["detail"]
    assert api.post("/v1/trainings", json={"data": "sample", "name": "mine"}).status_code == 202
    presence.announce("a-great-trainer", {"kind": "training", "training_memory_bytes": 2**45}, 60)
    assert api.post("/v1/trainings", json=body).status_code == 202
