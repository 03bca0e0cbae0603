"""Addresses of the API in its answers, for a deployment that a proxy shows under a path of its own."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

_OWN = ("/v1/", "/errors/")
_GIVEN = "params"  # what a client has sent is not touched


def under(root: str, value: Any) -> Any:
    """A JSON value in which each string that is an address of the API begins with a path, such as ``/images``."""
    if isinstance(value, str):
        return f"{root}{value}" if value.startswith(_OWN) else value
    if isinstance(value, dict):
        return {name: each if name == _GIVEN else under(root, each) for name, each in value.items()}
    if isinstance(value, list):
        return [under(root, each) for each in value]
    return value


def json_under(root: str, model: BaseModel) -> str:
    """A model as JSON, its addresses below a path; '' is the root of the server, and costs nothing."""
    return json.dumps(under(root, model.model_dump(mode="json"))) if root else model.model_dump_json()
