"""Image-conditional CCoopNets: what its tasks must keep."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from models.core.loop import run, run_together
from models.core.model import LoadedModel
from models.core.noise import Key, Noise
from models.data.images import to_float
from models.networks.unet import UNet
from models.samplers.langevin import langevin
from models.systems.ccoopnets.images.calibration import calibrate
from models.systems.ccoopnets.images.conditions import condition_of
from models.systems.ccoopnets.images.model import ImageCCoopNets
from models.systems.ccoopnets.images.networks import PairSolver
from tests.models.image_models import (
    CPU,
    job,
    line_art,
    pairs,
    trainer_of,
)

# Inpainting


def test_refinement_of_hidden_pixels_given_the_others() -> None:
    """C12: f = -Y^T K Y / 2, K = [[1, -.5], [-.5, 1]], Y_2 = 1 visible: Y_1 goes to .5."""
    k = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
    step = langevin(lambda rows: -0.5 * (rows["y"].flatten(1) @ k * rows["y"].flatten(1)).sum(1))
    y = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    for eta, steps, expected in ((1.0, 1, 0.5), (0.5, 10, 0.5 * (1 - 2**-10))):
        rows = {"y": y, "eta": one * eta, "rho": one * 0, "tau": one * 0, "mask": mask}
        for t in range(steps):
            rows = step(rows, torch.tensor([t]), Noise([Key(0, 0, t)]))
        assert float(rows["y"][0, 0, 0, 0]) == pytest.approx(expected, abs=1e-12)
        assert torch.equal(rows["y"][..., 1], y[..., 1])


def one_pixel() -> Tensor:
    mask = torch.zeros(1, 64, 64)
    mask[0, 10, 20] = 1
    return mask


@pytest.mark.parametrize("mask", [one_pixel(), torch.zeros(1, 64, 64), torch.ones(1, 64, 64)])
def test_shown_pixels_stay_bit_for_bit(inpainter: LoadedModel, mask: Tensor) -> None:
    request = job("inpaint", mask=mask, noise=0.1)
    images = run(inpainter.start("inpaint", request)).images
    assert images is not None
    shown = (mask == 0).expand(2, 3, 64, 64)
    assert torch.equal(images[shown], request.image.expand(2, 3, 64, 64)[shown])
    if mask.any():
        hidden = images[~shown].reshape(2, -1)
        assert (hidden[0] - hidden[1]).abs().max() > 1e-4  # each result by its own noise


def test_what_is_hidden_has_no_influence(inpainter: LoadedModel) -> None:
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:40, 20:40] = 1
    request = job("inpaint", mask=mask)
    other = job("inpaint", mask=mask, image=torch.where(mask > 0, -request.image, request.image))
    first, second = (run(inpainter.start("inpaint", r)).images for r in (request, other))
    assert torch.equal(first, second)  # type: ignore[arg-type]


def test_the_condition_marks_its_hidden_pixels() -> None:
    y = torch.full((1, 3, 2, 2), 0.5)
    mask = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    c = condition_of(y, mask)
    assert c[0, :, 0, 0].tolist() == [0, 0, 0, 1]
    assert c[0, :, 1, 1].tolist() == [0.5, 0.5, 0.5, 0]


# Translation


def test_light_lines_on_a_dark_ground_are_turned_round(translator: LoadedModel) -> None:
    drawing = torch.ones(1, 64, 64)
    drawing[:, 20:24, 10:50] = -1
    plain, chalk = (run(translator.start("translate", job("translate", image=c))) for c in (drawing, -drawing))
    assert torch.equal(plain.images, chalk.images)  # type: ignore[arg-type]
    assert not plain.warnings
    assert "inverted" in chalk.warnings[0]
    filled = torch.ones(1, 64, 64)
    filled[:, 4:60, 4:60] = -1  # a dark object on a light ground is no drawing in chalk
    assert not run(translator.start("translate", job("translate", image=filled))).warnings


# Interpolation


@pytest.mark.parametrize("mix", ["pixels", "energy"])
def test_the_ends_are_the_plain_translations(translator: LoadedModel, mix: str) -> None:
    """C13."""
    ends = [line_art(1), line_art(2)]
    frames = run(translator.start("interpolate", job("interpolate", images=ends, n=5, mix=mix))).images
    plain = [run(translator.start("translate", job("translate", image=c, n=1))).images for c in ends]
    assert frames is not None
    torch.testing.assert_close(frames[:1], plain[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(frames[-1:], plain[1], atol=1e-5, rtol=0)
    other = run(translator.start("translate", job("translate", image=ends[1], n=1, seed=2))).images
    assert (frames[-1:] - other).abs().max() > 1e-3  # another seed would be seen


def test_neighbouring_frames_are_nearer_than_the_ends(translator: LoadedModel) -> None:
    frames = run(
        translator.start("interpolate", job("interpolate", images=[line_art(1), line_art(2)], n=6, mix="pixels"))
    ).images
    assert frames is not None
    steps = (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))
    assert float(steps.max()) < 3 * float(steps.mean())
    assert float(steps.max()) < float((frames[-1] - frames[0]).abs().mean())


# Many jobs in one batch


def test_the_film_goes_from_the_proposal_to_the_result(translator: LoadedModel) -> None:
    common = {"image": line_art(1), "noise": 0.1}
    filmed = run(translator.start("translate", job("translate", **common, animate=True)))
    assert filmed.film is not None
    assert filmed.film.shape == (2, 5, 3, 64, 64)  # before each of four steps, and after the last
    proposed = run(translator.start("translate", job("translate", **common, refine=False))).images
    torch.testing.assert_close(filmed.film[:, 0], proposed, atol=0, rtol=0)
    plain = run(translator.start("translate", job("translate", **common))).images
    assert torch.equal(filmed.film[:, -1], plain)
    assert torch.equal(filmed.images, plain)


def test_jobs_driven_together_are_the_same_as_alone(translator: LoadedModel) -> None:
    jobs = [job("translate", image=line_art(k), seed=k, n=1 + k % 2) for k in range(3)]
    together = run_together([translator.start("translate", one) for one in jobs])
    for one, found in zip(jobs, together, strict=True):
        torch.testing.assert_close(found.images, run(translator.start("translate", one)).images, atol=1e-5, rtol=0)


def test_only_jobs_with_the_same_loops_can_be_driven_together(translator: LoadedModel) -> None:
    jobs = [job("translate", image=line_art(1), steps=steps) for steps in (2, 3)]
    with pytest.raises(ValueError, match="same kernels"):
        run_together([translator.start("translate", one) for one in jobs])


# Score


def test_a_score_is_the_value_of_the_picture(translator: LoadedModel, inpainter: LoadedModel) -> None:
    image, c = job("translate").image, line_art(3).abs()
    found = run(translator.start("score", job("score", image=image, condition=c, mask=None, steps=0)))
    assert found.images is None
    with torch.no_grad():
        assert found.numbers["f"][0] == pytest.approx(float(translator.kernels.solver(image[None], c[None])), rel=1e-5)
    square, given = torch.zeros(1, 64, 64), job("score", image=image, condition=None, mask=None, steps=3)
    square[:, 16:48, 16:48] = 1
    default = run(inpainter.start("score", given))
    assert run(inpainter.start("score", dataclasses.replace(given, mask=square))).numbers == default.numbers
    (trace,) = default.numbers["trace"]
    assert len(trace) == 4
    assert trace[0] == default.numbers["f"][0]
    assert trace[-1] > trace[0]  # the refinement climbs


def test_a_score_is_set_against_held_out_pairs(translator: LoadedModel) -> None:
    data = pairs(20)
    calibration = calibrate(translator.kernels, data)
    assert calibration["pooled"]["images"] == 20
    kernels = ImageCCoopNets(translator.kernels.config, *trainer_networks(), calibration, CPU)
    known = dataclasses.replace(translator, kernels=kernels)
    assert data.conditions is not None
    scores = []
    for y, c in zip(to_float(data.images), to_float(data.conditions), strict=True):
        numbers = run(known.start("score", job("score", image=y, condition=c, mask=None, steps=0))).numbers
        scores.append((numbers["calibrated"][0], numbers["percentile"][0]))
    calibrated = torch.tensor(scores, dtype=torch.float64)
    assert float(calibrated[:, 0].mean()) == pytest.approx(0, abs=1e-3)
    assert float(calibrated[:, 0].std()) == pytest.approx(1, abs=1e-3)
    assert float(calibrated[:, 1].min()) < 6
    assert float(calibrated[:, 1].max()) > 94


def trainer_networks() -> tuple[UNet, PairSolver]:
    """The networks of :func:`model_of`, before they are folded."""
    trainer = trainer_of("small-emoji")
    unet, solver = trainer.initializer.served, trainer.solver.served
    assert isinstance(unet, UNet)
    assert isinstance(solver, PairSolver)
    return unet, solver
