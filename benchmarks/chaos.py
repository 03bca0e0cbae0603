"""Workers are killed under load, again and again: ``python -m benchmarks.chaos``.

Two inference workers share the jobs of one database. In each round one of them gets SIGKILL while it holds jobs whose
chains it has saved, and another is started in its place. What is counted: jobs that did not succeed, jobs that were
committed twice, images that differ from those of an unbroken run, and the time from a kill to the next attempt of
each job that the dead worker held.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from benchmarks import workload
from benchmarks.cluster import Cluster, Process, wait_for
from benchmarks.report import Claim, machine, show_claims, show_machine, show_table, write_json
from coopserve.configured import settings_from
from service.contract.records import Status

WORKERS = 2
KINDS = 6
"""How many different requests there are at most; each has been answered once before the first kill."""


@dataclass
class Tally:
    """What was counted.

    Args:
        jobs: that have ended.
        lost: of these, did not succeed; with the reason.
        twice: had more than one end.
        differ: have other images than an unbroken run.
        resumed: seconds from a kill to the next attempt, for each job that the dead worker held.
    """

    jobs: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)


class Chaos:
    """The load, and the one who kills.

    Args:
        cluster: with its database started.
        bodies: the different requests.
        outstanding: how many jobs there are at a time.
    """

    def __init__(self, cluster: Cluster, bodies: list[dict[str, Any]], outstanding: int) -> None:
        self.cluster, self.tally = cluster, Tally()
        self._bodies, self._outstanding = bodies, outstanding
        self._kinds: Iterator[int] = cycle(range(len(bodies)))
        self._jobs: dict[str, int] = {}
        cluster.start("api")
        self._workers: list[Process] = []
        for count in range(1, WORKERS + 1):
            self._workers.append(cluster.start("worker"))
            cluster.wait_until_ready(count)
        self._expected = [cluster.images(cluster.finished(cluster.submit(**body))) for body in bodies]

    def round(self) -> None:
        """Kill a worker in mid-chain, wait until all that it held is in work again, and replace it."""
        worker, held = wait_for(self._victim, "a worker with saved chains")
        killed = time.time()
        worker.kill()
        self._workers.remove(worker)
        self._workers.append(self.cluster.start("worker"))
        for id, attempt in held.items():
            again = wait_for(lambda id=id, attempt=attempt: self._next_event(id, attempt), f"what becomes of {id}")  # type: ignore[misc]
            if again > killed:  # else it had just been committed
                self.tally.resumed.append(again - killed)
        self.cluster.wait_until_ready(WORKERS)

    def settle(self) -> None:
        """Wait for the jobs that are left."""
        for id in list(self._jobs):
            self.cluster.finished(id)
        self._check()

    def _victim(self) -> tuple[Process, dict[str, int]] | None:
        """A worker that holds jobs whose chains it has saved, and the attempts of all jobs that it holds."""
        self._check()
        while len(self._jobs) < self._outstanding:
            kind = next(self._kinds)
            self._jobs[self.cluster.submit(**self._bodies[kind])] = kind
        records = [self.cluster.jobs.get(id) for id in self._jobs]
        running = [record for record in records if record.status is Status.RUNNING]
        holders = {record.id: self.cluster.worker_of(record.id) for record in running}
        saved = [holders[record.id] for record in running if record.saved_attempt == record.attempt]
        worker = next((worker for worker in self._workers if worker.pid in saved), None)
        if worker is None:
            return None
        return worker, {record.id: record.attempt for record in running if holders[record.id] == worker.pid}

    def _check(self) -> None:
        """Count the jobs that have ended."""
        for id, kind in list(self._jobs.items()):
            record = self.cluster.jobs.get(id)
            if not record.status.terminal:
                continue
            del self._jobs[id]
            self.tally.jobs += 1
            if record.status is not Status.SUCCEEDED:
                self.tally.lost.append(f"{id} ({record.error.kind if record.error else record.status})")
            elif self.cluster.images(record) != self._expected[kind]:
                self.tally.differ.append(id)
            if sum(Status(data["status"]).terminal for _, data in self._events(id)) != 1:
                self.tally.twice.append(id)

    def _next_event(self, id: str, attempt: int) -> float | None:
        """When the next attempt was started, or the job ended."""
        for seconds, data in self._events(id):
            if (data["attempt"] > attempt and data["status"] == "running") or Status(data["status"]).terminal:
                return seconds
        return None

    def _events(self, id: str) -> list[tuple[float, dict[str, Any]]]:
        entries: Any = self.cluster.client.xrange(self.cluster.jobs.events_key(id))
        return [
            (int(event.split("-")[0]) / 1000, json.loads(fields["data"]))
            for event, fields in entries
            if fields["event"] == "status"
        ]


def claims_of(tally: Tally) -> list[Claim]:
    """What was counted, beside what is promised."""
    return [
        Claim("jobs lost", len(tally.lost), 0, at_least=False),
        Claim("jobs committed twice", len(tally.twice), 0, at_least=False),
        Claim("jobs with other bytes than an unbroken run", len(tally.differ), 0, at_least=False),
        Claim("resumed after a kill, median", median(tally.resumed or [0.0]), 10, at_least=False, unit=" s"),
        Claim("resumed after a kill, at most", max(tally.resumed, default=0.0), 10, at_least=False, unit=" s"),
    ]


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default=workload.MODEL, help="A shipped model, by name or name@version.")
@click.option("--kills", default=50, type=click.IntRange(1))
@click.option("--jobs", default=8, type=click.IntRange(1), help="Jobs at a time.")
@click.option("--images", default=16, type=click.IntRange(1), help="Images of a job.")
@click.option("--steps", default=200, type=click.IntRange(1), help="Steps of a job.")
@click.option("--checkpoint-seconds", default=0.5, type=click.FloatRange(0.05), help="How often chains are saved.")
@click.option("--threads", default=1, type=click.IntRange(1), help="CPU threads of torch of each worker.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    name: str,
    kills: int,
    jobs: int,
    images: int,
    steps: int,
    checkpoint_seconds: float,
    threads: int,
    path: Path | None,
) -> None:
    """Kill workers under load and count what is lost, doubled or different."""
    torch.set_num_threads(threads)
    settings = settings_from(torch_threads=threads, checkpoint_seconds=checkpoint_seconds)
    card = workload.find_model(name, settings).card
    facts = machine(torch.device("cpu"))
    show_machine(facts)
    bodies = [{**body, "noise": 0.01} for body in workload.bodies(card, [steps] * min(KINDS, jobs), images)]
    named = {"checkpoints_dir", "checkpoint_seconds", "device", "max_rows", "torch_threads"}
    shared = settings.model_dump(include=named, exclude_none=True)
    with tempfile.TemporaryDirectory(prefix="coopserve-chaos-") as folder:
        cluster = Cluster(Path(folder), shared)
        try:
            cluster.start_database()
            chaos = Chaos(cluster, bodies, jobs)
            with click.progressbar(range(kills), label="killing") as rounds:
                for _ in rounds:
                    chaos.round()
            chaos.settle()
        finally:
            cluster.close()
    tally = chaos.tally
    title = f"{kills} workers killed under {jobs} jobs of {images} images and {steps} steps on {card.ref}"
    show_table(title, ["", "jobs"], [["ended", str(tally.jobs)], ["resumed", str(len(tally.resumed))]])
    claims = claims_of(tally)
    show_claims(claims)
    if path:
        figures = {"model": card.ref, "kills": kills, "jobs": tally.jobs, "resumed_seconds": tally.resumed}
        write_json(path, "chaos", facts, figures, claims)
    if tally.lost or tally.twice or tally.differ:
        raise click.ClickException(f"lost: {tally.lost}; twice: {tally.twice}; differ: {tally.differ}")


if __name__ == "__main__":
    main()
