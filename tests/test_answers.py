"""The benchmark of answers: one colour, one start, holes, and a linear probe."""

from __future__ import annotations

import pytest
import torch

from benchmarks.answers import by_steps, holes_of, linear, one_colour, one_start, probe
from models.data.images import ImageData
from models.evaluation.modes import questions
from models.systems.cgml.images.model import Cgml
from tests.models.zoo import images, pairs, tiny_model


def test_answers_of_one_start_are_one() -> None:
    model, q = tiny_model("cgml-translate"), questions("translate", pairs().fit(16).subset(slice(0, 2)))
    assert one_start(model, q, 2) == 0
    first, later = by_steps(model, q, [0, 3])
    assert first["diversity"] > 0
    assert first["l1_best"] <= first["l1_mean"]
    assert later["psnr_mean"] <= later["psnr_best"]


def test_one_colour_is_the_mean_of_what_is_seen() -> None:
    truth = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
    truth[..., 4:12, 4:12] = 200
    q = holes_of(questions("inpaint", ImageData(truth, None, (), "a frame")), 0.25)
    assert q.masks is not None
    assert int(q.masks.sum()) == 64
    assert one_colour(q)["l1_first"] == pytest.approx(100 / 127.5)


@pytest.mark.parametrize(("area", "pixels"), [(0.10, 400), (0.15, 625), (0.25, 1024)])
def test_holes_have_the_areas_of_the_paper(area: float, pixels: int) -> None:
    masks = holes_of(questions("inpaint", images(1, 64)), area).masks
    assert masks is not None
    assert int(masks.sum()) == pixels


def test_a_linear_probe_reads_what_is_linear() -> None:
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(1))
    labels = (x[:, 0] > 0).long()
    assert linear(x[:200], labels[:200], x[200:], labels[200:]) > 0.95


def test_vectors_are_probed_beside_random_ones_and_pixels() -> None:
    data, model = images(40, 12), tiny_model("cgml-colorize").kernels
    assert isinstance(model, Cgml)
    found = probe(model, data, data)
    assert {name: len(values) for name, values in found.items()} == {"trained": 5, "random": 5, "pixels": 5}
    assert min(found["pixels"]) > 0.9  # the very images that it was fitted to
