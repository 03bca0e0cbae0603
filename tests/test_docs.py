"""The documents are held to the code: what they name exists, and what exists is named."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import models.samplers
from coopserve.cli import main
from models.data.catalog import DATASETS
from models.systems.registry import SYSTEMS
from service.contract.jobs import TASKS, JobRequest
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.startswith("coopserve ")]


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_readme_are_accepted(command: str) -> None:
    result = CliRunner().invoke(main, [*shlex.split(command)[1:], "--help"])
    assert result.exit_code == 0, result.output


def test_make_targets_of_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", ".ci/run"):
        named = set(re.findall(r"(?:`|^ {4}|^)make ([a-z]+)", (ROOT / name).read_text(), flags=re.MULTILINE))
        assert named <= targets, name
    assert {"setup", "serve", "demo", "test"} <= targets


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        row = next((line for line in README.splitlines() if line.startswith(f"| `COOPSERVE_{name.upper()}`")), None)
        assert row is not None, f"README.md lacks COOPSERVE_{name.upper()}"
        assert field.description
        assert field.description in row


@pytest.mark.parametrize("task", TASKS)
def test_every_task_and_field_is_in_the_readme(task: str) -> None:
    assert f"POST /v1/{task}" in README
    for name in TASKS[task].model_fields:
        assert f"`{name}`" in README, f"README.md lacks the field {name}"


def test_every_request_class_explains_itself() -> None:
    for request in (JobRequest, *TASKS.values()):
        assert inspect.getdoc(request)
        assert all(field.description for field in request.model_fields.values())


def test_every_sampler_gives_its_equation_and_source() -> None:
    modules = [
        importlib.import_module(f"models.samplers.{m.name}") for m in pkgutil.iter_modules(models.samplers.__path__)
    ]
    assert modules
    for module in modules:
        parts = [module, *(function for _, function in inspect.getmembers(module, inspect.isfunction))]
        docs = [inspect.getdoc(part) or "" for part in parts]
        assert any("math:" in doc and "eq. " in doc for doc in docs), module.__name__


def test_systems_presets_and_data_are_in_the_readme() -> None:
    for name, system in SYSTEMS.items():
        assert system.title in README
        for preset in system.presets:
            assert f"`{preset}`" in README, f"README.md lacks the preset {preset} of {name}"
    for name in DATASETS:
        assert name in README, f"README.md lacks the data set {name}"


def test_the_architecture_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for room in ("models", "service", "workers", "coopserve", "checkpoints", "benchmarks", "tests"):
        assert f"`{room}/`" in text
    for room in ("models", "service", "workers"):
        for folder in sorted(path.parent for path in (ROOT / room).glob("*/__init__.py")):
            assert f"`{folder.name}/`" in text, folder
