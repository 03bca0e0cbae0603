"""Many records, two owners and two workers under random hands: the store does what its model in plain Python does."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import hypothesis
import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from service.contract.errors import NotFoundError, ServiceError, StaleAttemptError
from service.contract.jobs import Generate, JobRecord
from service.contract.records import TRANSITIONS, Failure, Status
from service.store.connection import connect
from service.store.types import Claim, Idempotency, QueueLimits
from tests.service.beats import heartbeat
from tests.service.queue_model import Job, QueueModel
from tests.service.submitting import SubmittingStore

LONG, SHORT = 60.0, 0.002
SHARES = st.sampled_from([None, 1, 2])
MAX_QUEUED, MAX_ACTIVE = 4, 3
OWNERS, WORKERS, QUEUES = ("ann", "bob"), ("first", "second"), ("toy@1", "toy@2")
BODIES = [Generate(model="toy@1", seed=seed, n=1, steps=1, step_size=1.0, noise=0.0, refine=True) for seed in (0, 1)]
ENDS = [status for status in Status if status.terminal]
FAILURE = Failure(kind="diverged", detail="numbers grew without bound")
REFUSALS = ("idempotency-conflict", "queue-full", "too-many-jobs")
T = TypeVar("T")
Held = tuple[str, int]
"""A job and the attempt by which a worker has got it; it may have lost it since."""


def pass_time(*short: bool) -> None:
    """Let a time that was short pass."""
    if any(short):
        time.sleep(SHORT * 5)  # the clock of a busy database may be a little late


def machine(client: redis.Redis) -> type[RuleBasedStateMachine]:
    stores = {kept: SubmittingStore(client, JobRecord, "machine", LONG if kept else SHORT) for kept in (True, False)}
    store = stores[True]

    class Queue(RuleBasedStateMachine):
        jobs: Bundle[str] = Bundle("jobs")
        held: Bundle[Held] = Bundle("held")

        def __init__(self) -> None:
            super().__init__()
            client.flushdb()
            self.model = QueueModel(MAX_QUEUED, MAX_ACTIVE)
            self.gone: set[str] = set()  # records whose time is over, when the last rule had been applied

        def known(self, id: str) -> Job | None:
            """The model's job, if the store still knows it."""
            job = self.model.jobs.get(id)
            return None if job is None or job.gone else job

        def got(self, record: JobRecord | None, expected: Job | None, short: bool) -> Any:
            """A worker asked for a job, on a lease that may run out at once."""
            assert (record and (record.id, record.attempt, record.saved_attempt)) == (
                expected and (expected.id, expected.attempt, expected.saved)
            )
            pass_time(short)
            if expected is None:
                return multiple()
            expected.lapsed = short
            return (expected.id, expected.attempt)

        def write(self, held: Held, write: Callable[[], T]) -> tuple[Job, T] | None:
            """The job and what a write gave, if the attempt still holds it; a write of another must be refused."""
            job = self.known(held[0])
            if job is None or not self.model.holds(*held):
                with pytest.raises(StaleAttemptError):
                    write()
                return None
            return job, write()

        # ---- clients ---------------------------------------------------------------------------------------------

        @rule(
            target=jobs,
            owner=st.sampled_from(OWNERS),
            queue=st.sampled_from(QUEUES),
            priority=st.sampled_from([1, 5, 9]),
            patient=st.integers(0, 3).map(bool),
            kept=st.booleans(),
            key=st.none() | st.sampled_from("kl"),
            body=st.integers(0, 1),
        )
        def submit(
            self, owner: str, queue: str, priority: int, patient: bool, kept: bool, key: str | None, body: int
        ) -> MultipleResults[str] | str:
            record = JobRecord.new(BODIES[body], [])
            expected = self.model.submit(Job(record.id, owner, queue, priority, patient, kept), key, body)
            submit = partial(
                stores[kept].submit,
                record,
                owner=owner,
                queue=queue,
                priority=priority,
                max_queue_seconds=None if patient else SHORT,
                idempotency=Idempotency(key, BODIES[body], owner) if key else None,
                limits=QueueLimits(MAX_QUEUED, MAX_ACTIVE),
            )
            if expected in REFUSALS:
                with pytest.raises(ServiceError) as refused:
                    submit()
                assert refused.value.kind == expected
                return multiple()
            stored, created = submit()
            pass_time(not patient)
            assert (stored.id, created) == ((record.id, True) if expected == "created" else (expected, False))
            return stored.id if created else multiple()

        @rule(id=jobs)
        def cancel(self, id: str) -> None:
            if (job := self.known(id)) is None:
                with pytest.raises(NotFoundError):
                    store.cancel(id)
                return
            self.model.cancel(id)
            assert store.cancel(id).status is job.status

        # ---- workers ---------------------------------------------------------------------------------------------

        @rule(target=held, id=jobs, worker=st.sampled_from(WORKERS), short=st.booleans())
        def claim(self, id: str, worker: str, short: bool) -> Any:
            expected = self.model.claim(id, worker) if self.known(id) else None
            return self.got(store.claim(id, worker, SHORT if short else LONG), expected, short)

        @rule(target=held, worker=st.sampled_from(WORKERS), share=SHARES, short=st.booleans())
        def claim_next(self, worker: str, share: int | None, short: bool) -> Any:
            assert {queued.id for queued in store.waiting(100, worker, share)} == {
                job.id for job in self.model.may_have(worker, share)
            }
            expected = self.model.claim_next(worker, share)
            return self.got(store.claim_next(Claim(worker, SHORT if short else LONG, share)), expected, short)

        @rule(held=held, short=st.booleans())
        def heartbeat(self, held: Held, short: bool) -> None:
            if written := self.write(held, lambda: heartbeat(store, *held, SHORT if short else LONG)):
                job, asked_to_stop = written
                assert asked_to_stop == job.asked_to_stop
                pass_time(short)
                job.lapsed = short

        @rule(held=held, position=st.integers(0, 3))
        def save(self, held: Held, position: int) -> None:
            if self.write(held, lambda: store.note_saved(*held, position)):
                self.model.save(*held, position)

        @rule(held=held)
        def hand_back(self, held: Held) -> None:
            if written := self.write(held, lambda: store.release(*held)):
                written[0].move(Status.QUEUED)

        @rule(held=held, status=st.sampled_from(ENDS))
        def finish(self, held: Held, status: Status) -> None:
            fields: dict[str, Any] = {"error": FAILURE} if status is Status.FAILED else {}
            if written := self.write(held, lambda: store.finish(*held, status, **fields)):
                job, _ = written
                job.move(status, FAILURE.kind if fields else None)

        @rule(target=held, ended=held, worker=st.sampled_from(WORKERS), share=SHARES, short=st.booleans())
        def finish_and_claim_next(self, ended: Held, worker: str, share: int | None, short: bool) -> Any:
            claim = Claim(worker, SHORT if short else LONG, share)
            written = self.write(ended, lambda: store.finish(*ended, Status.SUCCEEDED, claim))
            if written is None:
                return multiple()
            job, following = written
            job.move(Status.SUCCEEDED)
            return self.got(following, self.model.claim_next(worker, share), short)

        # ---- sweeps ----------------------------------------------------------------------------------------------

        @rule()
        def requeue_expired(self) -> None:
            assert {record.id for record in store.requeue_expired()} == self.model.sweep()

        @rule(id=jobs, worker=st.sampled_from(WORKERS), times=st.integers(1, JobRecord.max_lost))
        def lose_it_again_and_again(self, id: str, worker: str, times: int) -> None:
            for _ in range(times):
                self.claim(id, worker, True)
                self.requeue_expired()

        @rule()
        def fail_late(self) -> None:
            assert store.fail_late() == self.model.fail_late()

        @rule()
        def forget(self) -> None:
            expired = store.expired()
            store.forget(expired)
            assert {record.id for record in expired} == self.model.forget()

        # ---- what is always true ---------------------------------------------------------------------------------

        @invariant()
        def agrees(self) -> None:
            gone = {job.id for job in self.model.jobs.values() if job.gone}
            pass_time(gone != self.gone)
            self.gone = gone
            self.records_are_those_of_the_model()
            self.lists_and_counts_are_those_of_the_model()

        def records_are_those_of_the_model(self) -> None:
            for position, job in enumerate(self.model.queue()):
                assert store.get(job.id).queue_position == position
            for job in self.model.jobs.values():
                if job.gone:
                    with pytest.raises(NotFoundError):
                        store.get(job.id)
                    continue
                record = store.get(job.id)
                error = record.error and record.error.kind
                shown = (record.status, record.attempt, record.saved_attempt, error, record.cancel_requested)
                assert shown == (job.status, job.attempt, job.saved, job.error, job.asked_to_stop)
                assert (record.expires_at is not None) == record.status.terminal

        def lists_and_counts_are_those_of_the_model(self) -> None:
            jobs = list(self.model.jobs.values())
            assert store.counts() == {status: sum(job.status is status for job in jobs) for status in Status}
            assert store.depth() == len(self.model.queue())
            assert {queued.id for queued in store.waiting(100)} == {job.id for job in self.model.queue()}
            for owner in OWNERS:
                alive = [job for job in jobs if job.owner == owner and not job.gone]
                found = {record.id for record in store.page(None, None, 100, owner)[0]}
                assert found == {job.id for job in alive}
                active = client.hget(f"{{machine:job}}:owner:{owner}:load", "active")
                assert int(active or 0) == self.model.active(owner)

        def teardown(self) -> None:
            """The events tell of all that has happened, and only legal transitions have."""
            for job in self.model.jobs.values():
                entries: Any = client.xrange(store.events_key(job.id))
                passed = [Status(json.loads(fields["data"])["status"]) for _, fields in entries]
                assert passed == ([] if job.gone else job.passed)
                for source, target in itertools.pairwise(job.passed):
                    assert target in TRANSITIONS[source] or (source is target is Status.RUNNING)

    return Queue


def test_the_store_does_what_its_model_does(redis_url: str) -> None:
    enough = hypothesis.settings(
        max_examples=20,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    with connect(redis_url) as client:
        run_state_machine_as_test(machine(client), settings=enough)
