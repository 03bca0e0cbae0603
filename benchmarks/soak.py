"""Minutes of mixed work, and what grows meanwhile: ``python -m benchmarks.soak``.

Clients send jobs of all tasks, upload pictures, follow streams and leave them, cancel, take webhooks and make mistakes,
while memory, open files and threads of every process are sampled, and what the database and the data directory hold.
Finished jobs are kept for half a minute here, not for a day, so that what comes and what goes is soon in balance, and
everything that still grows is a leak.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.cluster import Cluster, free_port
from benchmarks.footprint import MIB, Series, footprint, table
from benchmarks.report import Claim, machine, show_claims, show_machine, show_table, write_json
from benchmarks.visitors import Tally, visit
from coopserve.configured import settings_from
from service.contract.jobs import TASKS

PARTS = ("api", "worker", "trainer")
MEMORY_PERCENT = 5.0
"""The most that the memory of a process may grow after the warm-up."""


class Soak:
    """A whole server, the clients, and the samples.

    Args:
        cluster: with its database started.
        every: seconds between two samples.
    """

    def __init__(self, cluster: Cluster, every: float) -> None:
        self._cluster, self._every = cluster, every
        self.series, self.tally = Series(), Tally()
        self._pids = {"database": cluster.database.pid, **{part: cluster.start(part).pid for part in PARTS}}
        cluster.wait_until_ready()

    async def run(self, hook_port: int, clients: int, seconds: float) -> None:
        """Let clients visit for so long, and sample meanwhile."""
        address = str(self._cluster.http.base_url)
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(self._sample())
            await visit(address, hook_port, self._tasks(), self.tally, clients, seconds)
            sampling.cancel()

    def _tasks(self) -> list[str]:
        """The tasks of which the model is there that their example names."""
        cards = [entry["card"] for entry in self._cluster.http.get("/v1/models").json()["items"]]
        able = {card["name"]: card["tasks"] for card in cards if card}
        return [name for name, task in TASKS.items() if name in able.get(task.example["model"], ())]

    def tracebacks(self) -> int:
        """How many unexpected errors the parts have logged."""
        return sum(self._cluster.output(part).count("Traceback") for part in PARTS)

    async def _sample(self) -> None:
        begin = time.monotonic()
        while True:
            figures = await asyncio.to_thread(self._figures)
            self.series.add(time.monotonic() - begin, figures)
            await asyncio.sleep(self._every)

    def _figures(self) -> dict[str, float]:
        memory: Any = self._cluster.client.info("memory")
        # Not rglob(), which fails where a folder is deleted meanwhile.
        files = sum(len(names) for _, _, names in os.walk(self._cluster.settings.blobs_dir))
        return {
            **footprint(self._pids),
            "database: data, MiB": memory["used_memory_dataset"] / MIB,
            "database: keys": float(self._cluster.client.dbsize()),
            "data directory: files": float(files),
        }


def claims_of(soak: Soak, after: float) -> list[Claim]:
    """What must not happen, and what must not grow."""
    tally, series = soak.tally, soak.series
    broken = sum(count for status, count in tally.answers.items() if status >= 500)
    claims = [
        Claim("jobs that failed", tally.jobs["failed"], 0, at_least=False),
        Claim("answers of 5xx", broken, 0, at_least=False),
        Claim("other answers or ends than were due", tally.surprises, 0, at_least=False),
        Claim("webhooks that did not come", len(tally.hooks_due - tally.hooks), 0, at_least=False),
        Claim("unexpected errors in the logs", soak.tracebacks(), 0, at_least=False),
    ]
    for part in ("database", *PARTS):
        growth = series.trend(f"{part}: memory, MiB", after).percent
        claims.append(Claim(f"{part}: growth of memory", growth, MEMORY_PERCENT, at_least=False, unit=" %"))
        handles = series.trend(f"{part}: open files", after).growth
        claims.append(Claim(f"{part}: growth of open files", handles, 0, at_least=False))
    return claims


@click.command(context_settings={"show_default": True})
@click.option("--minutes", default=10.0, type=click.FloatRange(min=0, min_open=True), help="Time after the warm-up.")
@click.option("--warmup-minutes", default=1.0, type=click.FloatRange(0), help="Time before anything is compared.")
@click.option("--clients", default=6, type=click.IntRange(1), help="Clients at a time.")
@click.option("--every", default=3.0, type=click.FloatRange(0.05), help="Seconds between two samples.")
@click.option("--keep-minutes", default=0.5, type=click.FloatRange(0.01), help="How long finished jobs are kept.")
@click.option("--threads", default=1, type=click.IntRange(1), help="CPU threads of torch of the worker.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    minutes: float,
    warmup_minutes: float,
    clients: int,
    every: float,
    keep_minutes: float,
    threads: int,
    path: Path | None,
) -> None:
    """Work for minutes, and tell what has grown."""
    torch.set_num_threads(threads)
    hook_port = free_port()
    settings = settings_from(
        torch_threads=threads,
        keep_hours=keep_minutes / 60,
        webhook_secret="whsec_c29hay1zb2FrLXNvYWstc29hay1zb2Fr",
        webhook_allow_http=True,
        webhook_allow_private=True,
        webhook_ports=str(hook_port),
        log_level="warning",
    )
    facts = machine(torch.device("cpu"))
    show_machine(facts)
    shared = settings.model_dump(exclude={"redis_url", "data_dir", "port"}, exclude_none=True)
    with tempfile.TemporaryDirectory(prefix="coopserve-soak-") as folder:
        cluster = Cluster(Path(folder), shared)
        try:
            cluster.start_database()
            soak = Soak(cluster, every)
            asyncio.run(soak.run(hook_port, clients, (warmup_minutes + minutes) * 60))
            claims = claims_of(soak, warmup_minutes * 60)
        finally:
            cluster.close()
    show(soak, warmup_minutes * 60)
    show_claims(claims)
    if path:
        figures = {"keep_minutes": keep_minutes, "tally": _plain(soak.tally), **asdict(soak.series)}
        write_json(path, "soak", facts, figures, claims)
    if soak.tally.notes:
        raise click.ClickException("\n".join(soak.tally.notes))


def show(soak: Soak, after: float) -> None:
    """Print what was done, and how the figures have changed."""
    tally = soak.tally
    counts = [*tally.acts.items(), *((f"jobs {status}", count) for status, count in tally.jobs.items())]
    counts += [(f"answers of {status}", count) for status, count in sorted(tally.answers.items())]
    show_table("Visits, jobs and answers", ["", "count"], [[name, str(count)] for name, count in counts])
    title = f"From {after:.0f} s to {soak.series.seconds[-1]:.0f} s"
    show_table(title, ["", "start", "end", "an hour"], table(soak.series, after))


def _plain(tally: Tally) -> dict[str, Any]:
    return {"visits": dict(tally.acts), "jobs": dict(tally.jobs), "answers": dict(tally.answers), "notes": tally.notes}


if __name__ == "__main__":
    main()
