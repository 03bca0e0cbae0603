"""The OpenAPI document: what FastAPI makes of the routes, with what it leaves out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from service.contract.events import EVENTS
from service.http.openai_images.requests import EditBody
from service.http.problems import ProblemDocument

_REF = "#/components/schemas/{model}"
_BINARY = {"type": "string", "format": "binary"}
_CONTENT = {
    **dict.fromkeys(("image/png", "image/webp", "image/jpeg", "application/zip"), _BINARY),
    "model/obj": {"type": "string"},
    "text/plain": {"type": "string"},
    "text/event-stream": {
        # No type: tools hold it against the whole stream, or against each event.
        "description": "Events with `event:`, `id:` and `data:`; the data of each is JSON: "
        + ", ".join(f"`{name}` {event.__name__}" for name, event in EVENTS.items()),
    },
}


def describe(app: FastAPI, root: str) -> dict[str, Any]:
    """The document of an app, made once.

    Args:
        app: the app.
        root: the path under which a proxy shows it.
    """
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            webhooks=app.webhooks.routes,
            tags=app.openapi_tags,
            servers=[{"url": root}] if root else None,
        )
        models: list[type[BaseModel]] = [ProblemDocument, EditBody, *EVENTS.values()]
        for model in models:
            own = model.model_json_schema(ref_template=_REF, mode="serialization")
            schema["components"]["schemas"].update(own.pop("$defs", {}))
            schema["components"]["schemas"][own["title"]] = own
        _mark_files(schema)
        _drop_framework_errors(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _drop_framework_errors(schema: dict[str, Any]) -> None:
    """Leave out the framework's own answer to invalid requests, which is never sent."""
    for item in schema["paths"].values():
        for operation in item.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)


def _mark_files(node: Any) -> None:
    """Say of files that they are, in the words that generators of clients know."""
    if isinstance(node, list):
        for each in node:
            _mark_files(each)
    if not isinstance(node, dict):
        return
    if node.get("contentMediaType") == "application/octet-stream":
        node["format"] = "binary"
    for name, value in node.items():
        if name in _CONTENT and value == {}:
            node[name] = {"schema": _CONTENT[name]}
        else:
            _mark_files(value)
