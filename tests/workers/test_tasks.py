"""Every task of every system in the zoo, from a client's words to files: the contract and the models agree."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.core.loop import run
from models.core.model import LoadedModel
from service.contract.cards import ModelCard
from service.contract.errors import UnprocessableError
from service.contract.jobs import TASKS, JobRecord, JobRequest, Output, Role, shape_of
from service.pictures.blobs import Blobs
from service.pictures.fitting import fit
from tests.hostile.corpus import noise
from tests.models.zoo import FEW, ZOO, surface, tiny_model
from workers.jobs.inputs import Prepared, build
from workers.jobs.outputs import store_outputs
from workers.jobs.reading import Reading
from workers.jobs.tally import Tally

model_of = cache(tiny_model)
WITHOUT = {"cgml"}
"""Systems whose results have no energy, as those of a GAN have none."""


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
        known = {"labels": card.classes[:2]} if card.classes else {"seeds": [1, 2]}
        ends = {"images": ["x", "y"]} if card.condition else known
        return {**ends, "n": 3, "animate": True}
    if card.surface is not None:
        return {"surface": [None if value != value else value for value in surface().tolist()]}
    body: dict[str, Any] = {"image": "x"} if TASKS[task].pictures else {}
    if task == "score":
        body |= {"label": 0} if card.classes else {"condition": "x"} if card.condition else {}
    if task == "translate" and card.classes:
        body |= {"label": 1}
    if "animate" in TASKS[task].model_fields:
        body |= {"animate": True}
    return body | ({"mask": "x"} if TASKS[task].model_construct().masked(card) else {})


def few(card: ModelCard, task: str) -> dict[str, Any]:
    """Options with which a job is done in a moment."""
    return {name: value for name, value in FEW.items() if name in card.tasks[task].options}


def fitting(request: JobRequest, card: ModelCard, role: Role) -> Image.Image:
    """A picture of the very shape that the model takes."""
    shape = shape_of(request, role, card)
    mode = "L" if role is Role.MASK or shape.channels == 1 else "RGB"
    return noise(shape.width, shape.height, mode)


def outputs_of(model: LoadedModel, request: JobRequest, card: ModelCard, blobs: Blobs) -> list[Output]:
    given = {sent.name: fitting(request, card, sent.role) for sent in request.given_pictures()}
    fitted = fit(request, card, given, 10**6)
    reading = Reading(request, fitted.pictures, surface() if card.surface else None)
    prepared = Prepared(build(request, reading), getattr(request, "animate", False))
    return store_outputs("job_1", request, run(model.start(request.task, prepared.job)), prepared, Tally(blobs))


@pytest.mark.parametrize(("name", "task"), list(abilities()))
def test_a_task_runs_from_the_request_to_the_files(name: str, task: str, tmp_path: Path) -> None:
    card, blobs, system = card_of(name), Blobs(tmp_path), ZOO[name].system
    body = {"model": name, "seed": 3, **request_for(task, card)}
    request, _ = TASKS[task].model_validate({**body, "options": few(card, task)}).resolve(card)
    assert JobRecord.new(request, []).request() == request
    assert request.cost(card) > 0
    outputs = outputs_of(model_of(name), request, card, blobs)
    assert len(outputs) == request.rows
    for k, output in enumerate(outputs):
        if task in ("score", "embed"):
            assert (output.url, blobs.exists(f"jobs/job_1/{k}.png")) == (None, False)
        else:
            picture = Image.open(io.BytesIO(blobs.get(f"jobs/job_1/{k}.png")))
            assert picture.size == (output.width, output.height) == (card.image.width, card.image.height)
        assert (output.energy is None) == (system in WITHOUT or (system, task) == ("aishmc", "generate"))
    assert ("animation" in outputs[0].extras) == ("animate" in TASKS[task].model_fields)


@pytest.mark.parametrize(("name", "task"), [(n, t) for n, t in abilities() if t == "inpaint"])
def test_shown_pixels_come_back_bit_for_bit(name: str, task: str, tmp_path: Path) -> None:
    card, blobs = card_of(name), Blobs(tmp_path)
    body = {"model": name, "seed": 3, **request_for(task, card), "options": few(card, task)}
    request, _ = TASKS[task].model_validate(body).resolve(card)
    outputs_of(model_of(name), request, card, blobs)
    given = np.asarray(fitting(request, card, Role.IMAGE))
    shown = np.asarray(fitting(request, card, Role.MASK)) < 128
    found = np.asarray(Image.open(io.BytesIO(blobs.get("jobs/job_1/0.png"))))
    assert (found[shown] == given[shown]).all()
    assert (found[~shown] != given[~shown]).any()


DECLARED = [(name, task, option) for name, task in abilities() for option in card_of(name).tasks[task].options]


@pytest.mark.parametrize(("name", "task", "option"), DECLARED)
@given(data=st.data())
def test_an_option_takes_what_its_card_declares_and_nothing_else(name: str, task: str, option: str, data: Any) -> None:
    card = card_of(name)
    declared = card.tasks[task].options[option]

    def resolved(value: Any) -> JobRequest:
        body = {"model": name, "seed": 3, **request_for(task, card), "options": {option: value}}
        return TASKS[task].model_validate_json(json.dumps(body)).resolve(card)[0]

    anything = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9), st.text(max_size=20))
    value = data.draw(st.one_of(valid(declared), anything))
    if accepts(declared, value) and (option != "factor" or card.image.width % value == 0):
        request = resolved(value)
        assert request.options[option] == value
        assert JobRecord.new(request, []).request() == request
        assert request.cost(card) > 0
    else:
        with pytest.raises(UnprocessableError) as refused:
            resolved(value)
        assert refused.value.extras["errors"][0]["loc"] == ["body", "options", option]


def valid(option: Any) -> st.SearchStrategy[Any]:
    if option.type in ("integer", "number"):
        return {"integer": st.integers, "number": st.floats}[option.type](*option.range)
    return st.sampled_from([False, True] if option.type == "boolean" else option.choices)


def accepts(option: Any, value: Any) -> bool:
    """The law of each type, written down a second time."""
    if option.type == "boolean":
        return value is True or value is False
    if option.type == "string":
        return value in option.choices
    types = (int,) if option.type == "integer" else (int, float)
    return type(value) in types and option.range[0] <= value <= option.range[1]


@pytest.mark.parametrize(("name", "task"), [(n, t) for n, t, option in DECLARED if option == "latent_steps"])
def test_the_older_field_gives_the_bytes_of_the_option(name: str, task: str, tmp_path: Path) -> None:
    card = card_of(name)
    files = []
    for k, asked in enumerate(
        ({"latent_steps": 5}, {"options": {"latent_steps": 5}}, {"options": {"latent_steps": 6}})
    ):
        blobs = Blobs(tmp_path / str(k))
        body = {"model": name, "seed": 3, **request_for(task, card), **asked}
        outputs = outputs_of(model_of(name), TASKS[task].model_validate(body).resolve(card)[0], card, blobs)
        files.append([blobs.get(f"jobs/job_1/{i}.png") for i in range(len(outputs))])
    assert files[0] == files[1] != files[2]


def test_the_contract_and_the_zoo_have_the_same_tasks() -> None:
    assert {task for _, task in abilities()} == TASKS.keys()
