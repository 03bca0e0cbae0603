"""What a progressive GAN can do whose latents are solved for."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from models.core.jobs import Job
from models.core.loop import run
from models.core.model import LoadedModel
from models.core.output import Output
from models.data.images import ImageData, to_uint8
from models.evaluation.cogeneration import blocks, inpainting, upscaling
from models.evaluation.energy_figures import EnergyBench
from models.evaluation.jobs import defaults_for
from models.samplers.observation import grayscale
from models.systems.aishmc.abilities import abilities
from models.systems.aishmc.calibration import calibrate
from models.systems.aishmc.model import GanModel
from models.systems.aishmc.presets import PRESETS
from models.systems.aishmc.tasks.answers import effective_size, picked
from models.systems.registry import load_from
from service.contract.cards import TaskCard
from service.contract.options import cost_of
from tests.models.zoo import CPU, ZOO, job, tiny_model

COLOUR = "aishmc-colour"
GREY = "aishmc"


def made(task: str, name: str = COLOUR, options: dict[str, Any] | None = None, **changes: Any) -> Output:
    return run(tiny_model(name).start(task, job(name, task, options=options or {}, **changes)))


def drawn(name: str = COLOUR, n: int = 1) -> Tensor:
    """Images that the model itself makes."""
    images = run(tiny_model(name).start("generate", job(name, "generate", n=n, seed=9))).images
    assert images is not None
    return images


def images_of(output: Output) -> Tensor:
    assert output.images is not None
    return output.images


@pytest.mark.parametrize("name", [GREY, COLOUR])
@pytest.mark.parametrize("solver", ["ais_hmc", "gd_single", "gd_multi"])
def test_known_pixels_come_back_bit_for_bit(name: str, solver: str) -> None:
    """Also where the network is larger than the data; what was hidden does not show."""
    truth = drawn(name)[0]
    mask = torch.zeros(1, *truth.shape[1:])
    mask[:, 2:7, 3:9] = 1
    first = made("inpaint", name, {"solver": solver}, image=truth, mask=mask)
    other = made("inpaint", name, {"solver": solver}, image=torch.where(mask > 0, -truth, truth), mask=mask)
    result, decoded = images_of(first), first.extras["decoded"]
    assert torch.equal(torch.where(mask > 0, 0, result), torch.where(mask > 0, 0, truth).expand(2, -1, -1, -1))
    assert torch.equal(torch.where(mask > 0, result, 0), torch.where(mask > 0, decoded, 0))
    assert torch.equal(result, images_of(other))
    assert not torch.equal(result[0], result[1])


def test_where_all_is_hidden_images_are_drawn_freely() -> None:
    everything = torch.ones(1, 16, 16)
    output = made("inpaint", image=drawn()[0], mask=everything, seed=3)
    assert torch.equal(images_of(output), images_of(made("generate", seed=3)))
    assert "all pixels are hidden" in output.warnings[0]


def test_where_nothing_is_hidden_the_image_comes_back() -> None:
    image = drawn()[0]
    output = made("inpaint", image=image, mask=torch.zeros(1, 16, 16), n=1)
    assert torch.equal(images_of(output)[0], image)


ENOUGH = {"temperatures": 120, "leapfrogs": 8, "sigma": 0.1, "chains": 4, "select": "best_obs", "step_sizes": "row"}


def test_images_of_the_model_are_found_again() -> None:
    """Far nearer than another image of the model is, though few temperatures are taken."""
    truth, other = drawn(n=2)
    output = made("reconstruct", options=ENOUGH, image=truth, n=1)
    assert output.numbers["residual"][0] < float((truth - other).square().mean()) / 4
    assert len(output.numbers["chain_energies"][0]) == len(output.numbers["chain_log_weights"][0]) == 4
    assert output.numbers["gradients"] == [120 * 8 + 1]
    model = tiny_model(COLOUR).kernels
    assert isinstance(model, GanModel)
    again = model.pictures(model.decode(torch.tensor(output.numbers["latent"]), {}))
    torch.testing.assert_close(again, images_of(output), atol=1e-4, rtol=0)
    assert output.energy is not None
    assert float(output.energy[0]) in [pytest.approx(e) for e in output.numbers["chain_energies"][0]]


def test_an_enlarged_picture_averages_to_what_was_sent() -> None:
    truth, other = drawn(n=2)
    small = torch.nn.functional.avg_pool2d(truth, 2)
    output = made("upscale", options={**ENOUGH, "factor": 2}, image=small, n=1)
    again = torch.nn.functional.avg_pool2d(images_of(output), 2)
    chance = (torch.nn.functional.avg_pool2d(other, 2) - small).square().mean()
    assert (again - small).square().mean() < chance / 4


def test_a_coloured_picture_has_the_lightness_that_was_sent() -> None:
    grey = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    output = made("colorize", image=grey)
    lightness = grayscale((3, 16, 16))(images_of(output))
    torch.testing.assert_close(lightness, grey.expand(2, -1, -1, -1), atol=1e-5, rtol=0)
    assert images_of(output).abs().max() <= 1
    assert (images_of(output)[:, 0] - images_of(output)[:, 1]).abs().max() > 0.05
    assert set(output.extras) == {"decoded"}


def test_grey_models_do_not_colour() -> None:
    assert "colorize" not in ZOO[GREY].card()["tasks"]
    assert ZOO[GREY].card()["tasks"]["upscale"]["options"]["factor"]["range"] == [2, 6]


def test_the_evidence_of_an_image_is_a_bound_that_tells_images_of_the_model() -> None:
    own, strange = drawn()[0], torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    options = {"temperatures": 40, "leapfrogs": 5, "sigma": 0.2, "chains": 4}
    mine, theirs = (made("score", options=options, image=image, n=1) for image in (own, strange))
    assert mine.numbers["log_evidence"][0] > theirs.numbers["log_evidence"][0] + 100
    assert mine.numbers["log_evidence"][0] < 3 * 256 * -math.log(0.2 * math.sqrt(2 * math.pi))  # of a perfect match
    assert mine.energy is not None
    assert float(mine.energy[0]) == pytest.approx(-mine.numbers["log_evidence"][0])
    assert mine.numbers["per_scalar"][0] == pytest.approx(mine.numbers["log_evidence"][0] / 768)
    assert mine.numbers["gradients"] == [4 * 201]


def test_results_are_chosen_among_the_chains_of_each() -> None:
    rows = {"misfit": torch.tensor([3.0, 1.0, 2.0, 5.0]), "w": torch.tensor([0.0, -50.0, -50.0, 0.0])}
    seeds = [1, 2]
    assert picked(rows, "best_obs", seeds, 2).tolist() == [1, 2]
    assert picked(rows, "best_weight", seeds, 2).tolist() == [0, 3]
    assert picked(rows, "resample", seeds, 2).tolist() == [0, 3]
    assert picked(rows, "all", [1, 2, 3, 4], 1).tolist() == [0, 1, 2, 3]
    even = {"misfit": torch.zeros(400), "w": torch.zeros(400)}
    share = (picked(even, "resample", list(range(200)), 2) % 2).double().mean()
    assert share == pytest.approx(0.5, abs=0.12)
    assert effective_size(rows["w"].double()) == pytest.approx(2)


def test_without_weights_the_nearest_chain_is_taken() -> None:
    options = {"solver": "gd_single", "select": "best_weight"}
    output = made("reconstruct", options=options)
    assert "without weights" in output.warnings[0]
    assert "log_weight" not in output.numbers
    assert torch.equal(images_of(output), images_of(made("reconstruct", options={**options, "select": "best_obs"})))


def test_the_target_of_the_authors_code_is_there() -> None:
    output = made("reconstruct", options={"target": "tempered_paper"})
    assert "log_weight" not in output.numbers
    assert not torch.equal(images_of(output), images_of(made("reconstruct")))


@cache
def calibrated() -> dict[str, Any]:
    kernels = tiny_model(COLOUR).kernels
    assert isinstance(kernels, GanModel)
    data = ImageData(to_uint8(drawn(n=3)), None, (), "own")
    return calibrate(kernels, data, gradients=40, temperatures=15)


def test_a_calibration_measures_sigma_and_step_sizes() -> None:
    found = calibrated()
    assert found["images"] == 3
    assert 0.05 <= found["sigma"] < math.sqrt(found["spread"])
    assert found["step_sizes"].keys() == ZOO[COLOUR].card()["tasks"].keys() - {"generate"}
    for table in found["step_sizes"].values():
        assert table[-1] < table[0]
        assert all(1e-5 < size <= 0.5 for size in table)


def test_a_calibrated_model_runs_no_pilot_and_takes_its_sigma() -> None:
    tiny = ZOO[COLOUR]
    model: LoadedModel = load_from({**tiny.card(), "calibration": calibrated()}, tiny.weights(), CPU)
    assert stages(tiny_model(COLOUR), job(COLOUR, "inpaint", options={"step_sizes": "table"})) == {
        "pilot",
        "start",
        "ais_hmc",
        "finish",
    }
    assert stages(model, job(COLOUR, "inpaint", options={"step_sizes": "table"})) == {"start", "ais_hmc", "finish"}
    output = run(model.start("score", job(COLOUR, "score", n=1, options={"sigma": 0.0})))
    assert output.numbers["sigma"] == [calibrated()["sigma"]]


def stages(model: LoadedModel, asked: Job) -> set[str]:
    found: set[str] = set()
    run(model.start("inpaint", asked), watch=lambda loop, step, rows: found.add(loop.name))
    return found


def test_solvers_are_measured_with_equally_many_gradients() -> None:
    model = tiny_model(COLOUR)
    few = {"temperatures": 3, "leapfrogs": 2, "starts": 16}
    tasks = {task: defaults_for(model, task) for task in model.tasks}
    tasks = {task: {**own, "options": {**own["options"], **few}} for task, own in tasks.items()}
    data = ImageData(to_uint8(drawn(n=4)), None, (), "own")
    bench = EnergyBench(model, tasks, data, data, data, None, {})
    for report, error in ((inpainting(bench, data, 4), "hidden_mse"), (upscaling(bench, data, 4, 4), "mse")):
        assert (report["images"], report["gradients"]) == (4, 7)
        first = report["ais_hmc"][error]["value"]
        for solver in ("gd_single", "gd_multi"):
            difference = report[solver][error]["value"] - first
            assert difference != 0
            assert report["paired"][solver]["value"] == pytest.approx(difference, abs=1e-6)


def test_holes_are_blocks_of_the_papers_size() -> None:
    masks = blocks(200, 128, 1)
    sides = torch.stack([masks.amax(3 - k).flatten(1).sum(1) for k in (0, 1)])
    assert (int(sides.min()), int(sides.max())) == (30, 60)
    assert torch.equal(masks.flatten(1).sum(1), sides.prod(0))
    assert torch.equal(blocks(3, 128, 1), masks[:3])


def test_a_polish_counts_towards_the_cost_of_a_job() -> None:
    """Two steps of generation a gradient, for each chain, as the gradients of the moves do."""
    task = TaskCard.model_validate(abilities(PRESETS["small-fashion32"])["inpaint"])
    values = {name: option.default for name, option in task.options.items()} | {"chains": 4}
    plain, polished = (
        cost_of(task.options, {**values, "polish": steps}, images=3, n=3, classes=1) for steps in (0, 100)
    )
    assert polished - plain == 2 * 100 * 4 * 3
