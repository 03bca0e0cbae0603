"""The database answers late: what became of a request is unknown, and nothing of a job that was accepted is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Unpack

import httpx
import pytest
import redis

from service.app import create_app
from service.contract.jobs import JobRecord
from service.pictures.blobs import Blobs
from service.pictures.places import shelf_key
from service.settings import Settings
from service.store.ledger import Ledger
from service.store.store import RecordStore
from service.store.submission import Submissions
from service.store.types import Idempotency, Terms
from tests.hostile.corpus import noise
from tests.service.serving import serving_app
from tests.service.test_api_images import upload, uri


class LateSubmissions:
    """Accepts jobs, but the first answer comes too late."""

    def __init__(self, submissions: Submissions[JobRecord]) -> None:
        self._submissions, self._late = submissions, True

    async def earlier(self, idempotency: Idempotency) -> JobRecord | None:
        return await self._submissions.earlier(idempotency)

    async def submit(self, record: JobRecord, **terms: Unpack[Terms]) -> tuple[JobRecord, bool]:
        answer = await self._submissions.submit(record, **terms)
        late, self._late = self._late, False
        if late:
            raise redis.TimeoutError("Timeout reading from socket")
        return answer


@pytest.fixture
def late(settings: Settings, client: redis.Redis) -> Iterator[httpx.Client]:
    app = create_app(settings)
    parts = app.state.services
    app.state.services = dataclasses.replace(parts, submissions=LateSubmissions(parts.submissions))
    with serving_app(app) as url, httpx.Client(base_url=url, timeout=30) as api:
        yield api


def keyed(api: httpx.Client, image: str, key: str = "mine") -> httpx.Response:
    return api.post("/v1/translate", json={"model": "toy-pairs", "image": image}, headers={"Idempotency-Key": key})


@pytest.mark.parametrize("sent", ["upload", "uri"])
def test_an_accepted_job_keeps_its_picture_though_the_answer_was_late(
    late: httpx.Client, jobs: RecordStore[JobRecord], settings: Settings, sent: str
) -> None:
    image = upload(late, noise()).json()["id"] if sent == "upload" else uri(noise())
    assert keyed(late, image).status_code == 503
    job = keyed(late, image)
    assert job.status_code == 202
    record = jobs.get(job.json()["id"])
    assert jobs.depth() == 1
    assert Blobs(settings.blobs_dir).exists(shelf_key(record.given().pictures["image"]))
    assert late.get(f"/v1/jobs/{record.id}/inputs/image").status_code == 200


def test_a_retry_after_its_upload_was_deleted_gives_the_job(
    api: httpx.Client, jobs: RecordStore[JobRecord], client: redis.Redis
) -> None:
    uploaded = upload(api, noise()).json()
    first = keyed(api, uploaded["id"])
    assert api.delete(uploaded["url"]).status_code == 204
    again = keyed(api, uploaded["id"])
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert jobs.depth() == 1
    assert len(Ledger(client).held(first.json()["id"])) == 1
    other: dict[str, Any] = keyed(api, uploaded["id"], "another").json()
    assert other["type"] == "/errors/unknown-image"


def test_a_repeated_request_leaves_nothing_behind(api: httpx.Client, client: redis.Redis) -> None:
    first = keyed(api, uri(noise())).json()["id"]
    before = Ledger(client).stored()
    assert keyed(api, uri(noise())).json()["id"] == first
    assert Ledger(client).stored() == before
