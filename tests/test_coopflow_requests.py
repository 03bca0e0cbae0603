"""Requests that a CoopFlow can't do, by its own card: refused over HTTP, and nothing is queued."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import redis
from PIL import Image

from models.checkpoints import publish
from service.contract.jobs import JobRecord
from service.settings import Settings
from service.store.queue import INFERENCE_QUEUE
from service.store.store import RecordStore
from tests.models.zoo import ZOO
from tests.service.serving import serving
from tests.service.test_api_bad_input import problem

TINY = ZOO["coopflow"]
MOST = TINY.card()["tasks"]["generate"]["limits"]["max_steps"]


def uri(picture: Image.Image, format: str = "PNG") -> str:
    file = io.BytesIO()
    picture.save(file, format)
    return f"data:image/{format.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def grey(value: int, side: int = 16) -> str:
    return uri(Image.new("L", (side, side), value))


def not_finite() -> str:
    """Floating-point numbers, as only a TIFF holds them."""
    values = np.full((16, 16), 0.5, np.float32)
    values[3, 4], values[5, 6] = np.nan, np.inf
    return uri(Image.fromarray(values), "TIFF")


@pytest.fixture(scope="module")
def url(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("coopflow")
    card = {"name": "pair", "title": "A pair", "description": "Untrained.", "license": "none", **TINY.card()}
    publish(root / "checkpoints", card, TINY.weights())
    settings = Settings(redis_url=redis_url, data_dir=root / "var", checkpoints_dir=root / "checkpoints")
    with serving(settings) as address:
        yield address


@pytest.mark.parametrize(
    ("task", "fields", "kind", "says"),
    [
        ("inpaint", {"image": grey(9), "mask": grey(255, 17)}, "invalid-request", "size of the image, 16x16"),
        ("inpaint", {"image": grey(9), "mask": grey(0)}, "invalid-request", "nothing to fill in"),
        ("inpaint", {"image": grey(9), "mask": grey(255)}, "invalid-request", "use generate"),
        ("inpaint", {"image": grey(9)}, "invalid-request", "send a mask"),
        ("interpolate", {"images": [grey(9)]}, "invalid-request", "images"),
        ("interpolate", {}, "invalid-request", "either two `images` or two `seeds`"),
        ("generate", {"steps": MOST + 1}, "invalid-request", f"0 to {MOST}"),
        ("reconstruct", {"image": grey(9), "steps": MOST + 1}, "invalid-request", f"0 to {MOST}"),
        ("reconstruct", {"image": grey(9), "options": {"iterations": 10**6}}, "invalid-request", "1 to 1000"),
        ("reconstruct", {"image": not_finite()}, "invalid-image", "PNG, JPEG or WebP"),
        ("score", {"image": not_finite()}, "invalid-image", "PNG, JPEG or WebP"),
        ("score", {"image": grey(9), "options": {"draws": 0}}, "invalid-request", "1 to 64"),
        ("generate", {"options": {"start": "data"}}, "invalid-request", "flow"),
        ("reconstruct", {"image": grey(9), "refine": False}, "invalid-request", "no proposals to give in reconstruct"),
        ("interpolate", {"seeds": [1, 2], "refine": False}, "invalid-request", "no proposals to give in interpolate"),
    ],
)
def test_what_a_pair_can_not_do_is_refused(
    url: str, client: redis.Redis, task: str, fields: dict[str, Any], kind: str, says: str
) -> None:
    with httpx.Client(base_url=url, timeout=30) as api:
        document = problem(api.post(f"/v1/{task}", json={"model": "pair", **fields}), kind)
    assert says in document["detail"]
    assert RecordStore(client, JobRecord).depth() == 0
    assert client.llen(INFERENCE_QUEUE) == 0
