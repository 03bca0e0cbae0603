"""Links of the OpenAPI document: which operations take what another one answers.

They show generated clients, and people, how to follow a job or training.
"""

from __future__ import annotations

from typing import Any

Links = dict[str, dict[str, Any]]

_ID = "$response.body#/id"


def _link(operation: str, description: str, **parameters: Any) -> dict[str, Any]:
    return {"operationId": operation, "description": description, "parameters": parameters}


def _record(kind: str) -> Links:
    """What can be done with a record of a kind, as with its ``links``."""
    return {
        "self": _link(f"get_{kind}", "The record as it is now.", id=_ID),
        "cancel": _link(f"cancel_{kind}", "Cancel it; can be repeated safely.", id=_ID),
        "events": _link(f"{kind}_events", "Follow it.", id=_ID),
    }


def _listing(kind: str) -> Links:
    """Where a page of records leads."""
    first = "$response.body#/items/0/id"
    return {
        "next": _link(f"list_{kind}s", "The next page.", cursor="$response.body#/next"),
        "first": _link(f"get_{kind}", "The newest record of this page.", id=first),
    }


JOB = _record("job") | {"image": _link("job_output", "The first image, once it has succeeded.", id=_ID, k=0)}
JOBS = _listing("job")
TRAINING = _record("training")
TRAININGS = _listing("training")
IMAGE = {
    "self": _link("get_image", "The image.", id=_ID),
    "delete": _link("delete_image", "Delete it before it expires.", id=_ID),
}
MODELS = {"card": _link("get_model", "The card of the first model.", name="$response.body#/items/0/ref")}
DATASET = {
    "self": _link("get_dataset", "What it holds.", name="$response.body#/name"),
    "delete": _link("delete_dataset", "Delete it.", name="$response.body#/name"),
}
