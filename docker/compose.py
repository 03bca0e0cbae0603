"""The services of the Compose files, read for the tests and for build_and_try."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = ("docker-compose.yml", "docker-compose.cpu.yml")
"""The services for a host with a GPU, and the overrides for a host without one."""


class Loader(yaml.SafeLoader):
    """Reads Compose files: ``!reset`` removes the value of an earlier file."""


Loader.add_constructor("!reset", lambda *_: None)


@dataclass(frozen=True)
class Service:
    """A service of the Compose files.

    Args:
        name: of the service.
        image: the tag of its image.
        dockerfile: the image is built from it.
        user: runs it, as UID:GID.
        command: starts it.
        check: its health check.
        environment: its variables.
        stop_seconds: how long it may take to stop.
    """

    name: str
    image: str
    dockerfile: Path
    user: str
    command: list[str]
    check: list[str]
    environment: dict[str, str]
    stop_seconds: float


def services(file: str = FILES[0]) -> dict[str, dict[str, Any]]:
    """The services of a Compose file, unchanged."""
    found: dict[str, dict[str, Any]] = yaml.load((ROOT / file).read_text(), Loader)["services"]
    return found


def built_services() -> list[Service]:
    """The services that have a Dockerfile, as they run on a host without a GPU: none of those for further GPUs."""
    main, cpu = map(services, FILES)
    return [
        _service(name, said, cpu.get(name, {}))
        for name, said in main.items()
        if "build" in said and "profiles" not in said
    ]


def _service(name: str, said: Mapping[str, Any], override: Mapping[str, Any]) -> Service:
    variables = {**said["environment"], **override.get("environment", {})}
    return Service(
        name=name,
        image=_defaults(said["image"]),
        dockerfile=ROOT / said["build"]["dockerfile"],
        user=said["user"],
        command=said["command"],
        check=said["healthcheck"]["test"][1:],
        environment={key: _defaults(str(value)) for key, value in variables.items() if value is not None},
        stop_seconds=float(said["stop_grace_period"].removesuffix("s")),
    )


def _defaults(text: str) -> str:
    """The text with each ``${NAME:-default}`` replaced by its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
