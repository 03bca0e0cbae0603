"""Requests as tasks take them: fields, tensors, and the way back to the picture's size."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.core.jobs import JOBS
from models.core.model import Tasks
from models.data.images import to_uint8
from pictures.budget import ByteBudget
from pictures.decoding import read
from pictures.files import PictureLimits
from pictures.lightness import LIGHTNESS
from pictures.png import png_of
from service.contract.cards import ModelCard
from service.contract.errors import NotFoundError, UnprocessableError
from service.contract.jobs import TASKS, Inputs, JobRequest
from service.pictures.blobs import Blobs
from service.pictures.fitting import fit
from service.pictures.places import shelf_key
from service.pictures.surfaces import fit_surface
from surfaces.mesh import MeshLimits
from surfaces.placing import Placing
from tests.hostile.corpus import encoded, noise
from tests.service.fakes import card, cards
from workers.jobs.inputs import BUILDERS, Prepared, prepare
from workers.jobs.pictures import picture_of

FACTOR = {"factor": {"type": "integer", "default": 2, "range": [2, 4], "description": "How many times."}}
DECODER = card(
    "toy-decoder",
    classes=None,
    image={"height": 8, "width": 8, "channels": 3},
    tasks={"upscale": {**card()["tasks"]["generate"], "options": FACTOR}, "colorize": card()["tasks"]["generate"]},
)
COLOURS = card(
    "toy-colours",
    classes=None,
    image={"height": 8, "width": 8, "channels": 3},
    tasks={
        "colorize": {**card()["tasks"]["generate"], "lightness": "cielab"},
        "embed": card()["tasks"]["generate"],
    },
)
CARDS = {content["name"]: ModelCard.model_validate(content) for content in [*cards(), DECODER, COLOURS]}
LIMITS, BUDGET = PictureLimits(2**22, 2**24), ByteBudget(2**24)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def _flat(names: dict[str, Any], pictures: dict[str, Any]) -> Iterator[tuple[str, Image.Image]]:
    for name, given in pictures.items():
        if isinstance(given, list):
            yield from zip(names[name], given, strict=True)
        else:
            yield name, given


def prepared(blobs: Blobs, task: str, model: str, pictures: dict[str, Any], **fields: Any) -> Any:
    """A job whose pictures are stored as the API stores them; Any, since each task's job has its own fields."""
    return requested(blobs, task, model, pictures, **fields)[1]


def requested(
    blobs: Blobs, task: str, model: str, pictures: dict[str, Any], **fields: Any
) -> tuple[JobRequest, Prepared]:
    """The resolved request, and the same prepared."""
    names = {
        name: [f"{name}.{k}" for k in range(len(given))] if isinstance(given, list) else name
        for name, given in pictures.items()
    }
    given = {name: read(encoded(picture, "PNG"), LIMITS) for name, picture in _flat(names, pictures)}
    request = TASKS[task].model_validate({"model": model, "seed": 1, **names, **fields})
    params, _ = request.resolve(CARDS[model])
    inputs = kept(blobs, params, CARDS[model], given)
    return params, prepare(inputs, params, CARDS[model], blobs, BUDGET)


def kept(blobs: Blobs, request: JobRequest, card: ModelCard, given: dict[str, Image.Image]) -> Inputs:
    """Pictures fitted and stored, as the API does."""
    fitted = fit(request, card, given, 10**6)
    for name, picture in (fitted.pictures | fitted.restore).items():
        blobs.put(shelf_key(f"{name}-1"), png_of(picture))
    names = {name: f"{name}-1" for name in fitted.pictures | fitted.restore}
    return Inputs.model_validate_json(Inputs(pictures=names, frame=fitted.frame).model_dump_json())


def same(tensor: Tensor, picture: Image.Image) -> bool:
    return picture_of(tensor).tobytes() == picture.tobytes()


SERVICE = {
    "model",
    "output_format",
    "preview_every",
    "priority",
    "max_queue_seconds",
    "webhook",
    "fit",
    "restore",
    "latent_steps",
}
"""Fields of requests that are for the service, not for the model."""

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "generate": ("toy", {}, {"label": "Bag"}),
    "translate": ("toy-pairs", {"image": noise(8, 8)}, {"animate": True}),
    "inpaint": ("toy-holes", {"image": noise(8, 8), "mask": noise(8, 8, "L")}, {}),
    "denoise": ("toy-energy", {"image": noise(8, 8)}, {}),
    "upscale": ("toy-decoder", {"image": noise(2, 2)}, {"options": {"factor": 4}}),
    "colorize": ("toy-decoder", {"image": noise(8, 8)}, {}),
    "embed": ("toy-colours", {"image": noise(8, 8)}, {"n": 1}),
    "interpolate": ("toy-pairs", {"images": [noise(8, 8), noise(8, 8)]}, {"mix": "energy"}),
    "restyle": (
        "toy-classes",
        {"image": noise(8, 8)},
        {"label": "Bag", "labels": ["Coat"], "options": {"latent_steps": 7}},
    ),
    "reconstruct": ("toy-classes", {"image": noise(8, 8)}, {"label": "Bag", "options": {"latent_steps": 7}}),
    "score": ("toy-pairs", {"image": noise(8, 8), "condition": noise(8, 8)}, {"n": 1}),
}
"""For each task a model, pictures, and fields of its own."""


