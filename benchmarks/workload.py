"""What both benchmarks run: jobs of one shipped model, of the same lengths each time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from models.core.jobs import Job
from service.contract.cards import ModelCard
from service.contract.catalog import Catalog
from service.contract.errors import ServiceError
from service.contract.jobs import Generate
from service.settings import Settings
from workers.jobs.inputs import build
from workers.jobs.reading import Reading

MODEL = "fashion-ccoopnets"
STEP_SIZE = 0.1
"""A step costs the same whatever its size. With short ones the longest chains stay images, also of a model that was
trained with few steps, so that no job fails."""


@dataclass(frozen=True)
class Subject:
    """The model that is measured.

    Args:
        card: its card.
        folder: its checkpoint.
    """

    card: ModelCard
    folder: Path


def find_model(name: str, settings: Settings) -> Subject:
    """A shipped model, by name or name@version.

    Raises:
        click.ClickException: there is none.
    """
    catalog = Catalog((settings.checkpoints_dir,))
    try:
        card = catalog.get(name)
        return Subject(card, catalog.folder(card.ref))
    except ServiceError as error:
        raise click.ClickException(f"{error.detail} (looked in {settings.checkpoints_dir})") from None


def mixed_lengths(jobs: int, shortest: int, longest: int, seed: int = 1) -> list[int]:
    """Numbers of steps, even between the shortest and the longest (both included)."""
    generator = random.Random(seed)
    return [generator.randint(shortest, longest) for _ in range(jobs)]


def arrival_times(jobs: int, rate: float, seed: int = 1) -> list[float]:
    """Seconds at which jobs come: a Poisson process of ``rate`` jobs a second, the first job at 0."""
    generator = random.Random(seed)
    times = [0.0]
    while len(times) < jobs:
        times.append(times[-1] + generator.expovariate(rate))
    return times


def bodies(card: ModelCard, lengths: Sequence[int], n: int = 1) -> list[dict[str, Any]]:
    """One request body a length: classes in turn, another seed each."""
    common = {"model": card.ref, "n": n, "step_size": STEP_SIZE}
    labels = [{"label": k % len(card.classes)} if card.classes else {} for k in range(len(lengths))]
    return [{**common, **labels[k], "seed": k, "steps": steps} for k, steps in enumerate(lengths)]


def resolved(card: ModelCard, body: dict[str, Any]) -> Generate:
    """A body as the API would resolve it.

    Raises:
        click.ClickException: the model does not take it, e.g. so many steps.
    """
    try:
        return Generate.model_validate(body).resolve(card)[0]
    except ServiceError as error:
        raise click.ClickException(error.detail) from None


def job_of(card: ModelCard, body: dict[str, Any]) -> Job:
    """The job that a worker would make of a body; raises as :func:`resolved` does."""
    request = resolved(card, body)
    return build(request, Reading(request, {}))
