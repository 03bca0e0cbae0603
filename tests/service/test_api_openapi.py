"""The API documents itself completely: a task, field or error without a word fails here."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.contract.errors import PROBLEMS
from service.contract.jobs import TASKS, JobRequest
from service.settings import Settings

METHODS = {"get", "post", "delete"}


@pytest.fixture
def openapi(api: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = api.get("/openapi.json").json()
    return document


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in openapi["paths"].items():
        for method in item.keys() & METHODS:
            yield f"{method} {path}", item[method]


@pytest.mark.parametrize(("name", "task"), TASKS.items())
def test_a_task_is_documented_with_an_example_that_is_valid(
    openapi: dict[str, Any], name: str, task: type[JobRequest]
) -> None:
    operation = openapi["paths"][f"/v1/{name}"]["post"]
    assert task.task == name
    assert inspect.cleandoc(task.__doc__ or "").startswith(operation["summary"])
    assert "Prefer: wait" in operation["description"]
    content = operation["requestBody"]["content"]["application/json"]
    assert content["schema"] == {"$ref": f"#/components/schemas/{task.__name__}"}
    (example,) = content["examples"].values()
    assert example["value"] == task.example
    task.model_validate_json(json.dumps(example["value"]))
    assert {"200", "202", "400", "404", "413", "415", "422", "503"} <= operation["responses"].keys()


@pytest.mark.parametrize("task", ["restyle", "reconstruct"])
def test_options_have_examples_and_the_older_field_is_deprecated(openapi: dict[str, Any], task: str) -> None:
    content = openapi["paths"][f"/v1/{task}"]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["default"]["value"]["options"].keys() == {"latent_steps"}
    schema = openapi["components"]["schemas"][task.title()]["properties"]
    assert schema["latent_steps"]["deprecated"] is True
    assert "deprecated" not in schema["options"]


def test_every_field_and_parameter_is_described(openapi: dict[str, Any]) -> None:
    silent = [
        f"{name}.{field}"
        for name, schema in openapi["components"]["schemas"].items()
        for field, content in schema.get("properties", {}).items()
        if not content.get("description")
    ]
    silent += [
        f"{name} {parameter['name']}"
        for name, operation in operations(openapi)
        for parameter in operation.get("parameters", [])
        if not parameter.get("description")
    ]
    assert silent == []


def test_every_operation_has_a_summary_a_tag_and_described_answers(openapi: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in openapi["tags"]}
    for name, operation in operations(openapi):
        assert operation.get("summary"), name
        assert operation.get("description"), name
        assert set(operation["tags"]) <= tags, name
        for status, answer in operation["responses"].items():
            assert answer["description"], f"{name} {status}"
            if int(status) >= 400:  # OpenAI's API has a shape of its own
                shape = "application/json" if operation["tags"] == ["openai"] else "application/problem+json"
                assert answer["content"].keys() == {shape}, f"{name} {status}"


def test_errors_in_the_documentation_are_those_that_exist(openapi: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in openapi["components"]["schemas"]
    shown = {
        kind
        for _, operation in operations(openapi)
        for status, answer in operation["responses"].items()
        if int(status) >= 400 and operation["tags"] != ["openai"]
        for kind in answer["content"]["application/problem+json"]["examples"]
    }
    # "internal" is promised to nobody, and 405 belongs to no operation.
    assert shown == PROBLEMS.keys() - {"internal", "method-not-allowed"}


def test_references_lead_somewhere(openapi: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    known = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert set(references(openapi)) <= known


def test_operations_are_named_once_and_as_generated_clients_would_name_them(openapi: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(openapi)]
    assert len(set(names)) == len(names)
    assert {"generate", "get_job", "cancel_job", "job_events", "start_training"} <= set(names)


def test_links_lead_to_operations_and_give_what_these_need(openapi: dict[str, Any]) -> None:
    by_id = {operation["operationId"]: operation for _, operation in operations(openapi)}
    linked: dict[str, set[str]] = {}
    for name, operation in by_id.items():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                target = by_id[link["operationId"]]
                parameters = {parameter["name"]: parameter["in"] for parameter in target["parameters"]}
                assert link["description"]
                assert link["parameters"].keys() <= parameters.keys()
                assert {key for key, place in parameters.items() if place == "path"} <= link["parameters"].keys()
                linked.setdefault(name, set()).add(link["operationId"])
    follow = {"get_job", "cancel_job", "job_events", "job_output"}
    assert all(linked[task] == follow for task in [*TASKS, "get_job", "cancel_job"])
    assert linked["start_training"] == {"get_training", "cancel_training", "training_events"}
    assert linked["upload_image"] == {"get_image", "delete_image"}
    assert (linked["list_jobs"], linked["list_models"]) == ({"list_jobs", "get_job"}, {"get_model"})


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_service_starts_without_torch() -> None:
    code = "import sys, service.app; sys.exit('torch' in sys.modules or 'models' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)
    assert done.returncode == 0
