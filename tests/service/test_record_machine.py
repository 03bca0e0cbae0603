"""A record's life under random hands: whatever workers, clients and sweeps do, only legal transitions happen."""

from __future__ import annotations

import itertools
import json
import time

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from service.contract.errors import StaleAttemptError, TooManyError
from service.contract.jobs import Generate, JobRecord
from service.contract.records import TRANSITIONS, Progress, Status
from service.store.connection import connect
from service.store.types import QueueLimits
from tests.service.beats import heartbeat
from tests.service.submitting import SubmittingStore

LONG, SHORT = 60.0, 0.002
LIMITS = QueueLimits(max_active=1, max_cost=10.0)
ENDS = [status for status in Status if status.terminal]


def machine(client: redis.Redis) -> type[RuleBasedStateMachine]:
    store = SubmittingStore(client, JobRecord, namespace="machine")
    params = Generate(model="toy@1", seed=1, n=1, steps=1, step_size=1.0, noise=0.0, refine=True)

    class Life(RuleBasedStateMachine):
        @initialize()
        def submit(self) -> None:
            client.flushdb()
            self.id = store.submit(JobRecord.new(params, []), owner="ann", cost=7.0, queue="toy@1", limits=LIMITS)[0].id
            self.saved: int | None = None
            self.failed = 0  # attempts that were lost since one has saved something
            self.furthest = 0
            self.attempt = 0  # the one that holds the record, as far as this model knows
            self.held = False
            self.expired = False

        def stale(self, attempt: int) -> bool:
            return not self.held or attempt != self.attempt

        @rule(short=st.booleans())
        def claim(self, short: bool) -> None:
            before = store.get(self.id)
            claimed = store.claim(self.id, "w", SHORT if short else LONG)
            free = before.status is Status.QUEUED or (
                self.held and self.expired and not before.cancel_requested and self.failed + 1 < JobRecord.max_lost
            )
            assert (claimed is not None) == free
            self.failed += self.expired
            if claimed is not None:
                assert (claimed.attempt, claimed.saved_attempt) == (self.attempt + 1, self.saved)
                self.attempt, self.held, self.expired = claimed.attempt, True, short
                time.sleep(SHORT * 5 if short else 0)  # the clock of a busy database may be a little late
            elif self.expired:
                self.held = False

        @rule(back=st.integers(0, 2))
        def heartbeat(self, back: int) -> None:
            attempt = self.attempt - back
            progress = Progress(stage="refine", step=back, steps=5)
            if self.stale(attempt):
                with pytest.raises(StaleAttemptError):
                    heartbeat(store, self.id, attempt, LONG, progress)
            else:
                asked = heartbeat(store, self.id, attempt, LONG, progress)
                assert asked == store.get(self.id).cancel_requested
                self.expired = False

        @rule(back=st.integers(0, 2), status=st.sampled_from(ENDS))
        def finish(self, back: int, status: Status) -> None:
            attempt = self.attempt - back
            before = store.get(self.id)
            if self.stale(attempt):
                with pytest.raises(StaleAttemptError):
                    store.finish(self.id, attempt, status, warnings=["stale"])
                assert store.get(self.id) == before
            else:
                store.finish(self.id, attempt, status)
                assert store.get(self.id).status is status
                self.held = self.expired = False

        @rule(back=st.integers(0, 2), position=st.none() | st.integers(0, 3))
        def save(self, back: int, position: int | None) -> None:
            attempt = self.attempt - back
            if self.stale(attempt):
                with pytest.raises(StaleAttemptError):
                    store.note_saved(self.id, attempt, position)
            else:
                store.note_saved(self.id, attempt, position)
                self.saved = attempt
                if position is None or position > self.furthest:
                    self.failed = 0
                self.furthest = max(self.furthest, position or 0)
            assert store.get(self.id).saved_attempt == self.saved

        @rule(back=st.integers(0, 2))
        def hand_back(self, back: int) -> None:
            attempt = self.attempt - back
            if self.stale(attempt):
                with pytest.raises(StaleAttemptError):
                    store.release(self.id, attempt)
            else:
                store.release(self.id, attempt)
                assert store.get(self.id).status is Status.QUEUED
                self.held = self.expired = False

        @rule()
        def submit_another(self) -> None:
            """The owner may have one job at a time."""
            another = JobRecord.new(params, [])
            if store.get(self.id).status.terminal:
                store.submit(another, owner="ann", limits=LIMITS)
                store.cancel(another.id)
            else:
                with pytest.raises(TooManyError):
                    store.submit(another, owner="ann", limits=LIMITS)

        @rule()
        def cancel(self) -> None:
            before = store.get(self.id).status
            after = store.cancel(self.id)
            expected = Status.CANCELLED if before is Status.QUEUED else before
            assert after.status is expected

        @rule()
        def sweep(self) -> None:
            queued = store.requeue_expired()
            if self.expired:
                self.failed += 1
                self.held = self.expired = False
                assert bool(queued) == (store.get(self.id).status is Status.QUEUED)
            else:
                assert queued == []

        @invariant()
        def the_record_agrees_with_its_indexes_and_events(self) -> None:
            record = store.get(self.id)
            assert self.held == (record.status is Status.RUNNING)
            assert (record.queue_position is not None) == (record.status is Status.QUEUED)
            assert (record.finished_at is not None) == record.status.terminal
            events = [fields["data"] for _, fields in client.xrange(store.events_key(self.id), "-", "+")]
            passed = [Status(data["status"]) for text in events if "status" in (data := json.loads(text))]
            assert passed[-1] is record.status
            for source, target in itertools.pairwise(passed):
                assert target in TRANSITIONS[source] or (source is target is Status.RUNNING)  # asked to cancel
            for status in Status:
                for owner in (None, "ann"):
                    inside = self.id in {item.id for item in store.page(status, None, 100, owner)[0]}
                    assert inside == (status is record.status)
            assert (self.id in {item.id for item in store.waiting(100)}) == (record.status is Status.QUEUED)
            assert (record.expires_at is not None) == record.status.terminal

    return Life


def test_only_legal_transitions_happen(redis_url: str) -> None:
    enough = settings(
        max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    with connect(redis_url) as client:
        run_state_machine_as_test(machine(client), settings=enough)
