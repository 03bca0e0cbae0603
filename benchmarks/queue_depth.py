"""What a long queue costs: ``python -m benchmarks.queue_depth``.

An API without workers takes jobs over HTTP while few and while many wait. What is measured: the time to submit one and
to cancel one at both depths, and the memory of the database and of the API for each job that waits.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from benchmarks import workload
from benchmarks.cluster import Cluster, Process
from benchmarks.report import Claim, machine, show_claims, show_machine, show_table, write_json
from coopserve.configured import settings_from
from service.contract.cards import ModelCard
from service.contract.jobs import JobRecord
from service.store.connection import connect_async
from service.store.submission import Submissions


@dataclass(frozen=True)
class Depth:
    """What was measured at one depth.

    Args:
        queued: how many jobs wait.
        submit: milliseconds of each submission.
        cancel: milliseconds of each cancellation.
        database: bytes of the database.
        api: bytes of the API's process.
    """

    queued: int
    submit: list[float]
    cancel: list[float]
    database: int
    api: int


class Queue:
    """A queue that nobody empties.

    Args:
        cluster: with its database started.
        card: of the model that is asked for.
    """

    def __init__(self, cluster: Cluster, card: ModelCard) -> None:
        self._cluster, self._body = cluster, workload.bodies(card, [10])[0]
        self._params = workload.resolved(card, self._body)
        self._api: Process = cluster.start("api")
        self._waiting: list[str] = []
        self._generator = random.Random(1)
        while not self._submit_once():
            time.sleep(0.1)

    def fill(self, queued: int) -> None:
        """Queue jobs until so many wait, without HTTP."""
        records = [JobRecord.new(self._params, []) for _ in range(queued - len(self._waiting))]

        async def submit() -> None:
            async with connect_async(self._cluster.settings.broker_url) as client:
                submissions = Submissions(client, JobRecord)
                await asyncio.gather(*(submissions.submit(record, queue=record.model) for record in records))

        asyncio.run(submit())
        self._waiting += [record.id for record in records]

    def measure(self, calls: int) -> Depth:
        """Submit and cancel so many jobs; as many wait before as after."""
        queued = len(self._waiting)
        memory: Any = self._cluster.client.info("memory")
        submit = [_milliseconds(self._submit) for _ in range(calls)]
        self._generator.shuffle(self._waiting)
        cancel = [_milliseconds(self._cancel) for _ in range(calls)]
        return Depth(queued, submit, cancel, int(memory["used_memory"]), _resident_bytes(self._api.pid))

    def _submit(self) -> None:
        self._waiting.append(self._cluster.submit(**self._body))

    def _cancel(self) -> None:
        answer = self._cluster.http.post(f"/v1/jobs/{self._waiting.pop()}/cancel")
        assert answer.raise_for_status().json()["status"] == "cancelled"

    def _submit_once(self) -> bool:
        try:
            self._submit()
        except Exception:  # it has not started yet
            if self._api.poll() is not None:
                raise
            return False
        return True


def _milliseconds(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def _resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in fields if line.startswith("VmRSS"))


def claims_of(few: Depth, many: Depth) -> list[Claim]:
    """How much a long queue slows things down, and what it takes."""
    jobs = many.queued - few.queued
    return [
        Claim("submit: many / few", median(many.submit) / median(few.submit), 1.5, at_least=False, unit="x"),
        Claim("cancel: many / few", median(many.cancel) / median(few.cancel), 1.5, at_least=False, unit="x"),
        Claim("database, a waiting job", (many.database - few.database) / jobs / 1024, 8, at_least=False, unit=" KiB"),
        Claim("API, a waiting job", (many.api - few.api) / jobs / 1024, 1, at_least=False, unit=" KiB"),
    ]


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default=workload.MODEL, help="A shipped model, by name or name@version.")
@click.option("--few", default=100, type=click.IntRange(1), help="Jobs of the short queue.")
@click.option("--many", default=10_000, type=click.IntRange(2), help="Jobs of the long queue.")
@click.option("--calls", default=200, type=click.IntRange(1), help="Calls that are timed at each depth.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(name: str, few: int, many: int, calls: int, path: Path | None) -> None:
    """Compare a short queue with a long one."""
    settings = settings_from()
    card = workload.find_model(name, settings).card
    facts = machine(torch.device("cpu"))
    show_machine(facts)
    with tempfile.TemporaryDirectory(prefix="coopserve-queue-") as folder:
        cluster = Cluster(Path(folder), {"checkpoints_dir": settings.checkpoints_dir, "max_queued": many + few + calls})
        try:
            cluster.start_database()
            queue = Queue(cluster, card)
            queue.measure(calls)  # to warm up
            queue.fill(few)
            depths = [queue.measure(calls)]
            queue.fill(many)
            depths.append(queue.measure(calls))
        finally:
            cluster.close()
    rows = [
        [f"{d.queued} queued", f"{median(d.submit):.2f}", f"{median(d.cancel):.2f}", f"{d.database / 2**20:.1f}"]
        for d in depths
    ]
    show_table("A queue that nobody empties", ["", "submit ms", "cancel ms", "database MiB"], rows)
    claims = claims_of(*depths)
    show_claims(claims)
    if path:
        figures = {"model": card.ref, "depths": [vars(depth) for depth in depths]}
        write_json(path, "queue_depth", facts, figures, claims)


if __name__ == "__main__":
    main()
