"""What the store of records promises, as a few lines of plain Python without Redis, leases' times or concurrency."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from service.contract.jobs import JobRecord
from service.contract.records import Status


@dataclass
class Job:
    """One record.

    Args:
        id: its id.
        owner: whose it is.
        queue: that of its model.
        priority: 9 leaves the queue first.
        patient: False: its time in the queue is over as soon as it is in it.
        kept: False: its time is over as soon as it has ended.
    """

    id: str
    owner: str
    queue: str
    priority: int
    patient: bool
    kept: bool
    status: Status = Status.QUEUED
    attempt: int = 0
    worker: str = ""
    lapsed: bool = False
    asked_to_stop: bool = False
    saved: int | None = None
    furthest: int = 0
    lost: int = 0
    error: str | None = None
    turn: int = 0
    passed: list[Status] = field(default_factory=lambda: [Status.QUEUED])

    @property
    def gone(self) -> bool:
        """It has ended, and its time is over."""
        return self.status.terminal and not self.kept

    @property
    def late(self) -> bool:
        """It waits for its first start, and longer than it was to wait."""
        return self.status is Status.QUEUED and self.attempt == 0 and not self.patient

    def move(self, to: Status, error: str | None = None) -> None:
        """Take a status."""
        self.status, self.error, self.lapsed = to, error or self.error, False
        self.passed.append(to)


class QueueModel:
    """All records.

    Args:
        max_queued: most that may wait.
        max_active: most of one owner that are not finished.
    """

    def __init__(self, max_queued: int, max_active: int) -> None:
        self._max_queued, self._max_active = max_queued, max_active
        self.jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], tuple[str, int]] = {}
        self._turn: Counter[int] = Counter()  # by priority: that of the job that was started last
        self._turns: dict[tuple[int, str], int] = {}  # the last of each owner

    def queue(self) -> list[Job]:
        """Those that wait, the next one first."""
        waiting = [job for job in self.jobs.values() if job.status is Status.QUEUED]
        return sorted(waiting, key=lambda job: (-job.priority, job.turn))  # stable: then in the order of their creation

    def may_have(self, worker: str, share: int | None) -> list[Job]:
        """Those that wait and that a worker may have, which holds at most so many of one queue."""
        running = [job for job in self.jobs.values() if job.status is Status.RUNNING and job.worker == worker]
        held = Counter(job.queue for job in running)
        return [job for job in self.queue() if share is None or held[job.queue] < share]

    def active(self, owner: str) -> int:
        """How many records of an owner are not finished."""
        return sum(job.owner == owner and not job.status.terminal for job in self.jobs.values())

    def submit(self, job: Job, key: str | None, body: int) -> str:
        """What becomes of a submission: ``created``, why it is refused, or the id of the earlier record."""
        earlier, its_body = self._keys.get((job.owner, key or ""), ("", 0))
        if key is not None and earlier and not self.jobs[earlier].gone:
            return earlier if body == its_body else "idempotency-conflict"
        if len(self.queue()) >= self._max_queued:
            return "queue-full"
        if self.active(job.owner) >= self._max_active:
            return "too-many-jobs"
        job.turn = self._next_turn(job)
        self.jobs[job.id] = job
        if key is not None:
            self._keys[job.owner, key] = (job.id, body)
        return "created"

    def holds(self, id: str, attempt: int) -> bool:
        """Whether an attempt may write."""
        job = self.jobs[id]
        return job.status is Status.RUNNING and job.attempt == attempt

    def claim(self, id: str, worker: str) -> Job | None:
        """The job, if a worker that asks for it gets it."""
        job = self.jobs[id]
        if job.status is Status.RUNNING and job.lapsed:
            self._give_up(job)
        if job.late:
            job.move(Status.FAILED, "queue-timeout")
        if job.status is not Status.QUEUED:
            return None
        job.attempt, job.worker = job.attempt + 1, worker
        self._turn[job.priority] = max(self._turn[job.priority], job.turn)
        job.move(Status.RUNNING)
        return job

    def claim_next(self, worker: str, share: int | None) -> Job | None:
        """The job that a worker gets that asks for any."""
        return next((job for first in self.may_have(worker, share) if (job := self.claim(first.id, worker))), None)

    def save(self, id: str, attempt: int, position: int) -> None:
        """The attempt has saved its work."""
        job = self.jobs[id]
        job.saved = attempt
        if position > job.furthest:
            job.furthest, job.lost = position, 0

    def cancel(self, id: str) -> None:
        """Its client wants it to stop."""
        job = self.jobs[id]
        if job.status is Status.QUEUED:
            job.move(Status.CANCELLED)
        elif job.status is Status.RUNNING and not job.asked_to_stop:
            job.asked_to_stop = True
            job.passed.append(Status.RUNNING)  # it is announced

    def sweep(self) -> set[str]:
        """Take jobs from workers that fell silent; gives those that wait again."""
        lapsed = [job for job in self.jobs.values() if job.lapsed]
        for job in lapsed:
            self._give_up(job)
        return {job.id for job in lapsed if job.status is Status.QUEUED}

    def fail_late(self) -> int:
        """Fail those that were to wait no longer; gives how many."""
        late = [job for job in self.jobs.values() if job.late]
        for job in late:
            job.move(Status.FAILED, "queue-timeout")
        return len(late)

    def forget(self) -> set[str]:
        """Drop those whose time is over; gives them."""
        gone = {id for id, job in self.jobs.items() if job.gone}
        self.jobs = {id: job for id, job in self.jobs.items() if id not in gone}
        self._keys = {name: kept for name, kept in self._keys.items() if kept[0] not in gone}
        return gone

    def _next_turn(self, job: Job) -> int:
        if not self.queue():
            self._turns = {}
        turn = max(self._turn[job.priority], self._turns.get((job.priority, job.owner), -1) + 1)
        self._turns[job.priority, job.owner] = turn
        return turn

    def _give_up(self, job: Job) -> None:
        if job.asked_to_stop:
            job.move(Status.CANCELLED)
            return
        job.lost += 1
        if job.lost >= JobRecord.max_lost:
            job.move(Status.FAILED, "worker-lost")
        else:
            job.move(Status.QUEUED)
