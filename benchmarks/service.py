"""The whole service, through HTTP, database, queue and worker: ``python -m benchmarks.service``.

Three questions, in one run on one machine:

- *idle*: what does the service add to a job when nothing else runs?
- *busy*: with many clients, how much of the bare loop of a full batch is left?
- *arrivals*: jobs of mixed lengths that come when they come, beside LitServe with the same model: as one starts it,
  with the networks as they were trained, and with coopserve's own kernels and as many processes as it has batches.

The bare loop is measured in this process, between the loads, in two ways: as the engine runs one of its batches, and on
as many threads as all of the engine's batches together. The client is a process of its own on the same machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import click
import numpy as np
import torch

from benchmarks import servers, workload
from benchmarks.client import LoadError, Plan, Result, load
from benchmarks.loops import BareLoop, on_threads
from benchmarks.place import prepare
from benchmarks.report import Claim, show_claims, show_table, write_json
from benchmarks.serving import serving
from models.core.loop import Task, run
from models.core.model import LoadedModel
from models.core.output import Output
from service.contract.cards import ModelCard
from workers.engine.engine import Engine

IDLE_STEPS = 10
BUSY = ((100, 1, 0.80), (100, 4, 0.80), (15, 1, 0.55), (15, 4, 0.55))
"""Steps and images of a job, and the least share of the bare loop."""
RATES = (16.0, 32.0, math.inf)
"""Arrivals a second; the last: all jobs at once."""
PEERS = {"LitServe": False, "LitServe, tuned": True}
"""Whether it is given coopserve's own kernels and a process for each of its batches."""


@dataclass(frozen=True)
class Bench:
    """What the measurements share.

    Args:
        card: the model, as clients see it.
        model: the same model in this process.
        engine: a running engine in this process, which knows the model.
        batches: how many the server advances at the same time.
        longest: most steps of a job.
        clients: how many wait for an answer at a time when it is busy.
    """

    card: ModelCard
    model: LoadedModel
    engine: Engine
    batches: int
    longest: int
    clients: int

    def idle(self, address: str, jobs: int, rounds: int) -> dict[str, list[float]]:
        """One client, one short job after the other; seconds of each job, and of its compute in this process.

        ``bare`` is the task driven alone; ``engine`` the task in an idle engine, which pads a batch of one row to a
        size at which the bits agree with those of larger batches.
        """
        figures: dict[str, list[float]] = {"total": [], "queued": [], "worked": [], "engine": [], "bare": []}
        bodies = workload.bodies(self.card, [min(IDLE_STEPS, self.longest)] * jobs)
        for part in np.array_split(np.arange(jobs), rounds):
            chosen = [bodies[k] for k in part]
            timings = load(Plan(server="coopserve", address=address, bodies=chosen)).timings
            for stage in ("total", "queued", "worked"):
                figures[stage] += [getattr(timing, stage) for timing in timings]
            for body in chosen:
                figures["engine"].append(_seconds(lambda task: self.engine.submit(task).result(), self._task(body)))
                figures["bare"].append(_seconds(lambda task: run(task, device=self.engine.device), self._task(body)))
        return figures

    def _task(self, body: dict[str, Any]) -> Task[Output]:
        job = workload.job_of(self.card, body)
        return self.model.start("generate", job)

    def bare_loop(self) -> BareLoop:
        """The refinement of a full batch."""
        bodies = workload.bodies(self.card, [1] * self.engine.max_rows)
        return BareLoop([self._task(body) for body in bodies], self.engine.device)

    def busy(self, address: str, seconds: float, rounds: int) -> list[dict[str, Any]]:
        """Many clients with jobs of one kind; images a second of the service and of the bare loops, each round."""
        bare, threads = self.bare_loop(), torch.get_num_threads()
        kinds: list[dict[str, Any]] = [
            {"steps": min(steps, self.longest), "n": n, "target": target, "bare": [], "bare_all": [], "service": []}
            for steps, n, target in BUSY
        ]
        for kind in kinds * rounds:
            steps, n = kind["steps"], kind["n"]
            rate = bare.images_per_second(steps, seconds / 2)
            with on_threads(threads * self.batches):
                kind["bare_all"].append(bare.images_per_second(steps, seconds / 2))
            # Whole turns of all clients, about as many as the bare loop would do in the time.
            turns = max(1, round(seconds * rate / n / self.clients))
            bodies = workload.bodies(self.card, [steps] * (turns * self.clients), n)
            result = load(Plan(server="coopserve", address=address, bodies=bodies, clients=self.clients))
            kind["bare"].append(rate)
            kind["service"].append(len(bodies) * n / result.seconds)
        return kinds

    def arrivals(self, server: Literal["coopserve", "litserve"], address: str, jobs: int) -> list[dict[str, Any]]:
        """Jobs of mixed lengths at each rate, until the image is at the client; the same ones for both servers."""
        shortest = min(10, self.longest)
        bodies = workload.bodies(self.card, workload.mixed_lengths(jobs, shortest, self.longest))
        warm_up = bodies[: 2 * self.clients]
        load(Plan(server=server, address=address, bodies=warm_up, clients=self.clients))
        figures = []
        for rate in RATES:
            times = workload.arrival_times(jobs, rate) if rate < math.inf else [0.0] * jobs
            result = load(Plan(server=server, address=address, bodies=bodies, times=times, download=True))
            figures.append({"rate": rate if rate < math.inf else None, **_summary(result)})
        return figures