@pytest.mark.parametrize("task", TASKS)
def test_every_field_that_a_model_needs_reaches_its_job(blobs: Blobs, task: str) -> None:
    """By name, and unchanged unless it is a picture."""
    frames = {"animate"} if task == "interpolate" else set()  # of the frames as one file
    request_type, job_type = TASKS[task], JOBS[task]
    wanted = request_type.model_fields.keys() - SERVICE - frames
    assert wanted == {field.name for field in dataclasses.fields(job_type)}
    model, pictures, own = CASES[task]
    asked = {"n": 2, "steps": 3, "step_size": 0.5, "noise": 0.25, "refine": True, **own}
    request, job = requested(blobs, task, model, pictures, **asked)
    assert type(job.job) is job_type
    for field in wanted - request_type.pictures.keys():
        assert getattr(job.job, field) == getattr(request, field), field
    given = {field: getattr(job.job, field) for field in request_type.pictures}
    assert {field for field, value in given.items() if value is not None} >= set(pictures)


def test_a_surface_reaches_its_job_with_its_gaps_and_its_place(blobs: Blobs) -> None:
    solids = CARDS["toy-solids"]
    given: list[float | None] = [2 * (4 * torch.pi) ** 0.5, None, *[1.0] * 14]
    params, _ = TASKS["denoise"].model_validate({"model": "toy-solids", "seed": 1, "surface": given}).resolve(solids)
    assert solids.surface is not None
    fitted = fit_surface("surface", given, solids.surface, MeshLimits(2**20, 100))
    blobs.put(shelf_key("surface-1"), fitted.file)
    inputs = Inputs.model_validate_json(Inputs(surface="surface-1", placing=fitted.placing).model_dump_json())
    found = prepare(inputs, params.with_pictures({"surface": fitted.ref}), solids, blobs, BUDGET)
    job: Any = found.job
    assert (job.image, job.surface.dtype, job.surface.shape) == (None, torch.float32, (16,))
    assert job.surface[[0, 2]].tolist() == pytest.approx([(4 * torch.pi) ** 0.5, 0.5])
    assert job.surface.isnan().tolist() == [k == 1 for k in range(16)]
    assert found.placing == Placing((0.0, 0.0, 0.0), pytest.approx(2))
    other = ModelCard.model_validate({**solids.model_dump(), "surface": {"degrees": 5}})
    with pytest.raises(NotFoundError, match="has changed since the surface was sent"):
        prepare(inputs, params, other, blobs, BUDGET)


def test_every_task_has_a_job_and_a_builder() -> None:
    assert list(TASKS) == list(JOBS) == list(BUILDERS) == list(Tasks.__annotations__)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_condition_has_the_shape_of_the_card(blobs: Blobs, mode: str) -> None:
    image = prepared(blobs, "translate", "toy-pairs", {"image": noise(8, 8, mode)}).job.image
    assert (image.shape, image.dtype) == ((1, 8, 8), torch.float32)
    assert -1 <= image.min() < image.max() <= 1


def test_every_level_survives_the_way_through_the_model(blobs: Blobs) -> None:
    ramp = Image.frombytes("L", (16, 16), bytes(range(256)))
    card = CARDS["toy-pairs"].model_copy(
        update={"condition": CARDS["toy"].image.model_copy(update={"width": 16, "height": 16})}
    )
    request, _ = TASKS["translate"](model="toy-pairs", image="x").resolve(card)  # type: ignore[call-arg]
    inputs = kept(blobs, request, card, {"image": ramp})
    image = getattr(prepare(inputs, request, card, blobs, BUDGET).job, "image")  # noqa: B009 (typed as Job)
    assert to_uint8(image).flatten().tolist() == list(range(256))
    assert same(image, ramp)


def test_a_picture_to_enlarge_is_not_scaled(blobs: Blobs) -> None:
    small = noise(4, 4)
    assert same(prepared(blobs, "upscale", "toy-decoder", {"image": small}).job.image, small)
    for size, factor in (((8, 8), 2), ((4, 2), 2), ((4, 4), 4)):
        with pytest.raises(UnprocessableError, match=rf"to be enlarged {factor} times it must have {8 // factor}x"):
            prepared(blobs, "upscale", "toy-decoder", {"image": noise(*size)}, options={"factor": factor})
    with pytest.raises(UnprocessableError, match="8x8 pixels, which 3 does not divide"):
        prepared(blobs, "upscale", "toy-decoder", {"image": small}, options={"factor": 3})


