from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from service.contract.errors import IdempotencyError, NotFoundError, StaleAttemptError, TakenError
from service.contract.jobs import Generate, JobRecord, Output
from service.contract.records import Failure, Progress, Status, now
from service.contract.trainings import TrainingRecord, TrainingRequest
from service.store.codec import announced
from service.store.types import Beat, Idempotency, Name
from tests.service.beats import heartbeat
from tests.service.submitting import SubmittingStore

Jobs = SubmittingStore[JobRecord]
NewJob = Callable[[], JobRecord]

SHORT = 0.02


def statuses(client: redis.Redis, jobs: Jobs, id: str) -> list[str]:
    return [fields["data"] for _, fields in client.xrange(jobs.events_key(id)) if fields["event"] == "status"]


def test_a_job_lives_from_queue_to_result(client: redis.Redis, jobs: Jobs, new_job: NewJob) -> None:
    stored, created = jobs.submit(new_job())
    assert created
    assert (stored.status, stored.queue_position, stored.attempt) == (Status.QUEUED, 0, 0)
    claimed = jobs.claim(stored.id, "w1", 10)
    assert claimed is not None
    assert (claimed.status, claimed.attempt, claimed.queue_position) == (Status.RUNNING, 1, None)
    assert claimed.request() == Generate.model_validate(stored.params)
    assert claimed.started_at is not None
    progress = Progress(stage="refine", step=2, steps=3)
    assert heartbeat(jobs, stored.id, 1, 10, progress) is False
    assert jobs.get(stored.id).progress == progress
    output = Output(url="/v1/jobs/x/images/0", width=28, height=28, seed=1, energy=-2.0)
    jobs.finish(stored.id, 1, Status.SUCCEEDED, outputs=[output], warnings=["odd"])
    done = jobs.get(stored.id)
    assert (done.status, done.outputs, done.warnings) == (Status.SUCCEEDED, [output], ["odd"])
    assert done.finished_at is not None
    assert stored.created_at <= claimed.started_at <= done.finished_at
    assert [data.split('"')[3] for data in statuses(client, jobs, stored.id)] == ["queued", "running", "succeeded"]
    assert 0 < client.ttl(jobs.events_key(stored.id)) <= 86_400
    assert jobs.counts()[Status.SUCCEEDED] == 1
    assert jobs.depth() == 0


def test_the_end_of_a_job_is_announced_with_all_that_its_record_says(
    client: redis.Redis, jobs: Jobs, new_job: NewJob
) -> None:
    succeeds, fails, is_cancelled = (jobs.submit(new_job())[0].id for _ in range(3))
    with client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(jobs.finished_channel)
        for id in (succeeds, fails):
            jobs.claim(id, "w", 10)
        output = Output(url="/v1/jobs/x/images/0", width=28, height=28, seed=1, energy=-2.0)
        jobs.finish(succeeds, 1, Status.SUCCEEDED, outputs=[output], warnings=['"odd" \\ \u00fc'])
        jobs.finish(fails, 1, Status.FAILED, error=Failure(kind="diverged", detail="too far"))
        jobs.cancel(is_cancelled)
        told: dict[str, str] = {}
        deadline = time.monotonic() + 10
        while len(told) < 3 and time.monotonic() < deadline:
            if message := channel.get_message(timeout=1.0):
                id, _, fields = message["data"].partition(" ")
                told[id] = fields
    for id in (succeeds, fails, is_cancelled):
        assert announced(JobRecord, told[id]) == jobs.get(id)


def test_the_same_key_and_body_give_the_same_job(jobs: Jobs, new_job: NewJob) -> None:
    body = Generate(model="toy", n=2)
    first, created = jobs.submit(new_job(), idempotency=Idempotency("k", body))
    again, created_again = jobs.submit(new_job(), idempotency=Idempotency("k", Generate(n=2, model="toy")))
    assert (created, created_again, again.id) == (True, False, first.id)
    with pytest.raises(IdempotencyError, match="another body"):
        jobs.submit(new_job(), idempotency=Idempotency("k", Generate(model="toy", n=3)))
    assert jobs.depth() == 1


def test_a_submission_repeated_by_the_client_library_is_one_job(jobs: Jobs, new_job: NewJob) -> None:
    record = new_job()
    assert jobs.submit(record)[0].id == jobs.submit(record)[0].id
    assert jobs.depth() == 1


def test_greater_priorities_leave_first_and_equals_in_order(jobs: Jobs, new_job: NewJob) -> None:
    low, first, second, high = (jobs.submit(new_job(), priority=priority)[0] for priority in (0, 5, 5, 9))
    positions = [jobs.get(record.id).queue_position for record in (high, first, second, low)]
    assert positions == [0, 1, 2, 3]


