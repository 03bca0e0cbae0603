"""Models in a notebook: the same images as the service makes, the same errors, and samplers of one's own."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import coopserve
from coopserve.local import LocalModel
from coopserve.portraits import keep_portrait
from models.core.jobs import GenerateJob
from models.core.loop import Kernel, Rows, run
from models.core.noise import Noise
from models.samplers.langevin import Value, ascend, langevin
from service.contract.errors import ServiceError
from service.contract.jobs import TASKS
from service.pictures.samples import SAMPLES
from workers.jobs.pictures import pictures_of


@pytest.fixture(scope="module")
def fashion() -> LocalModel:
    return coopserve.load("fashion-ccoopnets", device="cpu")


def same(a: list[Image.Image], b: list[Image.Image]) -> bool:
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in zip(a, b, strict=True))


def test_four_sneakers(fashion: LocalModel) -> None:
    shoes = fashion.generate(label="Sneaker", n=4, seed=7)
    assert len(shoes) == 4
    assert all(image.size == (28, 28) and image.mode == "L" for image in shoes)
    assert shoes.energy is not None
    assert len(shoes.energy) == 4
    assert shoes.params is not None
    assert shoes.params.steps == fashion.card.tasks["generate"].defaults.steps  # what the card says
    assert same(list(shoes), fashion.generate(label="Sneaker", n=4, seed=7).pictures)
    assert not same(list(shoes), fashion.generate(label="Sneaker", n=4, seed=8).pictures)


def test_a_trajectory_leads_from_the_proposal_to_the_image(fashion: LocalModel) -> None:
    bags = fashion.generate(label="Bag", n=2, seed=7, steps=5)
    proposed = fashion.generate(label="Bag", n=2, seed=7, refine=False)
    assert [len(frames) for frames in bags.trajectory] == [6, 6]
    assert same([frames[0] for frames in bags.trajectory], proposed.pictures)
    assert same([frames[-1] for frames in bags.trajectory], bags.pictures)


def test_every_task_of_the_service_is_a_method() -> None:
    assert all(callable(getattr(LocalModel, task)) for task in TASKS)


def test_a_portrait_shows_what_a_model_makes(fashion: LocalModel, tmp_path: Path) -> None:
    model = copy(fashion)
    model.folder = tmp_path
    assert keep_portrait(model)
    with Image.open(tmp_path / "sample.png") as sheet:
        sheet.load()
    labels = [fashion.card.classes[k] for k in (0, 2, 5, 7)]  # type: ignore[index]
    assert sheet.size == (56, 56)
    for k, label in enumerate(labels):
        x, y = 28 * (k % 2), 28 * (k // 2)
        shown = sheet.crop((x, y, x + 28, y + 28))
        assert same([shown], [fashion.generate(label=label, seed=7)[0].convert("RGB")])


def test_a_sample_picture_is_named_by_its_id(fashion: LocalModel) -> None:
    options = {"latent_steps": 1}
    named = fashion.reconstruct(image="sample-shirt", options=options, seed=1)
    assert same(list(named), list(fashion.reconstruct(image=SAMPLES["sample-shirt"].draw(), options=options, seed=1)))


def test_pictures_come_as_images_files_and_bytes(fashion: LocalModel, tmp_path: Path) -> None:
    picture = fashion.generate(label="Coat", seed=1)[0]
    picture.save(tmp_path / "coat.png")
    given = [picture, tmp_path / "coat.png", str(tmp_path / "coat.png"), (tmp_path / "coat.png").read_bytes()]
    scores = [fashion.score(image=one, label="Coat", seed=1).numbers["f"] for one in given]
    assert len({tuple(score) for score in scores}) == 1


def test_an_image_with_a_hole_keeps_the_pixels_that_are_shown() -> None:
    noto = coopserve.load("noto-ccoopnets", device="cpu")
    picture = Image.fromarray(np.full((64, 64, 3), 200, np.uint8))
    mask = Image.fromarray(np.pad(np.full((16, 16), 255, np.uint8), 24))
    filled = noto.inpaint(image=picture, mask=mask, n=2, seed=3)
    shown = np.asarray(mask) == 0
    assert all((np.asarray(image)[shown] == 200).all() for image in filled)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda m: m.generate(label="Sofa"), "Sofa"),
        (lambda m: m.generate(n=0), "n"),
        (lambda m: m.generate(lable="Bag"), "lable"),
        (lambda m: m.translate(image=Image.new("L", (28, 28))), "translate"),
        (lambda m: m.score(image=b"no picture", label="Bag"), "image"),
        (lambda m: m.score(image="/no/such/file.png", label="Bag"), "can't be read"),
        (lambda m: m.score(image=3.5, label="Bag"), "float"),
        (lambda m: m.run("fly"), "fly"),
    ],
)
def test_what_the_service_refuses_is_refused_in_the_same_words(
    fashion: LocalModel, make: Callable[[LocalModel], object], says: str
) -> None:
    with pytest.raises(ServiceError, match=says):
        make(fashion)


def test_an_unknown_model_names_those_that_there_are() -> None:
    with pytest.raises(ServiceError, match="fashion-ccoopnets"):
        coopserve.load("no-such-model", device="cpu")


def test_the_models_own_sampler_given_by_hand_changes_nothing(fashion: LocalModel) -> None:
    asked = {"label": "Dress", "n": 2, "seed": 4, "steps": 6, "noise": 0.01}
    own, given = fashion.generate(**asked), fashion.generate(**asked, sampler=langevin)
    for a, b in zip(own, given, strict=True):  # the served drift may sum in another order
        np.testing.assert_allclose(np.asarray(a, int), np.asarray(b, int), atol=1)


def test_a_sampler_of_ones_own_takes_the_place_of_the_refinement(fashion: LocalModel) -> None:
    steps: list[int] = []

    def signs(value: Value) -> Kernel:
        def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
            steps.append(int(t[0]))
            return {**rows, "y": rows["y"] + 0.02 * ascend(value, rows).sign()}

        return step

    made = fashion.generate(label="Shirt", n=2, seed=5, steps=4, sampler=signs)
    assert steps == [0, 1, 2, 3]
    before = fashion.generate(label="Shirt", n=2, seed=5, refine=False)
    moved = np.abs(np.asarray(made[0], float) - np.asarray(before[0], float)) / 127.5
    assert 0 < moved.max() <= 4 * 0.02 + 0.01
    assert made.energy is not None
    assert before.energy is not None
    assert sum(made.energy) < sum(before.energy)  # signs of the gradient lead uphill in f


def test_watching_a_run_changes_nothing(fashion: LocalModel) -> None:
    made = fashion.generate(label="Bag", n=1, seed=7, steps=3)
    job = GenerateJob(n=1, seed=7, steps=3, step_size=1.0, noise=0.0, refine=True, label={"Bag": 1.0})
    alone = run(fashion.model.start("generate", job))
    assert alone.images is not None
    assert same(made.pictures, pictures_of(alone.images))
