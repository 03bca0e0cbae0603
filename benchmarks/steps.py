"""How many refinement steps the chains of a model bear: the bound ``max_steps`` that its card states.

    python -m benchmarks.steps NAME --data SET [--root FOLDER] [--write]

A model is trained with few steps. Far beyond them its chains leave the range of images sooner or later. Chains for
held-out images are run with more and more steps, at the trained step size and the default noise, and the card is given
four fifths of the most that all of them bore, or the limit of all models if that holds.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoints import load_model, write_card
from models.core.loop import RowsError, run_together
from models.core.model import LoadedModel
from models.core.rows import MAX_STEPS
from models.data.catalog import read
from models.data.holes import holes
from models.data.images import ImageData, to_float
from models.data.kinds import Data
from models.data.unpaired import UnpairedData
from models.evaluation.jobs import defaults_for, job_of
from models.systems.registry import VARIANTS, variant_of
from service.contract.catalog import Catalog
from service.settings import Settings

MARGIN = 0.8
GRAIN = 5
EACH = 12
"""Held-out images, and images of each class."""

Fields = Sequence[Mapping[str, Any]]


def _generate(model: LoadedModel, data: Data) -> Fields:
    return [{"n": EACH, "label": {name: 1.0}} for name in model.card["classes"] or ()] or [{"n": 4 * EACH}]


def _translate(model: LoadedModel, data: Data) -> Fields:
    if isinstance(data, UnpairedData):
        first, second = model.card["classes"]
        domains = {second: data.source, first: data.target}
        return [{"image": image, "label": {to: 1.0}} for to, images in domains.items() for image in _some(images)]
    assert isinstance(data, ImageData)
    assert data.conditions is not None
    return [{"image": image} for image in to_float(data.conditions[:EACH])]


def _inpaint(model: LoadedModel, data: Data) -> Fields:
    images = _some(data)
    masks = holes(len(images), images.shape[-1], 11)
    return [{"image": image, "mask": mask} for image, mask in zip(images, masks, strict=True)]


def _denoise(model: LoadedModel, data: Data) -> Fields:
    images = _some(data)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return [{"image": image} for image in images + 0.2 * noise]


def _some(data: Data) -> Tensor:
    return to_float(data.images[:EACH])


MEASURED: Mapping[str, Callable[[LoadedModel, Data], Fields]] = {
    "generate": _generate,
    "translate": _translate,
    "inpaint": _inpaint,
    "denoise": _denoise,
}
"""The tasks that are measured; the others of a model refine by the same chain."""


def holds(model: LoadedModel, task: str, fields: Fields, steps: int) -> bool:
    """Whether all chains of some jobs stay within the range of images for so many steps."""
    defaults = {**defaults_for(model, task), "n": 1, "refine": True, "steps": steps}
    jobs = [job_of(task, {**defaults, "seed": seed}, **own) for seed, own in enumerate(fields)]
    try:
        for _, alike in groupby(jobs, key=lambda job: getattr(job, "label", None)):  # of one energy
            run_together([model.start(task, job) for job in alike])
    except RowsError:
        return False
    return True


def most_steps(holds: Callable[[int], bool], trained: int) -> int:
    """The bound: the limit of all models if it holds, else four fifths of the most that holds, found by halving."""
    if holds(MAX_STEPS):
        return MAX_STEPS
    good, bad = trained, MAX_STEPS
    while bad - good > GRAIN:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return max(trained, int(MARGIN * good) // GRAIN * GRAIN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", required=True, help="the set whose held-out images are refined")
    parser.add_argument("--root", type=Path, default=Settings().datasets_dir, help="the folder of data sets")
    parser.add_argument("--write", action="store_true", help="write the bound to the card")
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    folder = Catalog(Settings().model_dirs).folder(given.name)
    model = load_model(folder, torch.device("cpu"))
    shape = model.card["image"]
    kind = VARIANTS[variant_of(model.card)].data
    data = read(kind, given.data, "valid", given.root, image_size=shape["height"], channels=shape["channels"])
    card = copy.deepcopy(dict(model.card))
    found = []
    for task in (task for task in MEASURED if task in card["tasks"]):
        fields = MEASURED[task](model, data)
        trained = card["tasks"][task]["limits"]["trained_steps"]
        found.append(most_steps(lambda n, task=task, fields=fields: holds(model, task, fields, n), trained))  # type: ignore[misc]
        print(f"{given.name} {task}: {len(fields)} jobs bear {found[-1]} steps", flush=True)
    for ability in card["tasks"].values():
        ability["limits"]["max_steps"] = min(found)
    if given.write:
        write_card(folder, card)


if __name__ == "__main__":
    main()
