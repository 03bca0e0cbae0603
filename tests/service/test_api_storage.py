"""Where there is no room, requests are refused before anything is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis

from service.access.keys import Keys, Scope
from service.settings import Settings
from service.store.ledger import Ledger
from tests.hostile.corpus import noise
from tests.service.serving import serving
from tests.service.test_api_bad_input import problem
from tests.service.test_api_images import upload, uri

JOB = {"model": "toy", "label": "Bag", "n": 1, "steps": 1}
PICTURE = {"model": "toy-pairs", "image": uri(noise())}
TRAINING = {"data": "sample", "name": "mine"}


@pytest.fixture
def limited(settings: Settings, client: redis.Redis) -> Callable[..., Any]:
    @contextmanager
    def api(headers: dict[str, str] | None = None, **changes: Any) -> Iterator[httpx.Client]:
        with (
            serving(settings.model_copy(update=changes)) as url,
            httpx.Client(base_url=url, headers=headers, timeout=30) as http,
        ):
            yield http

    return api


def all_refused(api: httpx.Client, kind: str) -> None:
    problem(api.post("/v1/generate", json=JOB), kind)
    problem(api.post("/v1/translate", json=PICTURE), kind)
    problem(upload(api, noise()), kind)
    answer = api.post("/v1/trainings", json=TRAINING)
    problem(answer, kind)
    assert int(answer.headers["retry-after"]) > 0


def test_a_disk_that_is_nearly_full_takes_nothing(limited: Callable[..., Any], client: redis.Redis) -> None:
    with limited(min_free_bytes=2**60) as api:
        all_refused(api, "storage-full")
        assert api.get("/v1/jobs").json()["items"] == []
    assert Ledger(client).stored() == (0, 0, 0)


def test_a_server_that_is_full_takes_nothing(limited: Callable[..., Any], client: redis.Redis) -> None:
    with limited(max_stored_bytes=100) as api:
        all_refused(api, "storage-full")
    assert Ledger(client).stored() == (0, 0, 0)


def test_one_owner_fills_their_own_share_alone(limited: Callable[..., Any], client: redis.Redis) -> None:
    keys = [Keys(client).add(owner, frozenset({Scope.USE, Scope.TRAIN})) for owner in ("ann", "bob")]
    ann, bob = ({"Authorization": f"Bearer {key.token}"} for key in keys)
    with limited(ann, auth="on", max_owner_bytes=70_000) as api:
        accepted = []
        while (answer := upload(api, noise(100 + len(accepted), 100))).status_code == 201:
            accepted.append(answer.json())
        problem(answer, "too-much-stored")
        assert len(accepted) == 2
        assert upload(api, noise(100, 100)).status_code == 201  # an equal picture takes no room
        stored = Ledger(client).stored("ann")
        assert stored.owner == stored.all <= 70_000
        with httpx.Client(base_url=api.base_url, headers=bob, timeout=30) as other:
            assert upload(other, noise(100, 100)).status_code == 201
        for _ in range(10):  # each leaves its record
            if (last := api.post("/v1/generate", json=JOB)).status_code != 202:
                break
        problem(last, "too-much-stored")
        assert api.delete(accepted[1]["url"]).status_code == 204
        assert api.post("/v1/generate", json=JOB).status_code == 202


def test_a_job_gives_back_what_it_did_not_need(limited: Callable[..., Any], client: redis.Redis, worker: Any) -> None:
    with limited() as api:
        job = api.post("/v1/generate", json={**JOB, "preview_every": 1, "n": 8, "steps": 50}).json()
        before = Ledger(client).stored()
        assert before.all > 28 * 28 * 8 * 50
        worker.run(job["id"])
        assert Ledger(client).stored().all < before.all / 10
