"""Pictures through the whole product: uploaded, fitted, worked on, brought back."""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
from PIL import Image

from service.contract.jobs import TASKS
from tests.hostile.corpus import archive, encoded, noise
from tests.integration.client import pictures, post, submit, succeeded
from tests.integration.conftest import IMAGE_MODELS


def upload(api: httpx.Client, picture: Image.Image) -> str:
    answer = api.post("/v1/images", files={"file": ("picture.png", encoded(picture, "PNG"))})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def test_one_picture_has_several_translations(picture_api: httpx.Client) -> None:
    image = upload(picture_api, noise(100, 80, "L"))
    record = post(picture_api, "/v1/translate", model=IMAGE_MODELS["translate"], image=image, n=3, seed=5)
    assert picture_api.delete(f"/v1/images/{image}").status_code == 204  # the job has its own copy
    answers = [opened(data) for data in pictures(picture_api, record)]
    assert [answer.size for answer in answers] == [(64, 64)] * 3
    assert len({answer.tobytes() for answer in answers}) == 3


def test_only_the_hidden_part_changes(picture_api: httpx.Client) -> None:
    picture, mask = noise(90, 70), Image.new("L", (90, 70), 0)
    mask.paste(255, (30, 20, 60, 50))
    uri = f"data:image/png;base64,{base64.b64encode(encoded(mask, 'PNG')).decode()}"
    body = {"model": IMAGE_MODELS["inpaint"], "image": upload(picture_api, picture), "mask": uri, "n": 2, "seed": 1}
    for data in pictures(picture_api, post(picture_api, "/v1/inpaint", **body, restore=True)):
        found, shown = np.asarray(opened(data)), np.asarray(mask) == 0
        assert (found[shown] == np.asarray(picture)[shown]).all()
        assert (found[~shown] != np.asarray(picture)[~shown]).any()


def test_frames_are_animated(picture_api: httpx.Client) -> None:
    ends = [upload(picture_api, picture) for picture in (noise(64, 64, "L"), noise(64, 64, "L").rotate(90))]
    body = {"model": IMAGE_MODELS["translate"], "images": ends, "n": 5, "seed": 2}
    record = succeeded(picture_api, post(picture_api, "/v1/interpolate", **body, animate=True))
    animation = Image.open(io.BytesIO(picture_api.get(record["outputs"][0]["extras"]["animation"]).content))
    assert animation.n_frames == 5  # type: ignore[attr-defined]
    for k, frame in enumerate(pictures(picture_api, record)):
        animation.seek(k)
        assert animation.convert("RGB").tobytes() == opened(frame).tobytes()


def test_a_score_is_numbers(picture_api: httpx.Client) -> None:
    body = {"model": IMAGE_MODELS["inpaint"], "image": upload(picture_api, noise(64, 64, "RGBA"))}
    (output,) = succeeded(picture_api, post(picture_api, "/v1/score", **body))["outputs"]
    assert output["url"] is None
    assert isinstance(output["energy"], float)


def test_every_example_of_the_page_runs_if_its_model_is_there(picture_api: httpx.Client) -> None:
    cards = [entry["card"] for entry in picture_api.get("/v1/models").json()["items"]]
    there = {card["name"]: card for card in cards if card}
    sent = {}
    for task, request in TASKS.items():
        own = request.example["model"]
        model = own if task in there.get(own, {"tasks": {}})["tasks"] else IMAGE_MODELS.get(task)
        if model is not None:
            sent[task] = post(picture_api, f"/v1/{task}", **{**request.example, "model": model})
    assert {"generate", "translate", "inpaint"} <= sent.keys()
    for record in sent.values():
        assert succeeded(picture_api, record)["outputs"]


def test_a_hostile_file_leaves_the_server_well(picture_api: httpx.Client) -> None:
    answer = picture_api.post("/v1/images", files={"file": ("picture.png", encoded(noise(), "PNG") + archive())})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/errors/invalid-image"
    assert len(pictures(picture_api, submit(picture_api, seed=9))) == 1
