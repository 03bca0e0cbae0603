"""Jobs through the whole product: HTTP, Redis, Celery, the engine and back."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.client import events, finished, follow, generate, now, pictures, submit, succeeded, wait_for
from tests.integration.server import Server

EXAMPLE = {"model": "fashion-ccoopnets", "label": "Sneaker", "n": 4, "seed": 7}


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_the_example_of_the_api_page(api: httpx.Client) -> None:
    answer = api.post("/v1/generate", json=EXAMPLE)
    assert answer.status_code == 202
    assert answer.json()["status"] in {"queued", "running"}
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    record = succeeded(api, answer.json())
    images = [opened(data) for data in pictures(api, record)]
    assert [(image.format, image.size, image.mode) for image in images] == [("PNG", (28, 28), "L")] * 4
    assert len({image.tobytes() for image in images}) == 4
    assert record["params"]["label"] == {"Sneaker": 1.0}
    assert record["seed"] == 7
    assert len({output["seed"] for output in record["outputs"]}) == 4


def test_prefer_wait_answers_with_the_finished_job(api: httpx.Client) -> None:
    answer = api.post("/v1/generate", json=EXAMPLE, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.json()["status"] == "succeeded"
    assert len(answer.json()["outputs"]) == 4


def test_the_seed_decides_the_images(api: httpx.Client) -> None:
    request = {"n": 3, "seed": 11, "noise": 0.05}
    first = generate(api, **request)
    assert generate(api, **request) == first
    assert not set(generate(api, **{**request, "seed": 12})) & set(first)
    # Row k depends on the seed and k, not on how many rows there are.
    assert generate(api, **{**request, "n": 2}) == first[:2]


def test_a_label_goes_by_name_index_or_mix(api: httpx.Client) -> None:
    bag = generate(api, label="Bag", seed=3)
    assert generate(api, label=8, seed=3) == bag
    assert generate(api, label={"Bag": 2.0}, seed=3) == bag
    mix = succeeded(api, submit(api, label={"Bag": 1, "Sneaker": 3}, seed=3))
    assert mix["params"]["label"] == {"Sneaker": 0.75, "Bag": 0.25}
    assert len({*bag, *pictures(api, mix), *generate(api, label="Sneaker", seed=3)}) == 3


def test_without_refinement_it_is_the_proposal(api: httpx.Client) -> None:
    proposal = generate(api, seed=4, refine=False)
    assert proposal == generate(api, seed=4, steps=0)
    assert proposal != generate(api, seed=4)


def test_events_come_in_order_and_resume(api: httpx.Client) -> None:
    record = submit(api, n=2, steps=40, preview_every=10, seed=1)
    found = events(api, record)
    statuses = [event.data["status"] for event in found if event.name == "status"]
    assert statuses == ["queued", "running", "succeeded"]
    assert found[-1].name == "status"
    assert {event.name for event in found} <= {"status", "progress", "preview"}
    previews = [event.data for event in found if event.name == "preview"]
    assert [preview["step"] for preview in previews] == [0, 10, 20, 30]
    sizes = [opened(api.get(preview["url"]).content).size for preview in previews]
    assert sizes == [(56, 28)] * 4
    proposals = succeeded(api, submit(api, n=2, seed=1, refine=False))["outputs"]
    strip = opened(api.get(previews[0]["url"]).content)
    for k, proposal in enumerate(proposals):
        shown = strip.crop((28 * k, 0, 28 * k + 28, 28))
        assert shown.tobytes() == opened(api.get(proposal["url"]).content).tobytes()
        assert previews[0]["energies"][k] == pytest.approx(proposal["energy"], rel=1e-3)
    first = [preview["energies"][0] for preview in previews]
    assert first == sorted(first, reverse=True)  # the refinement goes downhill
    ids = [tuple(map(int, event.id.split("-"))) for event in found]
    assert ids == sorted(set(ids))
    for k in (0, 2, len(found) - 2):
        assert events(api, record, after=found[k].id) == found[k + 1 :]


def test_progress_is_told_while_the_job_runs(api: httpx.Client) -> None:
    found = events(api, submit(api, n=16, steps=200, step_size=0.1, seed=2))
    progress = [event.data for event in found if event.name == "progress" and event.data["stage"] == "refine"]
    steps = [told["step"] for told in progress]
    assert steps == sorted(steps)
    assert any(0 < step < 200 for step in steps)
    assert {told["steps"] for told in progress} == {200}


def test_cancelling_a_running_job_leaves_its_neighbours_alone(api: httpx.Client) -> None:
    neighbour = {"n": 3, "seed": 21, "steps": 200, "step_size": 0.1, "noise": 0.01}
    beside = submit(api, **neighbour)
    large = submit(api, n=16, steps=200, step_size=0.1, preview_every=10)
    with closing(follow(api, large)) as coming:
        next(event for event in coming if event.name == "preview")
    assert now(api, beside)["status"] == "running"
    assert api.post(large["links"]["cancel"]).status_code == 200
    ended = finished(api, large)
    assert (ended["status"], ended["outputs"]) == ("cancelled", [])
    assert api.get(f"{large['links']['self']}/images/0").status_code == 404
    assert api.post(large["links"]["cancel"]).json() == ended
    assert pictures(api, beside) == generate(api, **neighbour)


def test_a_request_at_the_limits_ends(api: httpx.Client) -> None:
    limits = api.get("/v1/models/fashion-ccoopnets").json()["tasks"]["generate"]["limits"]
    extreme = submit(api, steps=limits["max_steps"], step_size=limits["step_size"][1], noise=limits["noise"][1], seed=9)
    record = finished(api, extreme)
    if record["status"] == "failed":
        assert record["error"]["kind"] == "diverged"
        assert "step_size" in record["error"]["detail"]
    else:
        assert len(pictures(api, record)) == 1
    assert any("trained with" in warning for warning in record["warnings"])
    assert len(generate(api, seed=9)) == 1


@pytest.fixture
def damaged(server: Server, clothes: Path) -> Iterator[Path]:
    """A copy of the model under the name ``damaged``, for tests to spoil."""
    source = next((clothes / "fashion-ccoopnets").glob("[1-9]*"))
    folder = server.data_dir / "models" / "damaged" / "1"
    shutil.copytree(source, folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "name": "damaged", "version": 1}))
    yield folder
    shutil.rmtree(folder.parent)


def entry_of(api: httpx.Client, ref: str) -> dict[str, Any]:
    items = api.get("/v1/models").json()["items"]
    return next(item for item in items if item["ref"] == ref)


def test_a_checkpoint_that_is_cut_short_is_refused_with_its_reason(api: httpx.Client, damaged: Path) -> None:
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (damaged / "note").touch()  # as a copy that is made anew would, it changes the folder
    entry = entry_of(api, "damaged@1")
    assert entry["available"] is False
    assert "model.safetensors" in entry["reason"]
    answer = api.post("/v1/generate", json={"model": "damaged"})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/errors/unavailable-model"
    assert "bytes" in answer.json()["detail"]
    assert len(generate(api)) == 1


def test_a_checkpoint_whose_bytes_were_changed_fails_its_jobs_with_the_reason(api: httpx.Client, damaged: Path) -> None:
    weights = damaged / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 0xFF
    weights.write_bytes(content)
    record = finished(api, submit(api, model="damaged"))
    assert record["status"] == "failed"
    assert record["error"]["kind"] == "unusable-model"
    assert "SHA-256" in record["error"]["detail"]
    assert len(generate(api)) == 1


def figures(api: httpx.Client, name: str) -> dict[str, float]:
    """A figure of every inference worker, by worker."""
    families = text_string_to_metric_families(api.get("/metrics").text)
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return {sample.labels["worker"]: sample.value for sample in samples if sample.labels["kind"] == "inference"}


def growth(api: httpx.Client, name: str, before: dict[str, float]) -> float:
    return sum(value - before.get(worker, 0) for worker, value in figures(api, name).items())


def test_many_jobs_share_batches(api: httpx.Client) -> None:
    rows, steps = "coopserve_worker_engine_rows_total", "coopserve_worker_engine_steps_total"
    before = {name: figures(api, name) for name in (rows, steps)}
    chance = random.Random(5)
    requests = [{"n": chance.randint(1, 5), "steps": chance.randint(1, 50), "seed": seed} for seed in range(40)]
    records = [submit(api, label=k % 10, **request) for k, request in enumerate(requests)]
    assert [len(pictures(api, record)) for record in records] == [request["n"] for request in requests]
    work = sum(request["n"] * (request["steps"] + 2) for request in requests)  # propose and score are steps, too
    wait_for(lambda: growth(api, rows, before[rows]) >= work)
    assert growth(api, rows, before[rows]) / growth(api, steps, before[steps]) > 2