def test_pages_are_newest_first_and_complete(jobs: Jobs, new_job: NewJob) -> None:
    ids = [jobs.submit(new_job())[0].id for _ in range(5)]
    jobs.cancel(ids[1])
    seen, cursor = [], None
    while True:
        records, cursor = jobs.page(None, cursor, 2)
        seen += [record.id for record in records]
        if cursor is None:
            break
    assert seen == ids[::-1]
    assert [record.id for record in jobs.page(Status.CANCELLED, None, 10)[0]] == [ids[1]]
    assert len(jobs.page(Status.QUEUED, None, 10)[0]) == 4
    assert jobs.page(None, None, 5)[1] is None


def test_an_unknown_id(jobs: Jobs) -> None:
    for id in ("job_0", "", "\x00", "x" * 5000, "{}*?"):
        with pytest.raises(NotFoundError):
            jobs.get(id)
        with pytest.raises(NotFoundError):
            jobs.cancel(id)
        assert jobs.claim(id, "w", 1) is None
        with pytest.raises(StaleAttemptError):
            heartbeat(jobs, id, 1, 1)


def test_cancel_in_each_state(jobs: Jobs, new_job: NewJob) -> None:
    queued, running, done = (jobs.submit(new_job())[0].id for _ in range(3))
    for id in (running, done):
        jobs.claim(id, "w", 10)
    jobs.finish(done, 1, Status.SUCCEEDED)
    assert jobs.cancel(queued).status is Status.CANCELLED
    assert jobs.cancel(queued).status is Status.CANCELLED
    asked = jobs.cancel(running)
    assert (asked.status, asked.cancel_requested) == (Status.RUNNING, True)
    assert heartbeat(jobs, running, 1, 10) is True
    jobs.finish(running, 1, Status.CANCELLED)
    assert jobs.get(running).status is Status.CANCELLED
    assert jobs.cancel(done).status is Status.SUCCEEDED
    assert jobs.claim(queued, "w", 10) is None


