"""The real `openai` package drives the images API that is made for it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.integration.client import generate
from tests.integration.server import Server

SNEAKER: dict[str, Any] = {"model": "fashion-ccoopnets", "prompt": "a photo of a sneaker"}


@pytest.fixture(scope="module")
def client(picture_server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{picture_server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def opened(text: str | None) -> Image.Image:
    assert text is not None
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    picture.load()
    return picture


def png(picture: Image.Image) -> tuple[str, bytes]:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "picture.png", file.getvalue()


def test_it_makes_the_images_that_the_api_itself_makes(client: openai.OpenAI, picture_api: httpx.Client) -> None:
    answer = client.images.generate(**SNEAKER, n=2, extra_body={"seed": 7, "steps": 3})
    own = generate(picture_api, label="Sneaker", n=2, seed=7, steps=3)
    assert answer.data is not None
    assert [base64.b64decode(image.b64_json or "") for image in answer.data] == own
    assert {image.revised_prompt for image in answer.data} == {"Sneaker"}
    assert (answer.size, answer.output_format) == ("28x28", "png")


def test_size_format_and_addresses(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        prompt="3 coat + 1 bag", model="fashion-ccoopnets", size="256x256", output_format="webp"
    )
    assert answer.data is not None
    picture = opened(answer.data[0].b64_json)
    assert (picture.format, picture.size, answer.size) == ("WEBP", (256, 256), "256x256")
    assert answer.data[0].revised_prompt == "0.75 Coat + 0.25 Bag"
    linked = client.images.generate(**SNEAKER, response_format="url", output_format="webp")
    assert linked.data is not None
    assert linked.data[0].url is not None
    assert "signature=" in linked.data[0].url
    assert httpx.get(linked.data[0].url).headers["content-type"] == "image/webp"


def test_a_stream_shows_unfinished_images_and_then_the_finished_one(client: openai.OpenAI) -> None:
    asked = {"seed": 7, "steps": 30}
    events = list(client.images.generate(**SNEAKER, stream=True, partial_images=3, extra_body=asked))
    assert [event.type for event in events] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    pictures = [opened(event.b64_json).tobytes() for event in events]
    for shown, fields in zip(pictures, ({"refine": False}, {"steps": 10}, {"steps": 20}, asked), strict=True):
        answer = client.images.generate(**SNEAKER, extra_body={"seed": 7, **fields})
        assert answer.data is not None
        assert shown == opened(answer.data[0].b64_json).tobytes()  # what the chain is like after so many steps
    assert len(set(pictures)) == 4


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"prompt": "a zebra"}, "invalid_request", "prompt"),
        ({"n": 1000}, "invalid_request", "n"),
        ({"size": "512x256"}, "invalid_request", "size"),
        ({"extra_body": {"nonsense": 1}}, "invalid_request", "nonsense"),
        ({"extra_body": {"step_size": 1e5}}, "invalid_request", "step_size"),
        ({"response_format": "url", "size": "56x56"}, "invalid_request", "response_format"),
    ],
)
def test_what_is_wrong_is_told_in_the_shape_of_that_api(
    client: openai.OpenAI, asked: dict[str, Any], code: str, param: str
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.generate(**{**SNEAKER, **asked}, stream=stream)
        assert (caught.value.code, caught.value.param, caught.value.type) == (code, param, "invalid_request_error")


def test_models_are_listed_and_unknown_ones_told(client: openai.OpenAI) -> None:
    assert "fashion-ccoopnets" in [model.id for model in client.models.list()]
    model = client.models.retrieve("fashion-ccoopnets")
    assert (model.id, model.object, model.owned_by) == ("fashion-ccoopnets@1", "model", "coopserve")
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(prompt="a sneaker", model="gpt-image-2")
    assert caught.value.code == "model_not_found"
    assert "fashion-ccoopnets" in caught.value.message


def test_an_edit_fills_in_where_the_mask_is_transparent(client: openai.OpenAI, picture_server: Server) -> None:
    shape = httpx.get(f"{picture_server.url}/v1/models/tiny-holes").json()["image"]
    size = (shape["width"], shape["height"])
    picture, mask = Image.new("RGB", size, (250, 200, 40)), Image.new("RGBA", size, "white")
    mask.paste((0, 0, 0, 0), (2, 2, 6, 6))
    answer = client.images.edit(
        image=[png(picture)], mask=png(mask), prompt="", model="tiny-holes", extra_body={"seed": 3}
    )
    assert answer.data is not None
    result = np.asarray(opened(answer.data[0].b64_json).convert("RGB"))
    changed = (result != np.asarray(picture)).any(axis=2)
    inside = np.zeros_like(changed)
    inside[2:6, 2:6] = True
    assert changed[inside].any()
    assert not changed[~inside].any()
    hole = picture.convert("RGBA")
    hole.putalpha(mask.getchannel("A"))
    again = client.images.edit(image=png(hole), prompt="", model="tiny-holes", extra_body={"seed": 3})
    assert again.data is not None
    assert np.array_equal(np.asarray(opened(again.data[0].b64_json).convert("RGB")), result)


def test_an_edit_without_a_mask_translates_and_streams(client: openai.OpenAI) -> None:
    drawing = png(Image.new("L", (64, 64), 255))
    events = list(client.images.edit(image=drawing, prompt="", model="tiny-pairs", stream=True, partial_images=1))
    assert events[-1].type == "image_edit.completed"
    uri = f"data:image/png;base64,{base64.b64encode(drawing[1]).decode()}"
    body = {"images": [{"image_url": uri}], "model": "tiny-pairs", "n": 2}
    answer = httpx.post(f"{client.base_url}images/edits", json=body, timeout=60)
    assert [opened(image["b64_json"]).size for image in answer.json()["data"]] == [opened(events[-1].b64_json).size] * 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "image"),
        ({"image": "https://example.org/a.png"}, "image"),
        ({"image": ["a", "b"]}, "image"),
        ({"image": "img_none", "model": "tiny-pairs"}, "image"),
        ({"image": "sample_none", "mask": "nonsense", "model": "tiny-holes"}, "mask"),
        ({"image": "img_none", "task": "generate"}, "task"),
        ({"image": {"file_id": "a", "image_url": "b"}}, "image"),
    ],
)
def test_what_is_wrong_with_an_edit(client: openai.OpenAI, body: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{client.base_url}images/edits", json=body, timeout=60)
    assert answer.status_code in (400, 404), answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["message"]
