"""A client that is generated from the OpenAPI document: it uploads, makes a job and fetches its picture."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import redis
from PIL import Image

from service.contract.events import EVENTS
from service.contract.failures import FAILURES
from tests.service.fakes import PNG, FakeWorker

CONFIG = "content_type_overrides:\n  image/png: application/octet-stream\n"
"""What docs/api.md tells users of this generator: it knows files by this one type."""


@pytest.fixture(scope="module")
def document(base_url: str) -> dict[str, Any]:
    content: dict[str, Any] = httpx.get(f"{base_url}/openapi.json").json()
    return content


@pytest.fixture(scope="module")
def part(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the generated client."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "config.yml").write_text(CONFIG)
    program = Path(sysconfig.get_path("scripts")) / "openapi-python-client"
    given = ["--path", "openapi.json", "--config", "config.yml", "--output-path", "generated_client", "--meta", "none"]
    done = subprocess.run([program, "generate", *given], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    assert "Unable to" not in done.stdout
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"generated_client.{name}")
    sys.path.remove(str(folder))


def test_it_uploads_makes_a_job_and_gets_the_bytes_of_pictures(
    part: Callable[[str], ModuleType], base_url: str, client: redis.Redis, worker: FakeWorker
) -> None:
    with part("client").Client(base_url=base_url, raise_on_unexpected_status=True) as server:
        file = io.BytesIO()
        Image.new("L", (28, 28), 200).save(file, "PNG")
        body = part("models.body_upload_image").BodyUploadImage(
            file=part("types").File(payload=io.BytesIO(file.getvalue()), file_name="a.png", mime_type="image/png")
        )
        upload = part("api.images.upload_image").sync(client=server, body=body)
        assert (upload.width, upload.height, upload.format_) == (28, 28, "png")
        stored = part("api.images.get_image").sync(upload.id, client=server)
        with Image.open(stored.payload) as image:
            assert image.getpixel((0, 0)) == 200

        request = part("models.generate").Generate(model="toy", label="Bag", n=1, steps=1)
        job = part("api.tasks.generate").sync(client=server, body=request)
        worker.run(job.id)
        record = part("api.jobs.get_job").sync(job.id, client=server)
        assert (record.status, record.outputs[0].url) == ("succeeded", f"/v1/jobs/{job.id}/images/0")
        picture = part("api.jobs.job_output").sync(job.id, 0, client=server)
        assert picture.payload.read() == PNG + b"\0"

        problem = part("api.jobs.get_job").sync("job_0", client=server)
        assert problem.type_ == "/errors/unknown-job"


def test_webhooks_events_and_failures_are_in_the_document(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bodies = {
        name: hook["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for name, hook in document["webhooks"].items()
    }
    assert bodies == {"job": "JobRecord", "training": "TrainingRecord"}
    assert "links" in schemas["JobRecord"]["properties"]
    for event in EVENTS.values():
        assert schemas[event.__name__]["description"]
    stream = document["paths"]["/v1/jobs/{id}/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert all(f"`{name}`" in stream["schema"]["description"] for name in EVENTS)
    assert all(f"`{kind}`" in schemas["Failure"]["properties"]["kind"]["description"] for kind in FAILURES)
    assert "HTTPValidationError" not in schemas  # the framework's own


def test_the_events_of_a_job_are_what_the_document_says(base_url: str, client: redis.Redis, worker: FakeWorker) -> None:
    job = httpx.post(f"{base_url}/v1/generate", json={"model": "toy", "n": 1, "steps": 2}).json()
    worker.run(job["id"])
    blocks = httpx.get(f"{base_url}{job['links']['events']}").text.replace("\r", "").split("\n\n")
    found = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks if block.startswith("id:")]
    assert {event["event"] for event in found} == {"status", "progress"}
    for event in found:
        EVENTS[event["event"]].model_validate_json(event["data"])