def test_a_leased_or_finished_job_is_not_claimed_again(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    assert jobs.claim(id, "w1", 10) is not None
    assert jobs.claim(id, "w2", 10) is None
    jobs.finish(id, 1, Status.FAILED, error={"kind": "diverged", "detail": "too large a step"})
    assert jobs.claim(id, "w2", 10) is None
    error = jobs.get(id).error
    assert error is not None
    assert error.kind == "diverged"


def test_an_expired_lease_is_queued_again_and_the_old_worker_is_fenced(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job(), priority=7)[0].id
    jobs.claim(id, "w1", SHORT)
    time.sleep(SHORT * 1.5)
    assert jobs.requeue_expired() == [(id, 7)]
    assert jobs.requeue_expired() == []
    assert jobs.get(id).queue_position == 0
    taken = jobs.claim(id, "w2", 10)
    assert taken is not None
    assert taken.attempt == 2
    for write in (
        lambda: heartbeat(jobs, id, 1, 10, Progress(stage="refine", step=1, steps=3)),
        lambda: jobs.emit(id, 1, "preview", {"url": "/x"}),
        lambda: jobs.finish(id, 1, Status.SUCCEEDED, warnings=["stale"]),
    ):
        with pytest.raises(StaleAttemptError):
            write()
    assert (jobs.get(id).progress, jobs.get(id).warnings) == (None, [])
    jobs.finish(id, 2, Status.SUCCEEDED)


def test_heartbeats_keep_the_lease(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    jobs.claim(id, "w", SHORT)
    heartbeat(jobs, id, 1, 10)
    time.sleep(SHORT * 1.5)
    assert jobs.requeue_expired() == []


def test_many_heartbeats_in_one_call(jobs: Jobs, new_job: NewJob) -> None:
    fine, asked, lost = (jobs.submit(new_job())[0].id for _ in range(3))
    for id in (fine, asked):
        jobs.claim(id, "w", 10)
    jobs.cancel(asked)
    progress = Progress(stage="refine", step=1, steps=3)
    assert jobs.heartbeat([Beat(fine, 1, progress), Beat(asked, 1), Beat(lost, 1)], 10) == [
        "ok",
        "cancel",
        "stale",
    ]
    assert jobs.get(fine).progress == progress
    assert jobs.heartbeat([], 10) == []


def test_a_message_that_comes_after_the_lease_ran_out_takes_the_job_over(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    jobs.claim(id, "w1", SHORT)
    time.sleep(SHORT * 1.5)
    taken = jobs.claim(id, "w2", 10)
    assert taken is not None
    assert taken.attempt == 2


def test_a_lost_worker_was_asked_to_cancel(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    jobs.claim(id, "w", SHORT)
    jobs.cancel(id)
    time.sleep(SHORT * 1.5)
    assert jobs.requeue_expired() == []
    assert jobs.get(id).status is Status.CANCELLED


def test_a_job_that_loses_every_worker_fails_in_the_end(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    for attempt in range(1, JobRecord.max_lost + 1):
        claimed = jobs.claim(id, "w", 0.001)
        assert claimed is not None
        assert claimed.attempt == attempt
        time.sleep(0.003)
    assert jobs.requeue_expired() == []
    lost = jobs.get(id)
    assert lost.status is Status.FAILED
    assert lost.error is not None
    assert lost.error.kind == "worker-lost"


@pytest.mark.parametrize("positions", [[None] * 9, [0.1 * k for k in range(1, 10)]])
def test_attempts_that_save_something_may_be_lost_as_often_as_you_like(
    jobs: Jobs, new_job: NewJob, positions: Sequence[float | None]
) -> None:
    id = jobs.submit(new_job())[0].id
    for attempt, position in enumerate(positions, 1):
        assert jobs.claim(id, "w", 0.01) is not None
        jobs.note_saved(id, attempt, position)
        time.sleep(0.015)
    for attempt in range(10, 9 + JobRecord.max_lost):  # these save nothing, or what was there already
        assert jobs.claim(id, "w", 0.01) is not None
        if positions[-1] is not None:
            jobs.note_saved(id, attempt, positions[-1])
        time.sleep(0.015)
    assert jobs.requeue_expired() == []
    error = jobs.get(id).error
    assert error is not None
    assert error.kind == "worker-lost"


def test_finish_takes_only_ends_and_known_fields(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    jobs.claim(id, "w", 10)
    with pytest.raises(ValueError, match="not the end"):
        jobs.finish(id, 1, Status.QUEUED)
    for field in ("status", "bogus", "links"):
        with pytest.raises(ValueError, match=field):
            jobs.emit(id, 1, "preview", {}, **{field: 1})
    assert jobs.get(id).status is Status.RUNNING


def test_events_are_bounded(client: redis.Redis, jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    jobs.claim(id, "w", 10)
    for step in range(1500):
        jobs.emit(id, 1, "preview", {"step": step})
    assert client.xlen(jobs.events_key(id)) < 1200


def test_a_training_record_keeps_its_request_metrics_and_samples(
    client: redis.Redis, trainings: SubmittingStore[TrainingRecord], jobs: Jobs, new_job: NewJob
) -> None:
    params = TrainingRequest(
        data="digits", name="mine", overrides={"lr": 1e-3, "ema": True, "steps": 5, "norm": "none"}
    )
    id = trainings.submit(TrainingRecord(id=TrainingRecord.new_id(), created_at=now(), params=params))[0].id
    jobs.submit(new_job())
    trainings.claim(id, "t", 10)
    heartbeat(trainings, id, 1, 10, metrics={"energy": -1.25})
    trainings.emit(id, 1, "sample", {"url": "/s/1"}, samples=["/s/1"])
    trainings.finish(id, 1, Status.SUCCEEDED, model="mine@1")
    done = trainings.get(id)
    assert (done.params, done.metrics, done.samples, done.model) == (params, {"energy": -1.25}, ["/s/1"], "mine@1")
    names = [fields["event"] for _, fields in client.xrange(trainings.events_key(id))]
    assert names == ["status", "status", "metrics", "sample", "status"]
    assert len(trainings.page(None, None, 10)[0]) == 1


def new_training(name: str = "mine") -> TrainingRecord:
    return TrainingRecord.new(TrainingRequest(data="digits", name=name), {})


def test_one_owner_of_many_at_once_gets_a_new_name(client: redis.Redis) -> None:
    trainings = SubmittingStore(client, TrainingRecord)

    def submit(owner: str) -> str:
        try:
            return trainings.submit(new_training(), name=Name("mine", owner))[0].model_owner or ""
        except TakenError:
            return "refused"

    owners = [f"owner-{k % 4}" for k in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(submit, owners))
    (winner,) = set(answers) - {"refused"}
    assert [owner for owner, answer in zip(owners, answers, strict=True) if answer == winner] == [winner] * 4
    assert trainings.depth() == 4


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_a_name_is_held_until_the_last_training_under_it_has_ended(client: redis.Redis, end: Status) -> None:
    trainings = SubmittingStore(client, TrainingRecord)
    first, second = (trainings.submit(new_training(), name=Name("mine", "alice"))[0].id for _ in range(2))
    adopted = trainings.submit(new_training(), name=Name("mine", None, adopt=True))[0]
    assert adopted.model_owner == "alice"
    trainings.submit(new_training("other"), name=Name("other", None))
    for id in (first, second, adopted.id):
        with pytest.raises(TakenError, match="'mine' belongs to"):
            trainings.submit(new_training(), name=Name("mine", None))
        trainings.claim(id, "t", 10)
        trainings.release(id, 1)
        trainings.claim(id, "t", 10)
        trainings.finish(id, 2, end)
    assert trainings.submit(new_training(), name=Name("mine", "bob"))[0].model_owner == "bob"
    assert trainings.get(adopted.id).model_owner == "alice"
    with pytest.raises(TakenError):
        trainings.submit(new_training("other"), name=Name("other", "alice"))
