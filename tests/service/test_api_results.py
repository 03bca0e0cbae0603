"""Images as answers, in several formats; signed addresses; jobs deleted; what a queue's pace tells."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from PIL import Image

from pictures.encoding import Format, encoded
from pictures.png import png_of
from service.access.keys import Keys, Scope
from service.access.signatures import Signatures
from service.contract.jobs import Generate, JobRecord, Output
from service.contract.jobs.recipe import recipe_of
from service.contract.records import Status
from service.pictures.blobs import Blobs
from service.pictures.places import job_image
from service.pictures.sheets import contact_sheet
from service.settings import Settings
from service.store.store import RecordStore
from tests.service.serving import serving
from tests.service.test_api_bad_input import problem

BODY = {"model": "toy", "label": "Bag", "n": 3, "seed": 7}


def shades(n: int) -> list[Image.Image]:
    return [Image.linear_gradient("L").resize((28, 28)).point(lambda v, k=k: v // (k + 1)) for k in range(n)]


@pytest.fixture
def finish(jobs: RecordStore[JobRecord], settings: Settings) -> Any:
    """Does what a worker does, with real pictures; gives the record."""

    def do(id: str, lost: tuple[int, ...] = ()) -> JobRecord:
        record = jobs.claim(id, "fake", 10.0)
        assert record is not None
        outputs = []
        for k, picture in enumerate(shades(record.params["n"])):
            place = job_image(id, k, record.params["output_format"])
            if k not in lost:
                Blobs(settings.blobs_dir).put(place.key, png_of(picture, {"coopserve": f"{k}"}))
            outputs.append(Output(url=None if k in lost else place.url, width=28, height=28, seed=k, energy=0.0))
        jobs.finish(id, record.attempt, Status.SUCCEEDED, outputs=outputs, stored_bytes=1)
        return jobs.get(id)

    return do


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    picture = Image.open(io.BytesIO(answer.content))
    picture.load()
    return picture


def test_a_job_of_many_is_a_contact_sheet_or_an_archive(api: httpx.Client, finish: Any) -> None:
    job = api.post("/v1/generate", json=BODY).json()
    unfinished = api.get(job["links"]["self"], headers={"Accept": "image/png"})
    problem(unfinished, "unknown-image")
    finish(job["id"], lost=(1,))
    sheet = opened(api.get(job["links"]["self"], headers={"Accept": "image/png, */*;q=0.5"}))
    first, _, third = shades(3)
    assert sheet.tobytes() == contact_sheet([first, third]).tobytes()
    assert json.loads(sheet.info["coopserve"])["n"] == 3
    answer = api.get(job["links"]["self"], headers={"Accept": "application/zip"})
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/zip", "Accept")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["job.json", "0.png", "2.png"]
        assert archive.read("2.png") == api.get(f"/v1/jobs/{job['id']}/images/2").content
        assert json.loads(archive.read("job.json"))["id"] == job["id"]
    for accept in ("*/*", "text/html, image/webp, */*;q=0.8", "application/json, image/png;q=0.9", "image/png;q=x"):
        assert api.get(job["links"]["self"], headers={"Accept": accept}).json()["status"] == "succeeded"


@pytest.mark.parametrize(("format", "exact"), [("png", True), ("webp", True), ("jpeg", False)])
def test_an_image_comes_in_the_format_that_was_asked_for(
    api: httpx.Client, finish: Any, format: Format, exact: bool
) -> None:
    job = api.post("/v1/generate", json={**BODY, "n": 1, "output_format": format}).json()
    (output,) = finish(job["id"]).outputs
    asked = api.get(output.url)
    same = api.get(f"/v1/jobs/{job['id']}/images/0", params={"format": format})
    own = api.get(job["links"]["self"], headers={"Accept": f"image/{format}"})
    assert asked.headers["content-type"] == own.headers["content-type"] == f"image/{format}"
    assert asked.content == same.content == own.content
    picture = opened(asked)
    assert picture.format == format.upper()
    assert (picture.convert("L").tobytes() == shades(1)[0].tobytes()) is exact
    again = api.get(output.url, headers={"If-None-Match": asked.headers["etag"]})
    assert again.status_code == 304


def test_unknown_formats_are_refused(api: httpx.Client) -> None:
    problem(api.post("/v1/generate", json={**BODY, "output_format": "gif"}), "invalid-request")
    problem(api.get("/v1/jobs/job_0/images/0", params={"format": "gif"}), "invalid-request")


def test_whoever_wants_the_image_waits_for_it_and_gets_the_record_if_it_is_late(
    settings: Settings, client: redis.Redis, finish: Any
) -> None:
    with serving(settings.model_copy(update={"wait_max_seconds": 0.05})) as url, httpx.Client(base_url=url) as api:
        keyed = {"Accept": "image/webp", "Idempotency-Key": "the same"}
        late = api.post("/v1/generate", json={**BODY, "n": 1}, headers=keyed)
        assert (late.status_code, late.json()["status"]) == (202, "queued")
        finish(late.json()["id"])
        there = api.post("/v1/generate", json={**BODY, "n": 1}, headers=keyed)
        assert (there.status_code, there.headers["location"]) == (200, f"/v1/jobs/{late.json()['id']}")
        assert opened(there).tobytes() == shades(1)[0].convert("RGB").tobytes()


def test_a_recipe_holds_what_makes_the_image_and_nothing_else() -> None:
    asked = {"model": "toy@1", "n": 4, "seed": 7, "steps": 3, "step_size": 1.0, "noise": 0.0, "refine": True}
    request = Generate(**asked, label={"Bag": 1.0}, preview_every=2, priority=9, webhook=None, output_format="webp")
    refined = {"model": "toy@1", "steps": 3, "step_size": 1.0, "noise": 0.0, "refine": True, "label": {"Bag": 1.0}}
    assert recipe_of(request, 99) == {"task": "generate", **refined, "options": {}, "n": 1, "seed": 99}
    proposal = {"task": "generate", "model": "toy@1", "label": {"Bag": 1.0}, "options": {}, "n": 1, "seed": 99}
    for update in ({"refine": False}, {"steps": 0}):
        assert recipe_of(request.model_copy(update=update), 99) == {**proposal, "steps": 0}


def test_a_sheet_has_the_shape_of_a_square() -> None:
    sheet = contact_sheet(shades(5), gap=2)
    assert sheet.size == (3 * 30 - 2, 2 * 30 - 2)
    assert sheet.getpixel((87, 57)) == 255  # the sixth place is empty
    assert encoded(sheet, "webp")[8:12] == b"WEBP"


def test_signed_addresses_show_pictures_without_a_key_for_a_time(
    settings: Settings, client: redis.Redis, finish: Any
) -> None:
    with serving(settings.model_copy(update={"auth": "on"})) as url:
        token = Keys(client).add("alice", frozenset({Scope.USE})).token
        alice = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"})
        with alice, httpx.Client(base_url=url) as anyone:
            job, other = (alice.post("/v1/generate", json={**BODY, "n": 1}).json()["id"] for _ in range(2))
            finish(job)
            finish(other)
            record = alice.get(f"/v1/jobs/{job}", params={"signed": 60}).json()
            (listed,) = [one for one in alice.get("/v1/jobs?signed=60").json()["items"] if one["id"] == job]
            signed = record["outputs"][0]["url"]
            assert signed.split("?")[0] == listed["outputs"][0]["url"].split("?")[0] == f"/v1/jobs/{job}/images/0"
            assert opened(anyone.get(signed)).size == (28, 28)
            assert anyone.get(f"{signed}&format=webp").headers["content-type"] == "image/webp"
            assert record["links"]["self"] == f"/v1/jobs/{job}"  # not a picture: as it was
            for forged in (
                f"/v1/jobs/{job}/images/0",
                signed.replace(job, other),
                signed.replace("expires=", "expires=1"),
                signed[:-1] + ("0" if signed[-1] != "0" else "1"),
                signed.replace("/images/0", ""),
                signed.replace("/images/0", "/events"),
            ):
                problem(anyone.get(forged), "unauthenticated")


def test_a_signature_ends_and_is_the_same_in_all_processes(client: redis.Redis) -> None:
    time = [1000.0]
    here, there = (Signatures(client, clock=lambda: time[0]) for _ in range(2))
    sign = here.signer(100)
    assert sign is not None
    path, _, query = sign("/v1/jobs/job_0a/images/0").partition("?")
    assert there.holds(path, query)
    assert not there.holds(path.replace("0a", "0b"), query)
    time[0] += 99
    assert there.holds(path, query)
    time[0] += 27
    assert not there.holds(path, query)
    assert here.signer(None) is None
    assert sign("/v1/models") == "/v1/models"


def test_a_job_is_deleted_with_its_images(
    api: httpx.Client, jobs: RecordStore[JobRecord], settings: Settings, finish: Any
) -> None:
    def files() -> set[Path]:
        return {path for path in settings.blobs_dir.rglob("*") if path.is_file()}

    before = files()
    body = {"model": "toy-holes", "image": "sample-face-with-hole", "n": 2}
    id = api.post("/v1/inpaint", json=body).json()["id"]
    problem(api.delete(f"/v1/jobs/{id}"), "not-ended")
    finish(id)
    assert len(files() - before) == 4  # the image and the mask that the model takes, and two results
    assert api.delete(f"/v1/jobs/{id}").status_code == 204
    assert files() == before
    for answer in (api.get(f"/v1/jobs/{id}"), api.delete(f"/v1/jobs/{id}"), api.get(f"/v1/jobs/{id}/images/0")):
        problem(answer, "unknown-job")
    assert api.get("/v1/jobs").json()["items"] == []
    assert jobs.expired() == []  # nothing is left for a sweep


def test_a_record_estimates_its_wait_by_the_pace_of_the_queue(api: httpx.Client, jobs: RecordStore[JobRecord]) -> None:
    ids = [api.post("/v1/generate", json=BODY).json()["id"] for _ in range(6)]
    assert api.get(f"/v1/jobs/{ids[5]}").json()["wait_seconds"] is None
    for id in ids[:3]:
        jobs.claim(id, "fake", 10.0)
    waits = [api.get(f"/v1/jobs/{id}").json()["wait_seconds"] for id in ids[2:]]
    assert waits[0] is None  # it has started
    assert 0 <= waits[1] <= waits[2] <= waits[3] < 60


def test_models_are_told_in_short(api: httpx.Client, settings: Settings) -> None:
    full, short = api.get("/v1/models"), api.get("/v1/models", params={"view": "summary"})
    assert len(short.content) < len(full.content) / 2
    models = {model["ref"]: model for model in short.json()["items"]}
    assert models.keys() == {model["ref"] for model in full.json()["items"]}
    pairs = models["toy-pairs@1"]
    assert (pairs["tasks"], pairs["classes"], pairs["picture"]) == (["translate", "interpolate", "score"], 0, None)
    problem(api.get("/v1/models/toy-pairs/picture"), "unknown-image")
    folder = settings.checkpoints_dir / "toy-pairs" / "1"
    (folder / "sample.png").write_bytes(png_of(shades(1)[0]))
    try:
        again = api.get("/v1/models", params={"view": "summary"}).json()["items"]
        (address,) = [model["picture"] for model in again if model["picture"]]
        assert opened(api.get(address)).size == (28, 28)
    finally:
        (folder / "sample.png").unlink()