def test_of_a_picture_to_colour_the_lightness_is_taken(blobs: Blobs) -> None:
    picture = noise(16, 16)
    job = prepared(blobs, "colorize", "toy-decoder", {"image": picture}).job
    assert same(job.image, picture.convert("L").resize((8, 8), Image.Resampling.LANCZOS))


def test_a_model_of_colours_is_given_and_keeps_the_lightness_of_cielab(blobs: Blobs) -> None:
    """A grey of L* = 53.24, which is 127 of 255, and not the luma of red, which is 76."""
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    ready = requested(blobs, "colorize", "toy-colours", {"image": red}, restore=True)[1]
    assert set(((ready.job.image + 1) * 127.5).round().flatten().tolist()) == {127.0}
    assert ready.restore
    with ready.restore.opened() as restored:
        blue, own = (restored(Image.new("RGB", (8, 8), colour)) for colour in ((30, 60, 200), (255, 0, 0)))
    assert own.getpixel((3, 3)) == (255, 0, 0)
    assert LIGHTNESS["cielab"].grey(blue).getextrema() == (127, 127)
    assert blue.getpixel((3, 3))[2] > blue.getpixel((3, 3))[0] + 50


@pytest.mark.parametrize("size", [(8, 8), (32, 24)])
def test_coloured_pictures_have_the_lightness_of_what_was_sent(blobs: Blobs, size: tuple[int, int]) -> None:
    """Also at its own size, where a result is scaled."""
    picture, result = noise(*size), noise(8, 8).rotate(90)
    restore = requested(blobs, "colorize", "toy-decoder", {"image": picture}, restore=True)[1].restore
    assert restore
    with restore.opened() as restored:
        full = restored(result)
    assert full.size == size
    grey, wanted = (np.asarray(one.convert("L"), dtype=int) for one in (full, picture))
    assert np.abs(grey - wanted).max() <= 1
    assert len(set(full.convert("HSV").getchannel("S").tobytes())) > 20  # it is coloured


def test_a_list_of_pictures_is_a_list_of_tensors(blobs: Blobs) -> None:
    first, second = noise(8, 8, "L"), noise(8, 8, "L").rotate(90)
    job = prepared(blobs, "interpolate", "toy-pairs", {"images": [first, second]}).job
    assert [same(image, given) for image, given in zip(job.images, (first, second), strict=True)] == [True, True]
    assert (job.n, job.mix, job.labels) == (4, "pixels", None)


def test_labels_are_lists_of_weights(blobs: Blobs) -> None:
    job = prepared(blobs, "restyle", "toy-classes", {"image": noise(28, 28)}, labels=["bag", {"Bag": 1, "Coat": 3}]).job
    assert job.labels == [{"Bag": 1.0}, {"Bag": 0.25, "Coat": 0.75}]
    assert (job.label, job.options, job.image.shape) == (None, {"latent_steps": 20}, (1, 28, 28))
    every = prepared(blobs, "restyle", "toy-classes", {"image": noise(28, 28)}).job
    assert every.labels == [{"Bag": 1.0}, {"Coat": 1.0}, {"Sneaker": 1.0}]


def test_a_mask_is_one_where_it_is_white(blobs: Blobs) -> None:
    mask = Image.frombytes("L", (8, 8), bytes([0, 127, 128, 255] * 16))
    job = prepared(blobs, "inpaint", "toy-holes", {"image": noise(8, 8), "mask": mask}).job
    assert (job.mask.shape, job.mask.dtype) == ((1, 8, 8), torch.float32)
    assert job.mask.flatten().tolist() == [0, 0, 1, 1] * 16
    shown = job.mask[0] == 0
    assert torch.equal(to_uint8(job.image)[:, shown], to_uint8(tensor_of(noise(8, 8)))[:, shown])


def tensor_of(picture: Image.Image) -> Tensor:
    pixels = torch.tensor(list(picture.get_flattened_data()), dtype=torch.float32)
    return (pixels / 127.5 - 1).T.reshape(-1, picture.height, picture.width)


@pytest.mark.parametrize("hidden", ["none", "one", "all"])
def test_any_pixels_may_be_hidden(blobs: Blobs, hidden: str) -> None:
    mask = Image.new("1", (8, 8), hidden == "all")
    if hidden == "one":
        mask.putpixel((3, 5), 1)
    found = prepared(blobs, "inpaint", "toy-holes", {"image": noise(8, 8), "mask": mask}).job.mask
    assert found.sum() == {"none": 0, "one": 1, "all": 64}[hidden]
    assert hidden != "one" or found[0, 5, 3] == 1


