"""Continuous batching against its alternatives, in one process: ``python -m benchmarks.engine``.

The same jobs of mixed lengths go through one model four times: one after the other, in static batches that run to their
longest job, through the engine of the inference worker, and, as the bound, as the bare loop of a batch that is always
full. The engine may advance several batches at a time; the others then use as many threads as all of these together.
Repetitions are interleaved and each ratio is taken within its repetition, so a machine that gets slower or faster
on the way does not tilt them; their medians are reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import click

from benchmarks import workload
from benchmarks.loops import BareLoop, on_threads, run_static, synchronize
from benchmarks.place import prepare
from benchmarks.report import Claim, show_claims, show_table, write_json
from benchmarks.serving import serving
from models.core.jobs import Job
from models.core.loop import Task, run
from models.core.model import LoadedModel
from models.core.output import Output
from workers.device import capacity
from workers.engine.engine import Engine


@dataclass(frozen=True)
class Contest:
    """Jobs, and the four ways to run them.

    Args:
        model: what they run on.
        engine: the running engine, which knows the model.
        jobs: of ``generate``, one image each.
        threads: CPU threads of all batches of the engine together.
    """

    model: LoadedModel
    engine: Engine
    jobs: Sequence[Job]
    threads: int

    def serial(self) -> None:
        """One job at a time."""
        for job in self.jobs:
            run(self._task(job), device=self.engine.device)

    def static(self) -> None:
        """Batches in order of arrival, each as long as its longest job."""
        size = self.engine.max_rows
        for start in range(0, len(self.jobs), size):
            run_static([self._task(job) for job in self.jobs[start : start + size]], self.engine.device)

    def continuous(self) -> None:
        """All jobs handed to the engine at once, as a worker's threads do."""
        tickets = [self.engine.submit(self._task(job)) for job in self.jobs]
        for ticket in tickets:
            ticket.result()

    def ideal(self, bare: BareLoop) -> None:
        """As many steps as fit the same work if the batch were always full; nothing is proposed or scored."""
        bare.advance(round(sum(job.steps for job in self.jobs) / bare.size))

    def bare_loop(self) -> BareLoop:
        """The refinement of a full batch, filled with the first jobs again if there are fewer."""
        size = self.engine.max_rows
        return BareLoop([self._task(self.jobs[k % len(self.jobs)]) for k in range(size)], self.engine.device)

    def _task(self, job: Job) -> Task[Output]:
        return self.model.start("generate", job)


def measure(contest: Contest, repetitions: int, label: str = "measuring") -> dict[str, list[float]]:
    """Seconds of each way, one entry a repetition; every repetition begins with another way."""
    bare = contest.bare_loop()
    ways: dict[str, Callable[[], None]] = {
        "serial": contest.serial,
        "static": contest.static,
        "continuous": contest.continuous,
        "ideal": lambda: contest.ideal(bare),
    }
    names, seconds = list(ways), {name: [0.0] * repetitions for name in ways}
    with click.progressbar(length=repetitions * len(ways), label=label) as bar:
        for repetition in range(repetitions):
            turn = repetition % len(names)
            for name in names[turn:] + names[:turn]:
                with on_threads(contest.threads):
                    started = time.perf_counter()
                    ways[name]()
                    synchronize(contest.engine.device)
                    seconds[name][repetition] = time.perf_counter() - started
                bar.update(1)
    return seconds


def claims_of(seconds: dict[str, list[float]]) -> list[Claim]:
    """The ratios of the ways, as medians over the repetitions."""

    def ratio(above: str, below: str) -> float:
        return median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))

    return [
        Claim("speed: continuous / ideal", ratio("ideal", "continuous"), 0.90),
        Claim("time: static / continuous", ratio("static", "continuous"), 1.4, unit="x"),
        Claim("time: serial / continuous", ratio("serial", "continuous"), 2.5, unit="x"),
    ]


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default=workload.MODEL, help="A shipped model, by name or name@version.")
@click.option("--jobs", default=128, type=click.IntRange(1))
@click.option("--shortest", default=10, type=click.IntRange(1), help="Steps of the shortest job.")
@click.option("--longest", default=200, type=click.IntRange(1), help="Steps of the longest job.")
@click.option("--repetitions", default=4, type=click.IntRange(1))
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--device", help="auto, cpu, cuda or cuda:N. [default: COOPSERVE_DEVICE, or auto]")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    name: str,
    jobs: int,
    shortest: int,
    longest: int,
    repetitions: int,
    threads: int | None,
    device: str | None,
    path: Path | None,
) -> None:
    """Compare continuous batching with serial runs, static batches and the ideal loop, in one process."""
    place = prepare(threads, device)
    card = workload.find_model(name, place.settings).card
    lengths = workload.mixed_lengths(jobs, shortest, max(shortest, longest))
    with serving(place.settings, card.ref, place.device) as (model, engine):
        requests = [workload.job_of(card, body) for body in workload.bodies(card, lengths)]
        short = [replace(job, steps=3) for job in requests[: engine.max_rows]]
        Contest(model, engine, short, place.threads).continuous()  # its threads begin with their own share
        measure(Contest(model, engine, short, place.threads), 1, "warming up")
        seconds = measure(Contest(model, engine, requests, place.threads), repetitions)
    rows = capacity(place.settings).rows
    title = f"{jobs} jobs of {shortest} to {longest} steps on {card.ref}, batches of {rows}"
    table = [[way, f"{median(s):.2f}", f"{jobs / median(s):.1f}"] for way, s in seconds.items()]
    show_table(title, ["", "seconds", "jobs/s"], table)
    claims = claims_of(seconds)
    show_claims(claims)
    if path:
        figures = {"model": card.ref, "lengths": lengths, "max_rows": rows, "seconds": seconds}
        write_json(path, "engine", place.facts, figures, claims)


if __name__ == "__main__":
    main()
