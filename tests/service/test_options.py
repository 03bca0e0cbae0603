"""Options that a card declares: which values a request may give, what it gets without, and what they cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.contract.cards import ModelCard, TaskCard
from service.contract.errors import UnprocessableError
from service.contract.jobs import TASKS, Generate, JobRecord, Reconstruct, Restyle
from tests.service.fakes import LATENT_STEPS, card, cards

ABILITY = card()["tasks"]["generate"]
ALL: dict[str, Any] = {
    "temperatures": {
        "type": "integer",
        "default": 20,
        "range": [1, 1000],
        "description": "How many.",
        "cost": {"factors": ["leapfrogs"]},
    },
    "leapfrogs": {"type": "integer", "default": 5, "range": [1, 20], "description": "Each of them."},
    "alpha": {"type": "number", "default": 0.5, "range": [0, 1], "description": "How far."},
    "uncertainty": {"type": "boolean", "default": False, "description": "Whether.", "cost": {"weight": 3}},
    "solver": {"type": "string", "default": "heun", "choices": ["euler", "heun"], "description": "Which."},
}
CARD = ModelCard.model_validate(card(tasks={"generate": {**ABILITY, "options": ALL}}))
DEFAULTS = {name: option["default"] for name, option in ALL.items()}


def resolved(**options: Any) -> Generate:
    request = Generate.model_validate_json(json.dumps({"model": "toy", "label": "Bag", "options": options}))
    return request.resolve(CARD)[0]


def test_options_that_are_left_out_have_their_defaults_and_the_record_shows_all() -> None:
    request = resolved(alpha=1, solver="euler")
    assert request.options == {**DEFAULTS, "alpha": 1.0, "solver": "euler"}
    record = JobRecord.new(request, [])
    assert record.params["options"] == request.options
    again = JobRecord.model_validate_json(record.model_dump_json()).request()
    assert again == request
    assert request.resolve(CARD)[0] == request


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("speed", 1, "its options are: temperatures, leapfrogs, alpha, uncertainty, solver"),
        ("temperatures", 0, "takes 1 to 1000, got 0"),
        ("temperatures", 2.0, "takes a whole number from 1 to 1000, got 2.0"),
        ("temperatures", True, "takes a whole number from 1 to 1000, got True"),
        ("temperatures", "2", "takes a whole number from 1 to 1000, got '2'"),
        ("alpha", 1.5, "takes 0.0 to 1.0, got 1.5"),
        ("alpha", False, "takes a number from 0.0 to 1.0, got False"),
        ("uncertainty", 1, "takes true or false, got 1"),
        ("solver", "rk4", "takes one of euler, heun, got 'rk4'"),
        ("solver", 1, "takes one of euler, heun, got 1"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_takes(name: str, value: Any, says: str) -> None:
    with pytest.raises(UnprocessableError, match=f"options.{name}") as refused:
        resolved(**{name: value})
    assert says in refused.value.detail
    assert refused.value.extras["errors"][0]["loc"] == ["body", "options", name]


def test_a_task_without_options_says_so() -> None:
    plain = ModelCard.model_validate(card())
    with pytest.raises(UnprocessableError, match="its options are: none for this task"):
        Generate(model="toy", options={"steps": 1}).resolve(plain)


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, 10**400, -(2**60), "x" * 201])
def test_what_is_no_value_at_all_is_refused_before_any_card_is_read(value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Generate.model_validate({"model": "toy", "options": {"alpha": value}})
    assert {error["loc"][:2] for error in refused.value.errors()} == {("options", "alpha")}


@given(temperatures=st.integers(1, 1000), leapfrogs=st.integers(1, 20), uncertainty=st.booleans(), n=st.integers(1, 8))
def test_the_cost_of_a_product_of_options(temperatures: int, leapfrogs: int, uncertainty: bool, n: int) -> None:
    request = resolved(temperatures=temperatures, leapfrogs=leapfrogs, uncertainty=uncertainty)
    request = request.model_copy(update={"n": n})
    steps = 1 + 10 + temperatures * leapfrogs + 3 * uncertainty
    assert request.cost(CARD) == n * steps * 28 * 28


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"alpha": {**ALL["alpha"], "default": 2}}, "takes 0.0 to 1.0"),
        ({"solver": {**ALL["solver"], "default": "rk4"}}, "takes one of euler, heun"),
        ({"solver": {**ALL["solver"], "cost": {}}}, "cost"),
        ({"temperatures": {**ALL["temperatures"], "cost": {"factors": ["solver"]}}}, "factor solver"),
        ({"temperatures": {**ALL["temperatures"], "cost": {"factors": ["nothing"]}}}, "factor nothing"),
        ({"Big Name": ALL["alpha"]}, "pattern"),
        ({"alpha": {**ALL["alpha"], "type": "tensor"}}, "tensor"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_an_error_of_the_card(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TaskCard.model_validate({**ABILITY, "options": {**ALL, **changes}})


OLD = {
    "defaults": {**ABILITY["defaults"], "latent_steps": 20},
    "limits": {**ABILITY["limits"], "max_latent_steps": 40},
}


def test_a_card_from_before_there_were_options_declares_the_same() -> None:
    found, written = (
        TaskCard.model_validate(given)
        for given in (OLD, {**ABILITY, "options": {"latent_steps": {}}} | {"options": {"latent_steps": LATENT_STEPS}})
    )
    assert found.defaults == written.defaults
    assert found.limits == written.limits
    (old,), (new,) = found.options.values(), written.options.values()
    assert old.model_dump(exclude={"description"}) == new.model_dump(exclude={"description"})
    assert TaskCard.model_validate_json(found.model_dump_json()) == found


CLASSES = ModelCard.model_validate(cards()[1])


@pytest.mark.parametrize("task", ["restyle", "reconstruct"])
def test_the_older_name_of_latent_steps_is_the_option(task: str) -> None:
    body = {"model": "toy-classes", "image": "x", "seed": 3}
    older = TASKS[task].model_validate_json(json.dumps({**body, "latent_steps": 7}))
    newer = TASKS[task].model_validate_json(json.dumps({**body, "options": {"latent_steps": 7}}))
    assert older == newer
    assert older.model_dump_json() == newer.model_dump_json()
    params = JobRecord.new(*older.resolve(CLASSES)).params
    assert params["options"] == {"latent_steps": 7}
    assert "latent_steps" not in params
    both = {**body, "latent_steps": 7, "options": {"latent_steps": 7}}
    assert TASKS[task].model_validate(both) == older
    assert TASKS[task].model_validate({**body, "latent_steps": None}).resolve(CLASSES)[0].options == {
        "latent_steps": 20
    }


@pytest.mark.parametrize("request_type", [Restyle, Reconstruct])
@pytest.mark.parametrize(
    "given", [{"latent_steps": 7, "options": {"latent_steps": 8}}, {"latent_steps": "7"}, {"latent_steps": -1}]
)
def test_the_older_name_is_checked(request_type: type[Restyle | Reconstruct], given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="latent_steps"):
        request_type.model_validate({"model": "toy-classes", "image": "x", **given})


def test_a_record_that_was_queued_before_there_were_options_is_still_read() -> None:
    request, _ = Reconstruct(model="toy-classes", image="x", label="Bag", seed=1).resolve(CLASSES)
    params = {**request.model_dump(mode="json"), "latent_steps": 9}
    del params["options"]
    again = JobRecord.new(request, []).model_copy(update={"params": params}).request()
    assert again.options == {"latent_steps": 9}