def test_without_a_mask_transparency_is_the_mask(blobs: Blobs) -> None:
    picture = noise(8, 8, "RGB").convert("RGBA")
    picture.putalpha(Image.frombytes("L", (8, 8), bytes([0, 127, 128, 255] * 16)))
    job = prepared(blobs, "inpaint", "toy-holes", {"image": picture}).job
    assert job.mask.flatten().tolist() == [1, 1, 0, 0] * 16


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
def test_nothing_hidden_shows_in_the_pixels_beside_it(blobs: Blobs, fit: str) -> None:
    """Two pictures that differ in their hidden pixels alone are the same to the model, at any scale."""
    mask = Image.new("L", (50, 30), 0)
    mask.paste(255, (20, 10, 31, 17))
    one, other = noise(50, 30), noise(50, 30)
    other.paste("black", mask=mask)
    jobs = [prepared(blobs, "inpaint", "toy-holes", {"image": p, "mask": mask}, fit=fit).job for p in (one, other)]
    assert torch.equal(jobs[0].image, jobs[1].image)
    assert torch.equal(jobs[0].mask, jobs[1].mask)
    assert 0 < jobs[0].mask.sum() < 64


def test_a_score_takes_what_its_model_knows(blobs: Blobs) -> None:
    pair = prepared(blobs, "score", "toy-pairs", {"image": noise(8, 8), "condition": noise(9, 9)}).job
    assert (pair.image.shape, pair.condition.shape, pair.mask, pair.label) == ((3, 8, 8), (1, 8, 8), None, None)
    hole = prepared(blobs, "score", "toy-holes", {"image": noise(8, 8, "RGBA")}).job
    assert (hole.mask.shape, hole.condition) == ((1, 8, 8), None)
    labelled = prepared(blobs, "score", "toy-classes", {"image": noise(8, 8)}, label=1).job
    assert (labelled.label, labelled.mask, labelled.steps, labelled.n) == ({"Coat": 1.0}, None, 0, 1)


def test_a_picture_that_is_gone_is_named(blobs: Blobs) -> None:
    request, _ = TASKS["translate"](model="toy-pairs", image="x").resolve(CARDS["toy-pairs"])  # type: ignore[call-arg]
    with pytest.raises(NotFoundError, match=r"image: .* send it again"):
        prepare(Inputs(pictures={"image": "gone-1"}), request, CARDS["toy-pairs"], blobs, BUDGET)


def test_a_picture_of_another_shape_is_not_decoded(blobs: Blobs) -> None:
    """The model was changed under its name: what is opened in a worker is bounded by the model's shape."""
    request, _ = TASKS["translate"](model="toy-pairs", image="x").resolve(CARDS["toy-pairs"])  # type: ignore[call-arg]
    blobs.put(shelf_key("large-1"), encoded(noise(9, 8, "L"), "PNG"))
    with pytest.raises(NotFoundError, match=r"image: toy-pairs@1 has changed .* send it again"):
        prepare(Inputs(pictures={"image": "large-1"}), request, CARDS["toy-pairs"], blobs, BUDGET)


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
def test_an_inpainted_picture_keeps_its_shown_bytes(blobs: Blobs, fit: str) -> None:
    picture, mask = noise(50, 30), Image.new("L", (50, 30), 0)
    mask.paste(255, (20, 10, 31, 17))
    ready = prepared(blobs, "inpaint", "toy-holes", {"image": picture, "mask": mask}, fit=fit, restore=True)
    assert ready.restore is not None
    with ready.restore.opened() as restored:
        back = restored(Image.new("RGB", (8, 8), "red"))
        assert BUDGET.taken > 0
    assert BUDGET.taken == 0
    expected = picture.copy()
    expected.paste("red", mask=mask)
    assert back.tobytes() == expected.tobytes()


def test_a_translated_picture_comes_back_to_its_size(blobs: Blobs) -> None:
    for how, red in {"cover": 30 * 30, "contain": 50 * 30, "stretch": 50 * 30}.items():
        ready = prepared(blobs, "translate", "toy-pairs", {"image": noise(50, 30, "L")}, fit=how, restore=True)
        assert ready.restore is not None
        with ready.restore.opened() as restored:
            back = restored(Image.new("RGB", (8, 8), (255, 0, 7)))
        assert (back.mode, back.size) == ("RGB", (50, 30))
        assert sum(pixel == (255, 0, 7) for pixel in back.get_flattened_data()) == red


def test_every_task_s_pictures_are_declared() -> None:
    """A field that takes a picture, but is not declared as one, would reach the model as text."""
    for task in TASKS.values():
        schema = task.model_json_schema()["properties"]
        takes = {name for name, field in schema.items() if "POST /v1/images" in field.get("description", "")}
        assert takes == set(task.pictures), task.task
        assert issubclass(task, JobRequest)
