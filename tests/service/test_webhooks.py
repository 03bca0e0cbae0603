"""Webhooks from the end of a job to their receiver, over a real database and real HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import httpx
import pytest
import redis
from standardwebhooks import Webhook, WebhookVerificationError

from service.access.keys import Keys, Scope
from service.access.signing import check_webhook_secret, new_webhook_secret
from service.contract.jobs import JobRecord
from service.contract.records import Delivery, Status
from service.contract.trainings import TrainingRecord, TrainingRequest
from service.settings import Settings
from service.store.connection import connect
from service.store.queue_figures import QueueFigures
from service.webhooks.deliveries import Deliveries
from service.webhooks.post import GuardedPost
from service.webhooks.sender import RETRY_SECONDS, Outcome, WebhookSecrets, WebhookSender
from tests.service.fakes import FakeWorker
from tests.service.receiver import Receiver, receiving
from tests.service.serving import serving
from tests.service.submitting import SubmittingStore

Jobs = SubmittingStore[JobRecord]
SECRET = new_webhook_secret()


@pytest.fixture(scope="module")
def own_url(redis_url: str) -> str:
    """A database of its own: the API of the other tests would send these webhooks, too."""
    return redis_url.replace("/0", "/1")


@pytest.fixture
def client(own_url: str) -> Iterator[redis.Redis]:
    with connect(own_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def deliveries(client: redis.Redis) -> Deliveries[JobRecord]:
    return Deliveries(client, JobRecord)


@pytest.fixture
def ended(jobs: Jobs, new_job: Callable[[], JobRecord], receiver: Receiver) -> Callable[..., str]:
    """Makes a job with a webhook that has ended; gives its id."""

    def make(url: str | None = None, owner: str | None = None) -> str:
        record = new_job().model_copy(update={"webhook": Delivery(url=url or receiver.url)})
        jobs.submit(record, owner=owner)
        jobs.cancel(record.id)
        return record.id

    return make


def send(
    deliveries: Deliveries[JobRecord],
    until: Callable[[], bool],
    client: redis.Redis,
    pauses: Sequence[float] = RETRY_SECONDS,
    allow_private: bool = True,
) -> Counter[Outcome]:
    """Run the sending side until something is true; gives how its attempts ended."""
    outcomes: Counter[Outcome] = Counter()

    async def run() -> None:
        post = GuardedPost(allow_http=True, allow_private=allow_private, ports=range(2**16))
        secrets = WebhookSecrets(Keys(client), SECRET)
        sender = WebhookSender([deliveries], secrets, post, lambda outcome: outcomes.update([outcome]), pauses)
        task = asyncio.create_task(sender.run())
        deadline = time.monotonic() + 10
        while not until():
            assert time.monotonic() < deadline, "it was not delivered in time"
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await post.aclose()

    asyncio.run(run())
    return outcomes


def state(jobs: Jobs, id: str) -> Delivery:
    delivery = jobs.get(id).webhook
    assert delivery is not None
    return delivery


def test_a_job_sends_its_record_signed(
    jobs: Jobs, deliveries: Deliveries[JobRecord], ended: Callable[..., str], receiver: Receiver, client: redis.Redis
) -> None:
    id = ended()
    assert state(jobs, id) == Delivery(url=receiver.url, status="pending", attempts=0)
    outcomes = send(deliveries, lambda: state(jobs, id).status == "delivered", client)
    received = receiver.next()
    record = Webhook(SECRET).verify(received.body, received.headers)
    assert (record["id"], record["status"], received.headers["webhook-id"]) == (id, "cancelled", id)
    assert received.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_webhook_secret()).verify(received.body, received.headers)
    assert state(jobs, id) == Delivery(url=receiver.url, status="delivered", attempts=1)
    assert outcomes == {"delivered": 1}
    assert deliveries.due(10, 1) == []


def test_a_receiver_that_fails_is_asked_again(
    jobs: Jobs, deliveries: Deliveries[JobRecord], ended: Callable[..., str], receiver: Receiver, client: redis.Redis
) -> None:
    receiver.answers = [500, 302, 200]
    id = ended()
    outcomes = send(deliveries, lambda: state(jobs, id).status == "delivered", client, [0.01, 0.01])
    assert state(jobs, id) == Delivery(url=receiver.url, status="delivered", attempts=3)
    assert outcomes == {"retried": 2, "delivered": 1}
    assert [receiver.next().headers["webhook-id"] for _ in range(3)] == [id] * 3


def test_after_a_failure_it_waits(
    jobs: Jobs, deliveries: Deliveries[JobRecord], ended: Callable[..., str], receiver: Receiver, client: redis.Redis
) -> None:
    receiver.answers = [503]
    id = ended()
    send(deliveries, lambda: state(jobs, id).attempts == 1, client)
    pending = Delivery(url=receiver.url, status="pending", attempts=1, last_error="the receiver answered 503")
    assert state(jobs, id) == pending
    (due,) = [float(score) for _, score in client.zrange("{coopserve:job}:webhooks:", 0, -1, withscores=True)]
    seconds, micros = client.time()
    assert 3.5 < due - (seconds + micros / 1e6) < 6.1  # 5 s, give or take a fifth
    assert deliveries.due(10, 1) == []


@pytest.mark.parametrize(
    ("answers", "error", "attempts"),
    [([410], "the receiver answered 410", 1), ([500, 501, 502], "the receiver answered 502", 3)],
)
def test_it_is_given_up(
    jobs: Jobs,
    deliveries: Deliveries[JobRecord],
    ended: Callable[..., str],
    receiver: Receiver,
    client: redis.Redis,
    answers: list[int],
    error: str,
    attempts: int,
) -> None:
    receiver.answers = answers
    id = ended()
    send(deliveries, lambda: state(jobs, id).status == "failed", client, [0.01, 0.01])
    assert state(jobs, id) == Delivery(url=receiver.url, status="failed", attempts=attempts, last_error=error)
    assert deliveries.due(10, 1) == []


def test_an_inside_address_is_given_up_at_once(
    jobs: Jobs, deliveries: Deliveries[JobRecord], ended: Callable[..., str], receiver: Receiver, client: redis.Redis
) -> None:
    id, unreachable = ended(), ended(url="http://no-such-host.invalid/")
    ids = (id, unreachable)
    send(deliveries, lambda: [state(jobs, i).attempts for i in ids] == [1, 1], client, allow_private=False)
    assert [state(jobs, i).status for i in ids] == ["failed", "pending"]
    assert "127.0.0.1 is not a public address" in (state(jobs, id).last_error or "")
    assert receiver.waiting == 0


def test_what_a_process_took_and_did_not_finish_is_due_again(
    deliveries: Deliveries[JobRecord], ended: Callable[..., str]
) -> None:
    id = ended()
    assert [record.id for record in deliveries.due(10, 0.2)] == [id]
    assert deliveries.due(10, 0.2) == []
    time.sleep(0.25)
    assert [record.id for record in deliveries.due(10, 0.2)] == [id]


def test_only_records_with_a_webhook_are_due_and_only_at_their_end(
    jobs: Jobs, deliveries: Deliveries[JobRecord], new_job: Callable[[], JobRecord], client: redis.Redis
) -> None:
    plain, failed = jobs.submit(new_job())[0], new_job().model_copy(update={"webhook": Delivery(url="https://x.org/")})
    jobs.submit(failed)
    jobs.cancel(plain.id)
    assert deliveries.due(10, 60) == []
    claimed = jobs.claim(failed.id, "w", 10)
    assert claimed is not None
    assert deliveries.due(10, 60) == []
    jobs.finish(failed.id, claimed.attempt, Status.FAILED)
    assert [record.id for record in deliveries.due(10, 60)] == [failed.id]


def test_an_expired_record_takes_its_webhook_along(
    jobs: Jobs, deliveries: Deliveries[JobRecord], ended: Callable[..., str], client: redis.Redis
) -> None:
    figures = QueueFigures(client, JobRecord)
    first, second = ended(), ended()
    client.delete(f"{{coopserve:job}}:record:{first}")
    assert figures.webhooks() == 2
    (taken,) = deliveries.due(10, 60)
    assert taken.id == second
    client.delete(f"{{coopserve:job}}:record:{second}")
    deliveries.note(taken, Delivery(url="https://x.org/"), 5.0)
    assert figures.webhooks() == 0
    assert not client.exists("{coopserve:job}:webhook_owners")
    assert not client.exists(f"{{coopserve:job}}:record:{second}")


def test_each_owner_has_a_share_of_what_is_sent_at_a_time(
    deliveries: Deliveries[JobRecord], ended: Callable[..., str]
) -> None:
    ann = [ended(owner="ann") for _ in range(5)]
    bob, nobody = ended(owner="bob"), ended()
    assert [record.id for record in deliveries.due(10, 60, 2)] == [*ann[:2], bob, nobody]
    assert deliveries.due(10, 60, 2, {"ann": 2, "bob": 1}) == []
    assert [record.id for record in deliveries.due(10, 60, 2, {"ann": 1})] == [ann[2]]
    assert [record.id for record in deliveries.due(1, 60, 2)] == [ann[3]]


def test_a_receiver_that_never_answers_holds_up_its_own_owner_alone(
    jobs: Jobs, deliveries: Deliveries[JobRecord], ended: Callable[..., str], receiver: Receiver, client: redis.Redis
) -> None:
    keys = Keys(client)
    for owner in ("ann", "bob"):
        keys.add(owner, frozenset({Scope.USE}))
    with socket.create_server(("127.0.0.1", 0)) as hole:  # accepts, and never answers
        for _ in range(100):
            ended(url=f"http://127.0.0.1:{hole.getsockname()[1]}/", owner="ann")
        others = [ended(owner="bob") for _ in range(20)]
        # The first answer that does not come is missed after 10 s: by then all others have been sent.
        outcomes = send(deliveries, lambda: all(state(jobs, id).status == "delivered" for id in others), client)
    assert outcomes == {"delivered": 20}
    assert receiver.waiting == 20


def test_an_owners_webhooks_are_signed_by_each_of_their_keys(
    jobs: Jobs, deliveries: Deliveries[JobRecord], ended: Callable[..., str], receiver: Receiver, client: redis.Redis
) -> None:
    keys = Keys(client)
    secrets = [keys.add("alice", frozenset({Scope.USE})).key.webhook_secret for _ in range(2)]
    id, orphan = ended(owner="alice"), ended(owner="bob")
    send(deliveries, lambda: [state(jobs, i).attempts for i in (id, orphan)] == [1, 1], client)
    assert [state(jobs, i).status for i in (id, orphan)] == ["delivered", "pending"]
    received = receiver.next()
    for secret in secrets:
        assert Webhook(secret).verify(received.body, received.headers)["id"] == id
    assert "no secret" in (state(jobs, orphan).last_error or "")


@pytest.fixture
def url(settings: Settings, own_url: str, receiver: Receiver) -> Iterator[str]:
    """An API that sends webhooks to this machine."""
    allowed = {
        "redis_url": own_url,
        "webhook_secret": SECRET,
        "webhook_allow_http": True,
        "webhook_allow_private": True,
        "webhook_ports": str(receiver.port),
    }
    with serving(settings.model_copy(update=allowed)) as url:
        yield url


def test_a_job_and_a_training(
    url: str,
    client: redis.Redis,
    worker: FakeWorker,
    receiver: Receiver,
    trainings: SubmittingStore[TrainingRecord],
) -> None:
    body = {"model": "toy", "label": "Bag", "n": 1, "steps": 1, "webhook": receiver.url}
    job = httpx.post(f"{url}/v1/generate", json=body).json()
    assert job["webhook"] == {"url": receiver.url, "status": "pending", "attempts": 0, "last_error": None}
    assert receiver.waiting == 0
    worker.run(job["id"])
    received = receiver.next()
    sent = Webhook(SECRET).verify(received.body, received.headers)
    shown = httpx.get(f"{url}/v1/jobs/{job['id']}").json()
    assert {**sent, "webhook": None} == {**shown, "webhook": None}
    assert sent["outputs"][0]["url"] == f"/v1/jobs/{job['id']}/images/0"

    training = httpx.post(f"{url}/v1/trainings", json={"data": "digits", "name": "n", "webhook": receiver.url}).json()
    trainings.cancel(training["id"])
    assert json.loads(receiver.next().body)["id"] == training["id"]
    figures = httpx.get(f"{url}/metrics").text
    assert 'coopserve_webhook_attempts_total{outcome="delivered"}' in figures
    assert "coopserve_jobs_webhooks_waiting 0.0" in figures


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "x" * 40, "whsec_" + "A" * 90, "whsec_" + "!" * 40])
def test_a_secret_has_the_form_of_the_standard(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 random bytes"):
        check_webhook_secret(secret)
    check_webhook_secret(SECRET)


def test_a_training_request_round_trips() -> None:
    request = TrainingRequest(data="d", name="n", webhook="https://bücher.example/x?y=z")
    assert request.webhook == "https://xn--bcher-kva.example/x?y=z"
    assert TrainingRequest.model_validate_json(request.model_dump_json()) == request
    record = TrainingRecord.new(request, {"request_id": "r"})
    assert record.webhook == Delivery(url=request.webhook)