def _seconds(drive: Callable[[Task[Output]], Output], task: Task[Output]) -> float:
    """How long it takes until the images of a task are in the memory of the host."""
    started = time.perf_counter()
    images = drive(task).images
    assert images is not None  # the tasks of this benchmark make images
    images.cpu()
    return time.perf_counter() - started


def _summary(result: Result) -> dict[str, float]:
    totals = [timing.total for timing in result.timings]
    p50, p99 = np.percentile(totals, [50, 99]).tolist()
    return {"jobs_per_second": len(totals) / result.seconds, "p50": p50, "p99": p99}


def idle_claims(figures: dict[str, list[float]]) -> list[Claim]:
    """What the service adds to the median bare compute of the job, in milliseconds."""
    p50, p95 = np.percentile(figures["total"], [50, 95]) - median(figures["bare"])
    stages = {
        "submit to result": "total",
        "of it queued": "queued",
        "of it in work": "worked",
        "in an engine alone": "engine",
        "bare compute": "bare",
    }
    rows = [[name, *(f"{1e3 * q:.2f}" for q in np.percentile(figures[key], [50, 95]))] for name, key in stages.items()]
    show_table(f"Idle: one client, {IDLE_STEPS}-step jobs, milliseconds", ["", "p50", "p95"], rows)
    click.echo(f"overhead: p50 {1e3 * p50:.2f} ms, p95 {1e3 * p95:.2f} ms")
    return [Claim("idle overhead, p50", 1e3 * float(p50), 8.0, at_least=False, unit=" ms")]


def busy_claims(kinds: Sequence[dict[str, Any]], clients: int) -> list[Claim]:
    """The service's shares of the bare loops, as medians over the rounds."""
    claims, rows = [], []
    for kind in kinds:
        name = f"{kind['steps']} steps, n={kind['n']}"
        one, all_ = (median(s / b for s, b in zip(kind["service"], kind[k], strict=True)) for k in ("bare", "bare_all"))
        claims.append(Claim(f"share of the bare loop, {name}", one, kind["target"]))
        claims.append(Claim(f"share of it on all threads, {name}", all_, kind["target"]))
        rates = [f"{median(kind[k]):.1f}" for k in ("service", "bare", "bare_all")]
        rows.append([name, *rates, f"{one:.2f}", f"{all_:.2f}"])
    heads = ["", "service", "bare loop", "on all threads", "share", "share of all"]
    show_table(f"Busy: {clients} clients, images a second", heads, rows)
    return claims


