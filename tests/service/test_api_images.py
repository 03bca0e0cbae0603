"""Images over HTTP: uploaded, used by tasks, refused."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from PIL import Image

from pictures.framing import Frame
from service.contract.errors import PROBLEMS
from service.contract.jobs import TASKS, JobRecord
from service.pictures.blobs import Blobs
from service.pictures.room import Room
from service.pictures.samples import SAMPLES
from service.pictures.shelf import Shelf
from service.settings import Settings
from service.store.ledger import Ledger
from service.store.store import RecordStore
from service.store.types import StorageLimits
from tests.hostile.corpus import Hostile, corpus, encoded, noise
from tests.service.test_api_bad_input import problem

HOSTILE = list(corpus())


def uri(picture: Image.Image | bytes, format: str = "PNG") -> str:
    data = picture if isinstance(picture, bytes) else encoded(picture, format)
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def upload(api: httpx.Client, picture: Image.Image | bytes, name: str = "picture.png") -> httpx.Response:
    data = picture if isinstance(picture, bytes) else encoded(picture, "PNG")
    return api.post("/v1/images", files={"file": (name, data)})


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


@pytest.fixture
def stored(settings: Settings, client: redis.Redis) -> Callable[[], set[Path]]:
    """The files of all images of jobs and uploads."""
    Shelf(Blobs(settings.blobs_dir), Ledger(client), StorageLimits(), Room(None, 0)).sweep()  # of tests before
    return lambda: {path for path in settings.blobs_dir.rglob("*") if path.is_file()}


@pytest.fixture
def unchanged(
    stored: Callable[[], set[Path]], jobs: RecordStore[JobRecord], sent: Callable[[], int], client: redis.Redis
) -> Iterator[None]:
    """Nothing is stored and nothing is queued."""
    before = stored()
    yield
    assert stored() == before
    assert (jobs.depth(), sent()) == (0, 0)


def test_an_image_is_uploaded_fetched_and_deleted(api: httpx.Client, settings: Settings) -> None:
    data = encoded(noise(), "WEBP", lossless=True)
    answer = upload(api, data, "holiday.gif")
    image = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == image["url"] == f"/v1/images/{image['id']}"
    assert (image["width"], image["height"], image["format"], image["bytes"]) == (48, 32, "webp", len(data))
    assert image["sha256"] == hashlib.sha256(data).hexdigest()
    kept = datetime.fromisoformat(image["expires_at"]) - datetime.fromisoformat(image["created_at"])
    assert kept == timedelta(hours=settings.keep_hours)
    found = api.get(image["url"])
    assert found.headers["content-type"] == "image/png"
    assert opened(found.content).tobytes() == noise().tobytes()
    assert api.get(image["url"], headers={"If-None-Match": found.headers["etag"]}).status_code == 304
    deleted = api.delete(image["url"])
    assert (deleted.status_code, deleted.content) == (204, b"")
    problem(api.get(image["url"]), "unknown-image")
    problem(api.delete(image["url"]), "unknown-image")


@pytest.mark.parametrize("id", ["img_0", "img_" + "0" * 32, "job_" + "0" * 32, "%00", "..%2f..%2fx", "img_" + "Z" * 32])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_image(api: httpx.Client, id: str, method: str) -> None:
    problem(api.request(method, f"/v1/images/{id}"), "not-found" if "%2f" in id else "unknown-image")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused(api: httpx.Client, hostile: Hostile) -> None:
    document = problem(upload(api, hostile.data), hostile.kind)
    assert hostile.says in document["detail"]
    assert document["errors"][0]["loc"] == ["body", "file"]
    body = {"model": "toy-holes", "image": uri(noise(mode="RGBA")), "mask": uri(hostile.data)}
    document = problem(api.post("/v1/inpaint", json=body), hostile.kind)
    assert hostile.says in document["detail"]
    assert document["errors"][0]["loc"] == ["body", "mask"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("content", "headers", "kind"),
    [
        (b"", {}, "invalid-request"),
        (b"{}", {"Content-Type": "application/json"}, "invalid-request"),
        (b"x", {"Content-Type": "multipart/form-data"}, "malformed-request"),
        (b"x", {"Content-Type": "multipart/form-data; boundary=b"}, "malformed-request"),
        (b"--b\r\n\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, "malformed-request"),
        (b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, "invalid-request"),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--b--\r\n',
            {"Content-Type": "multipart/form-data; boundary=b"},
            "invalid-request",
        ),
        (b"file=x", {"Content-Type": "application/x-www-form-urlencoded"}, "invalid-request"),
    ],
)
def test_a_body_without_a_file(api: httpx.Client, content: bytes, headers: dict[str, str], kind: str) -> None:
    problem(api.post("/v1/images", content=content, headers=headers), kind)


@pytest.mark.usefixtures("unchanged")
def test_files_and_bodies_that_are_too_large(api: httpx.Client, settings: Settings) -> None:
    file = bytes(settings.max_image_bytes + 1)
    assert str(settings.max_image_bytes) in problem(upload(api, file), "image-too-large")["detail"]
    problem(upload(api, bytes(settings.max_image_bytes + settings.max_body_bytes)), "body-too-large")
    body = {"model": "toy-pairs", "image": uri(file)}
    problem(api.post("/v1/translate", json=body), "image-too-large")
    problem(api.post("/v1/translate", json={**body, "image": body["image"] * 3}), "body-too-large")
    many = b'{"model": "toy-pairs", "image": [' + b"[],[]," * 100_000 + b"[]]}"
    answer = api.post("/v1/translate", content=many, headers={"Content-Type": "application/json"})
    assert "values" in problem(answer, "malformed-json")["detail"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("task", "changes", "kind", "says"),
    [
        ("translate", {"model": "toy-pairs"}, "invalid-request", "image"),
        ("translate", {"model": "toy-pairs", "image": ""}, "invalid-request", "image"),
        ("translate", {"model": "toy-pairs", "image": None}, "invalid-request", "image"),
        ("translate", {"model": "toy-pairs", "image": 7}, "invalid-request", "image"),
        ("translate", {"model": "toy-pairs", "image": "http://127.0.0.1/"}, "invalid-image", "neither the id"),
        ("translate", {"model": "toy-pairs", "image": "/etc/passwd"}, "invalid-image", "neither the id"),
        ("translate", {"model": "toy-pairs", "image": "sha256:" + "0" * 64}, "invalid-image", "neither the id"),
        ("translate", {"model": "toy-pairs", "image": "img_" + "0" * 32}, "unknown-image", "expired"),
        ("translate", {"model": "toy-holes", "image": uri(noise())}, "unsupported-task", "inpaint"),
        ("translate", {"model": "toy-pairs", "image": uri(noise()), "fit": "crop"}, "invalid-request", "fit"),
        ("translate", {"model": "toy-pairs", "image": uri(noise()), "restore": 1}, "invalid-request", "restore"),
        ("inpaint", {"model": "toy-holes", "image": uri(noise())}, "invalid-request", "send a mask"),
        (
            "inpaint",
            {"model": "toy-holes", "image": uri(noise()), "mask": uri(noise(48, 33))},
            "invalid-request",
            "size of the image, 48x32",
        ),
        (
            "inpaint",
            {"model": "toy-holes", "image": uri(Image.new("LA", (4000, 2000))), "n": 6, "restore": True},
            "invalid-request",
            "48000000 pixels",
        ),
        (
            "translate",
            {"model": "toy-pairs", "image": uri(Image.new("1", (4001, 4000))), "restore": True},
            "invalid-request",
            "leave restore out",
        ),
        (
            "translate",
            {"model": "toy-pairs", "image": uri(Image.new("1", (40_000, 1))), "fit": "stretch"},
            "image-too-large",
            "a side may have at most 16384",
        ),
        ("interpolate", {"model": "toy-pairs"}, "invalid-request", "two `images`"),
        ("interpolate", {"model": "toy-pairs", "images": [uri(noise())]}, "invalid-request", "images"),
        ("interpolate", {"model": "toy-pairs", "images": [uri(noise())] * 3}, "invalid-request", "images"),
        ("interpolate", {"model": "toy-pairs", "images": [uri(noise()), "x"]}, "invalid-image", "images.1"),
        ("interpolate", {"model": "toy-pairs", "labels": ["Bag", "Coat"]}, "invalid-request", "image to image"),
        ("interpolate", {"model": "toy-classes", "images": [uri(noise())] * 2}, "invalid-request", "class to class"),
        ("interpolate", {"model": "toy-classes", "labels": ["Bag", "Hat"]}, "invalid-request", "labels.1"),
        ("interpolate", {"model": "toy-classes", "labels": ["Bag", "Coat"], "n": 1}, "invalid-request", "n"),
        ("interpolate", {"model": "toy-classes", "labels": ["Bag", 1], "mix": "pixels"}, "invalid-request", "mix"),
        ("interpolate", {"model": "toy-classes", "seeds": [1, 2]}, "invalid-request", "leave seeds out"),
        ("interpolate", {"model": "toy-classes", "labels": ["Bag", 1], "seeds": [1, 2]}, "invalid-request", "seeds"),
        ("interpolate", {"model": "toy-latents"}, "invalid-request", "either two `images` or two `seeds`"),
        ("interpolate", {"model": "toy-latents", "images": [uri(noise())]}, "invalid-request", "images"),
        ("interpolate", {"model": "toy-latents", "seeds": [1]}, "invalid-request", "seeds"),
        ("interpolate", {"model": "toy-latents", "seeds": [1, -1]}, "invalid-request", "seeds"),
        ("interpolate", {"model": "toy-latents", "labels": ["Bag", "Coat"]}, "invalid-request", "takes no labels"),
        (
            "interpolate",
            {"model": "toy-latents", "seeds": [1, 2], "images": [uri(noise())] * 2},
            "invalid-request",
            "either two",
        ),
        (
            "reconstruct",
            {"model": "toy-latents", "image": uri(noise()), "label": "Bag"},
            "invalid-request",
            "no classes",
        ),
        ("reconstruct", {"model": "toy-latents", "image": uri(noise()), "steps": 10_000}, "invalid-request", "steps"),
        (
            "reconstruct",
            {"model": "toy-latents", "image": uri(noise()), "options": {"iterations": 10}},
            "invalid-request",
            "takes 1 to 9, got 10",
        ),
        (
            "inpaint",
            {"model": "toy-latents", "image": uri(noise()), "mask": uri(Image.new("L", (48, 32), 0))},
            "invalid-request",
            "nothing to fill in",
        ),
        (
            "inpaint",
            {"model": "toy-latents", "image": uri(noise()), "mask": uri(Image.new("L", (48, 32), 255))},
            "invalid-request",
            "use generate",
        ),
        ("inpaint", {"model": "toy-latents", "image": uri(Image.new("RGBA", (8, 8)))}, "invalid-request", "image"),
        ("restyle", {"model": "toy-classes", "image": uri(noise()), "labels": []}, "invalid-request", "labels"),
        ("restyle", {"model": "toy-classes", "image": uri(noise()), "n": 3}, "invalid-request", "asks for 9"),
        ("restyle", {"model": "toy-classes", "image": uri(noise()), "latent_steps": 41}, "invalid-request", "0 to 40"),
        (
            "restyle",
            {"model": "toy-classes", "image": uri(noise()), "options": {"speed": 1}},
            "invalid-request",
            "its options are: latent_steps",
        ),
        ("reconstruct", {"model": "toy-classes", "image": uri(noise()), "label": "Hat"}, "invalid-request", "label"),
        ("score", {"model": "toy-classes", "image": uri(noise())}, "invalid-request", "label"),
        ("score", {"model": "toy-classes", "image": uri(noise()), "label": 0, "n": 2}, "invalid-request", "n"),
        ("score", {"model": "toy-pairs", "image": uri(noise())}, "invalid-request", "condition"),
        ("score", {"model": "toy-pairs", "image": uri(noise()), "label": 0}, "invalid-request", "takes no label"),
        ("score", {"model": "toy-holes", "image": uri(noise())}, "invalid-request", "mask"),
    ],
)
def test_a_field_is_wrong(api: httpx.Client, task: str, changes: dict[str, Any], kind: str, says: str) -> None:
    document = problem(api.post(f"/v1/{task}", json=changes), kind)
    assert says in document["detail"]
    if PROBLEMS[kind].status == 422 and kind != "unsupported-task":
        assert document["errors"][0]["loc"][0] == "body"


def test_a_job_keeps_what_it_was_given(api: httpx.Client, sent: Callable[[], int]) -> None:
    image, mask = noise(), Image.new("1", (48, 32), 1)
    uploaded = upload(api, image).json()
    answer = api.post("/v1/inpaint", json={"model": "toy-holes", "image": uploaded["id"], "mask": uri(mask), "n": 2})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert sent() == 1
    digest = hashlib.sha256(encoded(mask, "PNG")).hexdigest()
    assert (job["params"]["image"], job["params"]["mask"]) == (uploaded["id"], f"sha256:{digest}")
    assert api.delete(uploaded["url"]).status_code == 204
    fitted = Frame.of((48, 32), (8, 8), "cover").apply(Image.new("RGB", (48, 32), "white"))  # all of it is hidden
    for name, given in {"image": fitted, "mask": Image.new("L", (8, 8), 255)}.items():
        found = api.get(f"/v1/jobs/{job['id']}/inputs/{name}")
        assert found.status_code == 200
        assert (opened(found.content).size, opened(found.content).tobytes()) == (given.size, given.tobytes())
    assert JobRecord.model_validate(job).request().model_dump() == job["params"]
    problem(api.get(f"/v1/jobs/{job['id']}/inputs/other"), "unknown-image")
    problem(api.get(f"/v1/jobs/{job['id']}/images/0/animation"), "unknown-image")


def test_a_list_of_pictures(api: httpx.Client) -> None:
    first, second = noise(), noise().rotate(180)
    job = api.post("/v1/interpolate", json={"model": "toy-pairs", "images": [uri(first), uri(second)]}).json()
    assert (job["params"]["n"], job["params"]["mix"], job["params"]["labels"]) == (4, "pixels", None)
    assert len(set(job["params"]["images"])) == 2
    for k, given in enumerate((first, second)):
        fitted = Frame.of(given.size, (8, 8), "cover").apply(given.convert("L"))
        assert opened(api.get(f"/v1/jobs/{job['id']}/inputs/images.{k}").content).tobytes() == fitted.tobytes()


def test_an_idempotency_key_covers_pictures(
    api: httpx.Client, stored: Callable[[], set[Path]], sent: Callable[[], int]
) -> None:
    keyed = {"Idempotency-Key": "a picture"}
    body = {"model": "toy-pairs", "image": uri(noise())}
    first = api.post("/v1/translate", json=body, headers=keyed).json()
    before = stored()
    assert api.post("/v1/translate", json=body, headers=keyed).json()["id"] == first["id"]
    other = {**body, "image": uri(noise().rotate(180))}
    problem(api.post("/v1/translate", json=other, headers=keyed), "idempotency-conflict")
    assert stored() == before
    assert sent() == 1


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.pictures])
def test_the_example_has_pictures_that_every_server_has(task: str) -> None:
    request = TASKS[task].model_validate(TASKS[task].example)
    for given in request.given_pictures():
        assert SAMPLES[given.ref].draw().size in ((14, 14), (28, 28), (64, 64))


def test_a_sample_picture_is_listed_shown_and_used_as_an_upload_is(api: httpx.Client, jobs: RecordStore[Any]) -> None:
    (listed,) = [one for one in api.get("/v1/images").json()["items"] if one["id"] == "sample-face-outline"]
    shown = opened(api.get(listed["url"]).content)
    assert shown.size == (listed["width"], listed["height"]) == (64, 64)
    job = api.post("/v1/translate", json={"model": "toy-pairs", "image": "sample-face-outline"}).json()
    assert job["params"]["image"] == "sample-face-outline"
    taken = opened(api.get(f"/v1/jobs/{job['id']}/inputs/image").content)
    assert (taken.size, taken.mode) == ((8, 8), "L")
    problem(api.post("/v1/translate", json={"model": "toy-pairs", "image": "sample-cat"}), "invalid-image")


def test_a_large_image_is_sent_in_parts(api: httpx.Client) -> None:
    picture = noise(1200, 800)
    uploaded = upload(api, picture).json()
    with api.stream("GET", uploaded["url"]) as answer:
        parts = list(answer.iter_raw(2**17))
    assert answer.status_code == 200
    assert (answer.headers["content-type"], answer.headers["cache-control"][:7]) == ("image/png", "private")
    assert len(parts) > 2
    assert int(answer.headers["content-length"]) == sum(map(len, parts)) > 2**20
    assert opened(b"".join(parts)).tobytes() == picture.tobytes()
    again = api.get(uploaded["url"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
    assert api.delete(uploaded["url"]).status_code == 204
    problem(api.get(uploaded["url"]), "unknown-image")
