"""The documents are held to the code: what they name exists, and what exists is named."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import models.samplers
from coopserve.cli import main
from models.data.catalog import DATASETS
from models.systems.registry import system_of
from service.app import create_app
from service.contract.errors import PROBLEMS
from service.contract.failures import FAILURES
from service.contract.jobs import TASKS, JobRecord, JobRequest
from service.contract.trainings import TrainingRequest
from service.settings import Settings
from tests.models.zoo import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [*(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING")), *ROOT.glob("docs/*.md")]
}
README, API, TRAINING = PAGES["README.md"], PAGES["docs/api.md"], PAGES["docs/training.md"]
MOST_LINES_OF_THE_README = 150


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def commands() -> list[str]:
    """Every command of the program that a page shows: in a block of code, or within a sentence."""
    found = []
    for page, text in PAGES.items():
        lines = [line.strip() for block in blocks(page, "sh") for line in block.splitlines()]
        lines += re.findall(r"^ {4}(.*)", text, flags=re.MULTILINE)
        found += [re.sub(r"\s+#.*", "", line) for line in lines]
        sentences = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        found += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", sentences)]
    words = [re.sub(r"^docker compose exec \w+ ", "", line) for line in found]
    return sorted({line for line in words if line.startswith("coopserve ") and "->" not in line})


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_documents_are_accepted(command: str) -> None:
    result = CliRunner().invoke(main, [*shlex.split(command)[1:], "--help"])
    assert result.exit_code == 0, result.output


def test_every_command_is_in_the_documents() -> None:
    shown = {command.split()[1] for command in commands()}
    assert main.commands.keys() <= shown


def test_make_targets_of_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for name, text in {**PAGES, ".ci/run": (ROOT / ".ci/run").read_text()}.items():
        named = set(re.findall(r"(?:`|^ {4}|^)make ([a-z]+)", text, flags=re.MULTILINE))
        assert named <= targets, name
    assert {"setup", "serve", "demo", "test"} <= targets


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES_OF_THE_README


@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_documents_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{page}: {target}"


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it writes a picture
    names: dict[str, Any] = {}
    for block in blocks("README.md", "python"):
        if "http://" not in block:  # that needs a server; tests/integration/test_readme.py has one
            exec(block, names)
    assert all(picture.size == (28, 28) for picture in names["shoes"])
    assert len(names["shoes"].energy) == len(names["shoes"].trajectory) == len(names["shoes"]) == 4
    with Image.open(tmp_path / "sneaker.png") as picture:
        assert picture.tobytes() == names["shoes"][0].tobytes()


def test_every_page_is_linked_from_the_readme() -> None:
    for page in PAGES.keys() - {"README.md"}:
        assert f"]({page})" in README


def test_the_page_of_settings_is_what_the_command_prints() -> None:
    assert PAGES["docs/settings.md"] == CliRunner().invoke(main, ["settings"]).output, "run `make docs`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_on_its_page(name: str) -> None:
    row = re.search(rf"^\| `COOPSERVE_{name.upper()}` \|.*$", PAGES["docs/settings.md"], flags=re.MULTILINE)
    description = Settings.model_fields[name].description
    assert row
    assert description
    assert description in row[0]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_and_field_is_documented(task: str) -> None:
    assert f"(docs/api.md#{task})" in README
    assert f"\n### {task}\n\n`POST /v1/{task}`" in API
    section = API.partition(f"\n### {task}\n")[2].partition("\n### ")[0]
    general = API.partition("\n## Tasks\n")[2].partition("\n### ")[0] + API.partition("\n## Pictures\n")[2]
    for name in TASKS[task].model_fields:
        own = name not in JobRequest.model_fields and name not in ("fit", "restore")
        assert f"`{name}`" in (section if own else general), f"docs/api.md lacks the field {name} of {task}"


def test_every_kind_of_failure_is_documented() -> None:
    for kind, meaning in FAILURES.items():
        assert f"| `{kind}` | {meaning} |" in API


def test_every_address_error_and_member_is_documented(tmp_path: Path) -> None:
    app = create_app(Settings(redis_url="redis://127.0.0.1:1/0", data_dir=tmp_path))
    for path, methods in app.openapi()["paths"].items():
        shown = "/v1/{task}" if path.removeprefix("/v1/") in TASKS else path
        for method in methods:
            assert f"`{method.upper()} {shown}`" in API, f"docs/api.md lacks {method} {path}"
    for kind, problem in PROBLEMS.items():
        assert f"| `{kind}` | {problem.status} | {problem.title}. {problem.remedy} |" in API
    for name in TrainingRequest.model_fields:
        assert f"`{name}`" in TRAINING, f"docs/training.md lacks the field {name}"
    for name, field in JobRecord.model_fields.items():
        if not field.exclude:
            assert f"`{name}`" in API, f"docs/api.md lacks the member {name}"


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


def test_systems_presets_and_data_are_documented() -> None:
    for name, variant in SHIPPED.items():
        assert variant.title in README
        rows = [line for line in TRAINING.splitlines() if line.startswith(f"| `{system_of(name)}` |")]
        for preset in variant.presets:
            assert any(f"`{preset}`" in row for row in rows), f"docs/training.md lacks the preset {preset} of {name}"
    for name in DATASETS:
        assert f"| `{name}` |" in TRAINING, f"docs/training.md lacks the data set {name}"


def test_the_architecture_names_every_room() -> None:
    text = PAGES["ARCHITECTURE.md"]
    for room in ("models", "service", "workers", "coopserve", "checkpoints", "benchmarks", "tests"):
        assert f"`{room}/`" in text
    for room in ("models", "service", "workers"):
        for folder in sorted(path.parent for path in (ROOT / room).glob("*/__init__.py")):
            assert f"`{folder.name}/`" in text, folder