def arrival_claims(ours: Sequence[dict[str, Any]], peers: Mapping[str, Sequence[dict[str, Any]]]) -> list[Claim]:
    """For each peer the jobs a second when all come at once, and the longest waits at the lowest rate."""
    rows = []
    for k, _ in enumerate(RATES):
        for who, figures in {"coopserve": ours, **peers}.items():
            rate = f"{figures[k]['rate']:g}/s" if figures[k]["rate"] else "all at once"
            numbers = [f"{figures[k]['jobs_per_second']:.1f}", f"{figures[k]['p50']:.2f}", f"{figures[k]['p99']:.2f}"]
            rows.append([f"{who}, {rate}", *numbers])
    show_table("Arrivals: jobs of mixed lengths", ["", "jobs/s", "p50 s", "p99 s"], rows)
    claims = []
    for peer, theirs in peers.items():
        speed = ours[-1]["jobs_per_second"] / theirs[-1]["jobs_per_second"]
        wait = ours[0]["p99"] / theirs[0]["p99"]
        claims.append(Claim(f"jobs/s at saturation, coopserve / {peer}", speed, 1.4, unit="x"))
        claims.append(Claim(f"p99 at {RATES[0]:g}/s, coopserve / {peer}", wait, 0.5, at_least=False))
    return claims


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default=workload.MODEL, help="A shipped model, by name or name@version.")
@click.option("--idle-jobs", default=200, type=click.IntRange(1), help="Jobs of the idle measurement.")
@click.option("--seconds", default=3.0, type=click.FloatRange(0, min_open=True), help="Length of a busy measurement.")
@click.option("--rounds", default=3, type=click.IntRange(1), help="Repetitions of the idle and busy measurements.")
@click.option("--clients", default=32, type=click.IntRange(1), help="Clients of the busy measurement.")
@click.option("--arrival-jobs", default=320, type=click.IntRange(1), help="Jobs at each rate of arrivals.")
@click.option("--longest", default=200, type=click.IntRange(1), help="Most steps of a job.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch, in each process. [default: its choice]")
@click.option("--device", help="auto, cpu, cuda or cuda:N. [default: COOPSERVE_DEVICE, or auto]")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    name: str,
    idle_jobs: int,
    seconds: float,
    rounds: int,
    clients: int,
    arrival_jobs: int,
    longest: int,
    threads: int | None,
    device: str | None,
    path: Path | None,
) -> None:
    """Measure the service when idle, when busy, and beside LitServe. Needs the extra `bench`."""
    place = prepare(threads, device)
    settings, subject = place.settings, workload.find_model(name, place.settings)
    figures: dict[str, Any] = {"model": subject.card.ref, "clients": clients, "arrival_jobs": arrival_jobs}
    try:
        click.echo("starting coopserve and measuring ...")
        with serving(settings, subject.card.ref, place.device) as held, servers.coopserve(settings, subject) as address:
            bench = Bench(subject.card, *held, place.batches, longest, clients)
            ours = bench.arrivals("coopserve", address, arrival_jobs)
            figures["idle"] = bench.idle(address, idle_jobs, rounds)
            figures["busy"] = bench.busy(address, seconds, rounds)
        peers = {}
        for peer, tuned in PEERS.items():
            click.echo(f"starting {peer} and measuring ...")
            with servers.litserve(settings, subject.card.ref, tuned=tuned) as address:
                peers[peer] = bench.arrivals("litserve", address, arrival_jobs)
    except (LoadError, servers.ServerError) as error:
        raise click.ClickException(str(error)) from None
    figures["arrivals"] = {"coopserve": ours, **peers}
    claims = [*idle_claims(figures["idle"]), *busy_claims(figures["busy"], clients), *arrival_claims(ours, peers)]
    show_claims(claims)
    if path:
        write_json(path, "service", place.facts, figures, claims)


if __name__ == "__main__":
    main()
