"""Every task of every system in the zoo, from a client's words to files: the contract and the models agree."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.core.loop import run
from models.systems.base import Model
from service.contract.catalog import ImageShape, ModelCard
from service.contract.jobs import TASKS, JobRecord, JobRequest, Output, Role
from service.pictures.blobs import Blobs
from service.pictures.decoding import PictureLimits, read
from service.pictures.places import job_input
from tests.hostile.corpus import encoded, noise
from tests.models.zoo import ZOO, tiny_model
from workers.jobs.inputs import prepare
from workers.jobs.outputs import store_outputs

model_of = cache(tiny_model)


@cache
def card_of(name: str) -> ModelCard:
    head = {"name": name, "version": 1, "title": "t", "description": "d", "license": "MIT"}
    return ModelCard.model_validate({**head, **ZOO[name].card()})


def abilities() -> Iterator[tuple[str, str]]:
    for name in ZOO:
        for task in card_of(name).tasks:
            yield name, task


def request_for(task: str, card: ModelCard) -> dict[str, Any]:
    """The least that a client must say; pictures are named, not there yet."""
    if task == "interpolate":
        ends = {"images": ["x", "y"]} if card.condition else {"labels": card.classes[:2]}  # type: ignore[index]
        return {**ends, "n": 3, "animate": True}
    body: dict[str, Any] = {"image": "x"} if TASKS[task].pictures else {}
    if task == "score":
        body |= {"label": 0} if card.classes else {"condition": "x"} if card.condition else {}
    if task == "translate" and card.classes:
        body |= {"label": 1}
    if "animate" in TASKS[task].model_fields:
        body |= {"animate": True}
    return body | ({"mask": "x"} if TASKS[task].model_construct().masked(card) else {})


def fitting(card: ModelCard, role: Role) -> Image.Image:
    """A picture of the very shape that the model takes."""
    shape: ImageShape = card.image if role is not Role.CONDITION or card.condition is None else card.condition
    mode = "L" if role is Role.MASK or shape.channels == 1 else "RGB"
    return noise(shape.width, shape.height, mode)


def outputs_of(model: Model, request: JobRequest, card: ModelCard, blobs: Blobs) -> list[Output]:
    for given in request.given_pictures():
        png = read(encoded(fitting(card, given.role), "PNG"), PictureLimits(2**22, 2**22)).picture.png
        blobs.put(job_input("job_1", given.name).key, png)
    prepared = prepare("job_1", request, card, blobs)
    return store_outputs("job_1", run(model.tasks[request.task](prepared.job)), prepared, blobs)


@pytest.mark.parametrize(("name", "task"), list(abilities()))
def test_a_task_runs_from_the_request_to_the_files(name: str, task: str, tmp_path: Path) -> None:
    card, blobs = card_of(name), Blobs(tmp_path)
    body = {"model": name, "seed": 3, **request_for(task, card)}
    quick = {"latent_steps": 5} if "latent_steps" in TASKS[task].model_fields else {}
    request, _ = TASKS[task].model_validate(body | quick).resolve(card)
    assert JobRecord.new(request, []).request() == request
    assert request.cost(card) > 0
    outputs = outputs_of(model_of(name), request, card, blobs)
    assert len(outputs) == request.rows
    for k, output in enumerate(outputs):
        if task == "score":
            assert (output.url, blobs.exists(f"jobs/job_1/{k}.png")) == (None, False)
        else:
            picture = Image.open(io.BytesIO(blobs.get(f"jobs/job_1/{k}.png")))
            assert picture.size == (output.width, output.height) == (card.image.width, card.image.height)
        assert output.energy is not None
    assert ("animation" in outputs[0].extras) == ("animate" in TASKS[task].model_fields)


@pytest.mark.parametrize(("name", "task"), [(n, t) for n, t in abilities() if t == "inpaint"])
def test_shown_pixels_come_back_bit_for_bit(name: str, task: str, tmp_path: Path) -> None:
    card, blobs = card_of(name), Blobs(tmp_path)
    request, _ = TASKS[task].model_validate({"model": name, "seed": 3, **request_for(task, card)}).resolve(card)
    outputs_of(model_of(name), request, card, blobs)
    given = np.asarray(fitting(card, Role.IMAGE))
    shown = np.asarray(fitting(card, Role.MASK)) < 128
    found = np.asarray(Image.open(io.BytesIO(blobs.get("jobs/job_1/0.png"))))
    assert (found[shown] == given[shown]).all()
    assert (found[~shown] != given[~shown]).any()


def test_the_contract_and_the_zoo_have_the_same_tasks() -> None:
    assert {task for _, task in abilities()} == TASKS.keys()
