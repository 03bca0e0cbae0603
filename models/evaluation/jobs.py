"""Jobs of a loaded model without a service: what evaluations ask for, with a card's defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from models.core.jobs import JOBS, Job
from models.core.loop import run_together
from models.core.model import LoadedModel
from models.core.noise import mix
from models.core.output import Output


def defaults_of(ability: Mapping[str, Any]) -> dict[str, Any]:
    """The fields and options that a card's task has by default; older cards have ``latent_steps`` among the fields."""
    fields = dict(ability["defaults"])
    options = {name: option["default"] for name, option in ability.get("options", {}).items()}
    if (steps := fields.pop("latent_steps", None)) is not None:
        options["latent_steps"] = steps
    return {**fields, "options": options}


def defaults_for(model: LoadedModel, task: str) -> dict[str, Any]:
    """The same of a task of a model."""
    return defaults_of(model.card["tasks"][task])


def trained_steps(model: LoadedModel, task: str) -> int:
    """Refinement steps that the model was trained with."""
    steps: int = model.card["tasks"][task]["limits"]["trained_steps"]
    return steps


def job_of(task: str, defaults: Mapping[str, Any], **fields: Any) -> Job:
    """A job of a task: a card's defaults, with fields of its own."""
    return JOBS[task](**{**defaults, **fields})


def run_jobs(
    model: LoadedModel,
    task: str,
    defaults: Mapping[str, Any],
    own: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    at_once: int,
) -> list[Output]:
    """The outputs of one job each, in order; job k has a seed that follows from ``seed`` and k.

    Args:
        task: one of the model's.
        defaults: the fields that all jobs share.
        own: the fields of each job by itself.
        at_once: jobs that are driven as one batch; they must agree in steps.

    Raises:
        RowsError: a chain diverged.
    """
    jobs = [job_of(task, defaults, **fields, seed=mix(seed, k) >> 1) for k, fields in enumerate(own)]
    parts = (jobs[k : k + at_once] for k in range(0, len(jobs), at_once))
    return [output for part in parts for output in run_together([model.start(task, job) for job in part])]


def energies(output: Output) -> Tensor:
    """The energies of a task of a model that has one, on the CPU."""
    assert output.energy is not None
    return output.energy.cpu()


def pictures(output: Output) -> Tensor:
    """The images of a task that makes images, on the CPU."""
    assert output.images is not None
    return output.images.cpu()
