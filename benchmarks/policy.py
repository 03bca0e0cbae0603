"""What each constant of the engine's policy is worth: ``python -m benchmarks.policy``.

The same jobs go through one model under the policy as it is, and under policies in which one constant is off. A number
of clients have one job each at a time, so jobs arrive at any step of the others. Repetitions are interleaved and each
ratio is taken within its repetition; their medians are reported. A mechanism that is not worth 3 % anywhere goes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import click

from benchmarks import workload
from benchmarks.report import machine, show_machine, show_table, write_json
from benchmarks.serving import serving
from coopserve.configured import settings_from
from models.core.jobs import Job
from models.core.model import LoadedModel
from workers.device import engine_threads, prepare_torch
from workers.engine.engine import Engine
from workers.engine.policy import Policy

AS_IS = Policy()
POLICIES = {
    "as it is": AS_IS,
    "gather_turns = 0": replace(AS_IS, gather_turns=0),
    "least_rows = 1": replace(AS_IS, least_rows=1),
    "long_step = inf": replace(AS_IS, long_step=float("inf")),
}


def serve(model: LoadedModel, engine: Engine, jobs: Sequence[Job], clients: int) -> float:
    """The seconds in which so many clients have all jobs done, each one job at a time."""

    def one(job: Job) -> None:
        engine.submit(model.start("generate", job)).result()

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, jobs))
    return time.perf_counter() - started


@click.command(context_settings={"show_default": True})
@click.option("--model", "names", multiple=True, default=("fashion-ccoopnets", "fashion-cfebm"), help="Shipped models.")
@click.option("--clients", "crowds", multiple=True, default=(3, 16, 48), type=click.IntRange(1))
@click.option("--jobs", default=96, type=click.IntRange(1))
@click.option("--shortest", default=5, type=click.IntRange(1), help="Steps of the shortest job.")
@click.option("--longest", default=60, type=click.IntRange(1), help="Steps of the longest job.")
@click.option("--repetitions", default=5, type=click.IntRange(1))
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    names: Sequence[str],
    crowds: Sequence[int],
    jobs: int,
    shortest: int,
    longest: int,
    repetitions: int,
    path: Path | None,
) -> None:
    """Compare the engine's policy with policies in which one constant is off."""
    settings = settings_from()
    place = prepare_torch(settings, engine_threads(settings))
    facts = machine(place)
    show_machine(facts)
    figures: dict[str, dict[str, list[float]]] = {}
    for name in names:
        card = workload.find_model(name, settings).card
        lengths = workload.mixed_lengths(jobs, shortest, longest)
        requests = [workload.job_of(card, body) for body in workload.bodies(card, lengths)]
        with ExitStack() as stack:
            engines = {
                title: stack.enter_context(serving(settings, card.ref, place, policy))
                for title, policy in POLICIES.items()
            }
            for clients in crowds:
                seconds: dict[str, list[float]] = {title: [] for title in POLICIES}
                for repetition in range(repetitions + 1):  # the first one warms up
                    for title, (model, engine) in engines.items():
                        taken = serve(model, engine, requests[: clients if repetition == 0 else jobs], clients)
                        seconds[title] += [taken] if repetition else []
                figures[f"{card.ref}, {clients} clients"] = seconds
    rows = [
        [crowd, *(f"{median(b / a for a, b in zip(s['as it is'], s[title], strict=True)):.3f}" for title in POLICIES)]
        for crowd, s in figures.items()
    ]
    show_table("time of each policy / time of the policy as it is", ["", *POLICIES], rows)
    if path:
        write_json(path, "policy", facts, dict(figures), [])


if __name__ == "__main__":
    main()
