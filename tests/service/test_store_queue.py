"""The queue of the store: order, shares, limits, owners and deadlines, and the end of what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

from service.contract.errors import StaleAttemptError, TooManyError
from service.contract.jobs import Generate, JobRecord
from service.contract.records import Status
from service.store.types import Claim, Expired, Idempotency, Message, QueueLimits
from tests.service.submitting import SubmittingStore

Jobs = SubmittingStore[JobRecord]
NewJob = Callable[[], JobRecord]


def claimed(record: JobRecord | None) -> str | None:
    return record.id if record else None


def refused(jobs: Jobs, record: JobRecord, kind: str, **options: object) -> TooManyError:
    with pytest.raises(TooManyError) as error:
        jobs.submit(record, **options)  # type: ignore[arg-type]
    assert (error.value.kind, error.value.problem.status) == (kind, 429)
    return error.value


def test_the_next_job_is_the_most_urgent_and_then_the_oldest(jobs: Jobs, new_job: NewJob) -> None:
    low, first, second, high = (jobs.submit(new_job(), priority=p, queue="m")[0].id for p in (0, 5, 5, 9))
    assert [claimed(jobs.claim_next(Claim("w", 10))) for _ in range(5)] == [high, first, second, low, None]


def test_a_job_whose_worker_was_lost_keeps_its_place(jobs: Jobs, new_job: NewJob) -> None:
    first, *others = (jobs.submit(new_job(), queue="m")[0].id for _ in range(3))
    assert claimed(jobs.claim_next(Claim("w1", 0.001))) == first
    time.sleep(0.003)
    assert [queued.id for queued in jobs.requeue_expired()] == [first]
    assert [claimed(jobs.claim_next(Claim("w2", 10))) for _ in range(3)] == [first, *others]


def test_owners_take_turns_within_a_priority(jobs: Jobs, new_job: NewJob) -> None:
    ann = [jobs.submit(new_job(), owner="ann", queue=queue)[0].id for queue in "aabbab"]
    bob = [jobs.submit(new_job(), owner="bob", queue="a")[0].id for _ in range(2)]
    urgent = jobs.submit(new_job(), owner="ann", queue="b", priority=9)[0].id
    taken = [claimed(jobs.claim_next(Claim("w", 10))) for _ in range(5)]
    assert taken == [urgent, ann[0], bob[0], ann[1], bob[1]]
    # An owner who comes late has the next turn, but has saved none up from before.
    eve = [jobs.submit(new_job(), owner="eve", queue="b")[0].id for _ in range(2)]
    bob.append(jobs.submit(new_job(), owner="bob", queue="a")[0].id)
    taken = [claimed(jobs.claim_next(Claim("w", 10))) for _ in range(7)]
    assert taken == [eve[0], ann[2], eve[1], bob[2], *ann[3:]]


def test_one_who_sends_one_job_after_the_other_does_not_pass_those_who_wait(jobs: Jobs, new_job: NewJob) -> None:
    ann = [jobs.submit(new_job(), owner="ann", queue="m")[0].id for _ in range(4)]
    order = []
    for _ in range(4):
        jobs.submit(new_job(), owner="bob", queue="m")
        order += [jobs.claim_next(Claim("w", 10)) for _ in range(2)]
    assert [record.owner for record in order if record] == ["ann", "bob"] * 4
    assert [record.id for record in order if record and record.owner == "ann"] == ann


def test_what_is_lost_keeps_its_place_also_when_the_queue_was_empty(jobs: Jobs, new_job: NewJob) -> None:
    ids = [jobs.submit(new_job(), owner="ann", queue="m")[0].id for _ in range(3)]
    for _ in ids:
        assert jobs.claim_next(Claim("w", 10))
    late = jobs.submit(new_job(), owner="bob", queue="m")[0].id
    jobs.release(ids[1], 1)
    assert [claimed(jobs.claim_next(Claim("w", 10))) for _ in range(2)] == [ids[1], late]


def test_a_worker_holds_no_more_of_a_model_than_its_share(client: redis.Redis, jobs: Jobs, new_job: NewJob) -> None:
    big = [jobs.submit(new_job(), priority=9, queue="big@1")[0].id for _ in range(5)]
    small = [jobs.submit(new_job(), queue="small@1")[0].id for _ in range(2)]
    half = Claim("w", 10, share=2)
    assert [claimed(jobs.claim_next(half)) for _ in range(5)] == [*big[:2], *small, None]
    assert [queued.id for queued in jobs.waiting(10)] == big[2:]
    assert len(jobs.waiting(2)) == 2
    assert jobs.waiting(10, "w", 2) == []
    assert [queued.id for queued in jobs.waiting(10, "other", 2)] == big[2:]
    assert claimed(jobs.claim_next(half._replace(worker="other"))) == big[2]
    # The place of the one that ends is free for the next one in the same round trip.
    assert claimed(jobs.finish(big[0], 1, Status.SUCCEEDED, half)) == big[3]
    jobs.release(big[1], 1)
    assert claimed(jobs.claim_next(half)) == big[1]
    assert jobs.claim_next(half) is None
    for id, attempt in ((big[1], 2), (big[2], 1), (big[3], 1), (small[0], 1), (small[1], 1)):
        jobs.finish(id, attempt, Status.SUCCEEDED)
    jobs.cancel(big[4])
    assert not [key for key in client.scan_iter("*") if ":held:" in key or ":queue" in key]


def test_the_place_of_a_lost_record_is_free_again(jobs: Jobs, new_job: NewJob) -> None:
    first, second = (jobs.submit(new_job(), queue="m")[0].id for _ in range(2))
    assert claimed(jobs.claim_next(Claim("w", 0.001, share=1))) == first
    assert jobs.claim_next(Claim("w", 10, share=1)) is None
    time.sleep(0.003)
    jobs.requeue_expired()
    assert claimed(jobs.claim_next(Claim("other", 10, share=1))) == first
    assert claimed(jobs.claim_next(Claim("w", 10, share=1))) == second


MESSAGE = Message("inference", "wake up")


def test_the_end_of_a_job_and_the_next_one_take_one_round_trip(jobs: Jobs, new_job: NewJob) -> None:
    first, second = (jobs.submit(new_job(), queue=queue)[0].id for queue in ("a@1", "b@1"))
    assert claimed(jobs.claim_next(Claim("w", 10))) == first
    done = Status.SUCCEEDED
    assert jobs.finish(first, 1, done, Claim("w", 10, share=0)) is None
    assert jobs.get(first).status is done
    third, fourth = (jobs.submit(new_job(), queue="a@1")[0].id for _ in range(2))
    assert claimed(jobs.claim_next(Claim("w", 10))) == second
    following = jobs.finish(second, 1, done, Claim("w", 10), warnings=["slow"])
    assert claimed(following) == third  # the oldest, with fields written to the record that has ended alone
    assert (jobs.get(second).warnings, jobs.get(third).warnings) == (["slow"], [])
    with pytest.raises(StaleAttemptError):
        jobs.finish(second, 1, done, Claim("w", 10))
    assert jobs.get(fourth).status is Status.QUEUED
    assert claimed(jobs.finish(third, 1, done, Claim("w", 10))) == fourth
    assert jobs.finish(fourth, 1, done, Claim("w", 10)) is None


def test_a_new_job_sends_its_message_and_one_that_was_there_before_none(
    client: redis.Redis, jobs: Jobs, new_job: NewJob
) -> None:
    job, again = new_job(), new_job()
    key = Idempotency("k", job.request())
    created, is_new = jobs.submit(job, idempotency=key, message=MESSAGE)
    assert (is_new, created.status, created.attempt) == (True, Status.QUEUED, 0)
    assert jobs.submit(again, idempotency=key, message=MESSAGE)[1] is False
    assert client.lrange("inference", 0, -1) == ["wake up"]


def test_a_job_that_waited_too_long_is_not_the_next_one(jobs: Jobs, new_job: NewJob) -> None:
    first = jobs.submit(new_job(), queue="m")[0].id
    assert claimed(jobs.claim_next(Claim("w", 10))) == first
    late = jobs.submit(new_job(), queue="m", max_queue_seconds=0.001)[0].id
    good = jobs.submit(new_job(), queue="n")[0].id
    time.sleep(0.003)
    assert claimed(jobs.finish(first, 1, Status.SUCCEEDED, Claim("w", 10))) == good
    assert jobs.get(late).status is Status.FAILED


def test_the_queue_is_bounded(jobs: Jobs, new_job: NewJob) -> None:
    limits = QueueLimits(max_queued=2)
    first, second = (jobs.submit(new_job(), limits=limits)[0] for _ in range(2))
    error = refused(jobs, new_job(), "queue-full", limits=limits, idempotency=Idempotency("k", Generate(model="toy")))
    assert "2 requests are waiting" in error.detail
    assert jobs.submit(second, limits=limits)[0].id == second.id  # it has its place already
    jobs.claim(first.id, "w", 10)
    record = new_job()
    assert jobs.submit(record, limits=limits, idempotency=Idempotency("k", Generate(model="toy", n=2)))[1]
    assert jobs.depth() == 2


@pytest.mark.parametrize("end", ["finish", "cancel", "lost", "late"])
def test_an_owner_has_room_again_when_a_job_has_ended(jobs: Jobs, new_job: NewJob, end: str) -> None:
    limits = QueueLimits(max_active=2, max_cost=100)
    first = jobs.submit(new_job(), owner="ann", cost=10, limits=limits, max_queue_seconds=60)[0].id
    other = jobs.submit(new_job(), owner="ann", cost=10, limits=limits, max_queue_seconds=0.02)[0].id
    assert "2 of your jobs" in refused(jobs, new_job(), "too-many-jobs", owner="ann", cost=1, limits=limits).detail
    assert jobs.submit(new_job(), owner="bob", cost=1, limits=limits)[1]
    assert jobs.submit(new_job(), limits=limits)[1]
    if end == "finish":
        jobs.claim(first, "w", 10)
        refused(jobs, new_job(), "too-many-jobs", owner="ann", limits=limits)
        jobs.finish(first, 1, Status.SUCCEEDED)
    elif end == "cancel":
        jobs.cancel(first)
        jobs.cancel(first)
    elif end == "lost":
        for _ in range(JobRecord.max_lost):
            jobs.claim(first, "w", 0.001)
            time.sleep(0.002)
            jobs.requeue_expired()
        assert jobs.get(first).status is Status.FAILED
    else:
        time.sleep(0.03)
        assert jobs.fail_late() == 1
        assert jobs.get(other).status is Status.FAILED
    assert jobs.submit(new_job(), owner="ann", cost=10, limits=limits)[1]
    refused(jobs, new_job(), "too-many-jobs", owner="ann", cost=1, limits=limits)


def test_an_owner_has_a_budget(client: redis.Redis, jobs: Jobs, new_job: NewJob) -> None:
    limits = QueueLimits(max_cost=1000)
    refused(jobs, new_job(), "over-budget", owner="ann", cost=1001, limits=limits)  # the first job, too
    assert not list(client.scan_iter("*load"))
    ids = [jobs.submit(new_job(), owner="ann", cost=400.0, limits=limits)[0].id for _ in range(2)]
    assert "800" in refused(jobs, new_job(), "over-budget", owner="ann", cost=201, limits=limits).detail
    ids.append(jobs.submit(new_job(), owner="ann", cost=200, limits=limits)[0].id)
    for id in ids:
        jobs.cancel(id)
    assert not list(client.scan_iter("*load"))  # nothing is left over to drift


def test_owners_are_listed_apart_and_not_shown(jobs: Jobs, new_job: NewJob) -> None:
    ann = [jobs.submit(new_job(), owner="ann")[0].id for _ in range(3)]
    bob = jobs.submit(new_job(), owner="bob")[0]
    jobs.cancel(ann[1])
    assert [record.id for record in jobs.page(None, None, 10, owner="ann")[0]] == ann[::-1]
    page, cursor = jobs.page(Status.QUEUED, None, 1, owner="ann")
    assert [page[0].id, cursor] == [ann[2], ann[2]]
    assert [record.id for record in jobs.page(Status.QUEUED, cursor, 5, owner="ann")[0]] == [ann[0]]
    assert jobs.page(None, None, 10, owner="nobody") == ([], None)
    assert len(jobs.page(None, None, 10)[0]) == 4
    assert bob.owner == jobs.get(bob.id).owner == "bob"
    assert "bob" not in bob.model_dump_json()
    assert "owner" not in JobRecord.model_json_schema(mode="serialization")["properties"]


@pytest.mark.parametrize("how", ["claim", "claim_next", "sweep"])
def test_a_job_that_has_waited_too_long_fails_without_a_start(jobs: Jobs, new_job: NewJob, how: str) -> None:
    patient = jobs.submit(new_job(), queue="m", max_queue_seconds=60, priority=1)[0].id
    assert jobs.fail_late() == 0
    late = jobs.submit(new_job(), queue="m", max_queue_seconds=0.01)[0].id
    time.sleep(0.02)
    if how == "claim":
        assert jobs.claim(late, "w", 10) is None
    elif how == "claim_next":
        assert claimed(jobs.claim_next(Claim("w", 10))) == patient
    else:
        assert jobs.fail_late() == 1
    record = jobs.get(late)
    assert (record.status, record.attempt) == (Status.FAILED, 0)
    assert record.error is not None
    assert record.error.kind == "queue-timeout"
    assert jobs.get(patient).status in (Status.QUEUED, Status.RUNNING)


def test_the_wait_ends_with_the_first_start(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job(), max_queue_seconds=0.02)[0].id
    assert jobs.claim(id, "w", 10)
    jobs.release(id, 1)
    time.sleep(0.03)
    assert jobs.fail_late() == 0
    assert jobs.claim(id, "w", 10)


def test_a_saved_chain_is_noted_by_its_attempt_alone(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    jobs.claim(id, "w1", 10)
    assert jobs.get(id).saved_attempt is None
    jobs.note_saved(id, 1)
    jobs.release(id, 1)
    again = jobs.claim(id, "w2", 10)
    assert again is not None
    assert (again.attempt, again.saved_attempt) == (2, 1)
    with pytest.raises(Exception, match="attempt 1 does not hold"):
        jobs.note_saved(id, 1)


def test_what_is_finished_goes_after_its_time(client: redis.Redis, new_job: NewJob) -> None:
    jobs = SubmittingStore(client, JobRecord, keep_seconds=0.4)
    body = Generate(model="toy")
    done = jobs.submit(new_job(), owner="ann", idempotency=Idempotency("k", body))[0].id
    waits = jobs.submit(new_job(), owner="ann")[0].id
    cancelled = jobs.cancel(done)
    assert cancelled.expires_at is not None
    assert cancelled.finished_at is not None
    assert (cancelled.expires_at - cancelled.finished_at).total_seconds() == pytest.approx(0.4, abs=1e-3)
    assert jobs.expired() == []
    time.sleep(0.45)
    with pytest.raises(Exception, match="there is no job"):
        jobs.get(done)
    # Not forgotten yet, but not shown any more; the rest of a page and its cursor are right.
    page, cursor = jobs.page(None, None, 1, owner="ann")
    assert [record.id for record in page] == [waits]
    assert jobs.page(None, cursor, 1, owner="ann") == ([], None)
    assert jobs.expired() == jobs.expired() == [Expired(done, "ann")]
    jobs.forget(jobs.expired())
    jobs.forget([])
    assert jobs.expired() == []
    assert not [key for key in client.scan_iter("*") if done in key]
    assert client.zcard("{coopserve:job}:all") == client.zcard("{coopserve:job}:owner:ann:all") == 1
    assert jobs.counts()[Status.CANCELLED] == 0
    assert jobs.submit(new_job(), idempotency=Idempotency("k", body))[1]  # the earlier one is gone


def test_what_is_handed_back_is_no_failed_attempt(jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    for attempt in range(1, 9):
        record = jobs.claim_next(Claim("w", 10))
        assert record is not None
        assert (record.id, record.attempt) == (id, attempt)
        jobs.release(id, attempt)
    assert jobs.get(id).status is Status.QUEUED
