"""Addresses of the API in its answers, for a deployment that a proxy shows under a path of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic import BaseModel

_OWN = ("/v1/", "/errors/")
_GIVEN = "params"  # what a client has sent is not touched


Sign: TypeAlias = Callable[[str], str]
"""From an address of the API to the same with a signature, where it has one."""


def under(root: str, value: Any, sign: Sign | None = None) -> Any:
    """A JSON value in which each string that is an address of the API begins with a path, such as ``/images``.

    Args:
        root: the path.
        value: what JSON can hold.
        sign: signs addresses before.
    """
    if isinstance(value, str):
        return f"{root}{sign(value) if sign else value}" if value.startswith(_OWN) else value
    if isinstance(value, dict):
        return {name: each if name == _GIVEN else under(root, each, sign) for name, each in value.items()}
    if isinstance(value, list):
        return [under(root, each, sign) for each in value]
    return value


def json_under(root: str, model: BaseModel, sign: Sign | None = None) -> str:
    """A model as JSON, its addresses below a path; '' is the root of the server, and costs nothing without ``sign``."""
    return json.dumps(under(root, model.model_dump(mode="json"), sign)) if root or sign else model.model_dump_json()
