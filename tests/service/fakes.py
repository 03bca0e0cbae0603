"""A model's card on disk, and a worker that only pretends to make images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from service.contract.jobs import Generate, JobRecord, Output
from service.contract.records import Progress, Status
from service.pictures.blobs import Blobs
from service.pictures.places import job_image
from service.store.store import RecordStore
from tests.service.beats import heartbeat

PNG = b"\x89PNG\r\n\x1a\n not really"


def card(name: str = "toy", version: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "system": "ccoopnets",
        "title": "A toy",
        "description": "Makes nothing.",
        "license": "Apache-2.0",
        "image": {"height": 28, "width": 28, "channels": 1},
        "classes": ["Bag", "Coat", "Sneaker"],
        "tasks": {
            "generate": {
                "defaults": {"n": 1, "steps": 10, "step_size": 1.0, "noise": 0.0, "refine": True},
                "limits": {
                    "max_n": 8,
                    "max_steps": 50,
                    "trained_steps": 10,
                    "step_size": [0.0, 4.0],
                    "noise": [0.0, 1.0],
                },
            }
        },
        **changes,
    }


LATENT_STEPS = {
    "type": "integer",
    "default": 20,
    "range": [0, 40],
    "description": "Steps of a search.",
    "cost": {"start": 1, "per": "n", "each_class": True},
}
ITERATIONS = {"type": "integer", "default": 3, "range": [1, 9], "description": "Iterations of a search."}
SQUARE = {"height": 8, "width": 8, "channels": 3}


def cards() -> list[dict[str, Any]]:
    """A model that makes images of nothing but noise, and one for each kind of condition, which does all it can."""
    ability = card()["tasks"]["generate"]
    frames = {**ability, "defaults": {**ability["defaults"], "n": 4}}
    single = {"defaults": {**ability["defaults"], "steps": 0}, "limits": {**ability["limits"], "max_n": 1}}
    latent = {**ability, "options": {"latent_steps": LATENT_STEPS}}
    classes = {"interpolate": frames, "restyle": latent, "reconstruct": latent, "score": single}
    searched = {**ability, "options": {"iterations": ITERATIONS}}
    partial = {**searched, "limits": {**ability["limits"], "partial_mask": True}}
    latents = {"generate": ability, "reconstruct": searched, "inpaint": partial, "interpolate": frames, "score": single}
    pairs = {"translate": ability, "interpolate": frames, "score": single}
    return [
        card(),
        card("toy-classes", tasks=classes),
        card("toy-pairs", classes=None, image=SQUARE, condition={**SQUARE, "channels": 1}, tasks=pairs),
        card("toy-holes", classes=None, image=SQUARE, tasks={"inpaint": ability, "score": single}),
        card("toy-latents", classes=None, image=SQUARE, tasks=latents),
        card("toy-solids", classes=None, image=SQUARE, surface={"degrees": 4}, tasks={"denoise": ability}),
        card("toy-energy", classes=None, image=SQUARE, tasks={"denoise": ability}),
    ]


def write_card(root: Path, content: dict[str, Any]) -> Path:
    folder = root / content["name"] / str(content["version"])
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(content))
    return folder


class FakeWorker:
    """Does what a worker does with a job, apart from the images."""

    def __init__(self, jobs: RecordStore[JobRecord], blobs: Blobs) -> None:
        self._jobs = jobs
        self._blobs = blobs

    def run(self, id: str) -> None:
        record = self._jobs.claim(id, "fake", 10.0)
        assert record is not None
        params = record.request()
        assert isinstance(params, Generate)
        assert params.n is not None
        assert params.steps is not None
        for step in range(1, params.steps + 1):
            progress = Progress(stage="refine", step=step, steps=params.steps)
            if heartbeat(self._jobs, id, record.attempt, 10.0, progress):
                self._jobs.finish(id, record.attempt, Status.CANCELLED)
                return
        outputs, stored = [], 0
        for k in range(params.n):
            place = job_image(id, k)
            self._blobs.put(place.key, PNG + bytes([k]))
            stored += len(PNG) + 1
            outputs.append(Output(url=place.url, width=28, height=28, seed=k, energy=-1.5))
        self._jobs.finish(id, record.attempt, Status.SUCCEEDED, outputs=outputs, stored_bytes=stored)

    def run_next(self, seconds: float = 5.0) -> str:
        """Wait for a queued job and run it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            records, _ = self._jobs.page(Status.QUEUED, None, 1)
            if records:
                self.run(records[0].id)
                return records[0].id
            time.sleep(0.005)
        raise AssertionError("no job was queued")
