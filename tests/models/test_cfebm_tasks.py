"""What a CF-EBM model does: chains over several sizes, held pixels, noise of the schedule's tail, maps and films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from models.core.jobs import DenoiseJob
from models.core.loop import Loop, Rows, Task, run
from models.core.model import Model
from models.core.noise import Noise
from models.core.output import Output
from models.data.holes import centred_square
from models.data.unpaired import drop_pairs
from models.samplers.shortrun import shortrun
from models.systems.calibration import summary
from models.systems.cfebm.chain import split_steps
from models.systems.cfebm.generation.calibration import calibrate
from models.systems.cfebm.generation.model import EnergyModel
from models.systems.cfebm.generation.tasks.denoise import denoise
from models.systems.cfebm.translation import calibration as translation
from models.systems.cfebm.translation.model import CFEBMTranslation
from models.systems.cfebm.translation.tasks import shades
from tests.models.zoo import ZOO, domains, images, job, pairs, picture, tiny_model

loaded = cache(tiny_model)


def model_of(name: str) -> Any:
    return loaded(f"cfebm-{name}").kernels


def begin(name: str, task: str, model: Model | None = None, **changes: Any) -> Task[Output]:
    """A task of a model of the zoo, or of another model of its kind."""
    own = loaded(f"cfebm-{name}")
    return replace(own, kernels=model or own.kernels).start(task, job(f"cfebm-{name}", task, **changes))


def make(name: str, task: str, model: Model | None = None, **changes: Any) -> Output:
    return run(begin(name, task, model, **changes))


def loops_of(name: str, task: str, **changes: Any) -> list[Loop]:
    """The loops of a task, none of which is run."""
    model, found = model_of(name), []
    chain = begin(name, task, **changes)
    loop = next(chain)
    while True:
        found.append(loop)
        rows = dict(loop.rows)
        if loop.kernel is model.begin:
            rows["y"] = torch.zeros(len(loop.seeds), 1, model.energies[0].size, model.energies[0].size)
        if loop.kernel is model.finest.evaluate:
            rows["f"] = torch.zeros(len(loop.seeds))
        try:
            loop = chain.send(rows)
        except StopIteration:
            return found


def images_of(output: Output) -> Tensor:
    assert output.images is not None
    return output.images


def numbers(loops: Sequence[Loop], name: str) -> list[float]:
    """A number of the chain's loops, the same in all their rows."""
    found = [loop.rows[name].unique() for loop in loops]
    return [value.item() for value in found]


def test_the_noise_of_a_chained_job_falls_over_all_stages() -> None:
    _, *chain, _ = loops_of("chained", "generate", steps=45, noise=0.015)
    assert [loop.steps for loop in chain] == [15, 15, 15]
    assert numbers(chain, "k0") == [0, 15, 30]
    assert numbers(chain, "total") == [45, 45, 45]
    assert numbers(chain, "s0") == pytest.approx([0.015] * 3)
    assert [loop.rows["y"].shape[-1] for loop in chain] == [8, 16, 32]
    assert [loop.name for loop in chain] == ["8 px", "16 px", "32 px"]


def test_fewer_steps_are_a_shorter_chain_of_the_same_shape() -> None:
    _, *chain, _ = loops_of("chained", "generate", steps=5)
    assert [loop.steps for loop in chain] == [1, 2, 2]
    assert numbers(chain, "k0") == [0, 1, 3]
    assert numbers(chain, "total") == [5, 5, 5]
    assert [split_steps(steps, 3) for steps in (0, 45, 46)] == [[0, 0, 0], [15, 15, 15], [15, 15, 16]]


def test_a_single_energy_makes_the_image_alone() -> None:
    start, chain, _ = loops_of("single", "generate", steps=5)
    assert "y" not in start.rows
    assert (chain.steps, chain.rows["y"].shape[-1]) == (5, 16)


@pytest.mark.parametrize("name", ["chained", "single"])
def test_without_noise_only_the_start_is_random(name: str) -> None:
    """So one image continued from the same start by other seeds is the same."""
    model = model_of(name)
    rows = {**loops_of(name, "generate", noise=0.0)[1].rows}
    energy = model.energies[0]
    rows["y"] = torch.rand(1, 1, energy.size, energy.size).expand(2, -1, -1, -1).clone() * 2 - 1
    for _ in range(3):
        rows = energy.chain(rows, torch.zeros(2, dtype=torch.int64), cast("Noise", NoNoise()))
    assert torch.equal(rows["y"][0], rows["y"][1])
    assert not torch.equal(*images_of(make(name, "generate", noise=0.0)))


class NoNoise:
    def normal(self, *shape: int) -> torch.Tensor:
        raise AssertionError(f"noise of shape {shape} was drawn")


def test_noise_that_a_request_turns_off_is_off_at_the_end_of_the_chain_too() -> None:
    model = model_of("single")
    sampler = model.config.sampler.model_copy(update={"s0": 0.01, "s1": 0.01})
    constant = EnergyModel(model.config.model_copy(update={"sampler": sampler}), model.energies, {}, model.device)
    for noise, expected in ((0.005, 0.005), (0.02, 0.01)):
        chain = begin("single", "denoise", constant, noise=noise)
        assert next(chain).rows["s1"].unique().item() == pytest.approx(expected)
    assert not {"s0", "s1"} & next(begin("single", "denoise", constant, noise=0.0)).rows.keys()


@pytest.mark.parametrize("growth", ["chained", "single"])
def test_shown_pixels_come_back_bit_for_bit(growth: str) -> None:
    card = ZOO[f"cfebm-{growth}"].card()
    image, mask = picture(card["image"], 3), (picture(card["image"], 4)[:1] > 0.3).float()
    filled = images_of(make(growth, "inpaint", image=image, mask=mask, n=3, steps=6))
    shown = (mask == 0).expand_as(image)
    assert all(torch.equal(made[shown], image[shown]) for made in filled)
    assert all((made[~shown] != image[~shown]).float().mean() > 0.9 for made in filled)
    assert not torch.equal(filled[0], filled[1])


def test_coarse_pixels_are_held_only_where_all_that_they_cover_is_shown() -> None:
    model = model_of("chained")
    mask = torch.zeros(1, 28, 28)
    mask[0, 6, 6] = 1  # of the image; its border is of 2 pixels
    image = picture({"channels": 1, "height": 28, "width": 28})
    _, *chain, _ = loops_of("chained", "inpaint", image=image, mask=mask)
    held = {loop.rows["y"].shape[-1]: loop.rows["mask"][0, 0].nonzero().tolist() for loop in chain}
    assert held == {8: [[2, 2]], 16: [[4, 4]], 32: [[8, 8]]}
    whole = model.padded(image)
    for loop in chain:
        size = loop.rows["y"].shape[-1]
        pooled = torch.nn.functional.avg_pool2d(whole, 32 // size)
        shown = loop.rows["mask"][0] == 0
        assert torch.equal(loop.rows["y"][0][shown], pooled[shown])


def test_the_centred_square_hides_a_quarter() -> None:
    assert [centred_square(size).float().mean().item() for size in (8, 16, 28, 32)] == [0.25] * 4


def test_an_image_that_is_hidden_altogether_is_a_new_one() -> None:
    """Where there is no border around it, for that is known."""
    model = model_of("chained")
    config = model.config.model_copy(update={"image_size": 32})
    whole = EnergyModel(config, model.energies, {}, model.device)
    asked = {"image": torch.zeros(1, 32, 32), "mask": torch.ones(1, 32, 32), "steps": 6}
    filled = make("chained", "inpaint", whole, **asked)
    made = make("chained", "generate", whole, steps=6)
    assert torch.equal(images_of(filled), images_of(made))
    assert torch.equal(filled.energy, made.energy)


def test_denoising_runs_the_tail_of_the_schedule_under_the_finest_energy() -> None:
    chain, judged = loops_of("chained", "denoise", steps=10)
    finest = model_of("chained").finest
    assert (chain.kernel, judged.kernel) == (finest.chain, finest.evaluate)
    assert (numbers([chain], "k0"), numbers([chain], "total")) == ([35], [45])
    longer = loops_of("chained", "denoise", steps=60)[0]
    assert (numbers([longer], "k0"), numbers([longer], "total")) == ([0], [60])


@pytest.mark.parametrize(("steps", "error"), [(0, 0.0400), (2, 0.0355), (4, 0.0345), (10, 0.0458), (20, 0.0857)])
def test_the_number_of_steps_is_the_strength_of_denoising(steps: int, error: float) -> None:
    """Under the exact f = -x^2 / (2 * .25) with noise of .2; a tenth as large, so that no pixel is cut to [-1, 1]."""
    scale = 0.1
    random = torch.Generator().manual_seed(0)
    clean = scale * torch.randn(1, 1000, 1000, generator=random) / 2
    noisy = clean + scale * 0.2 * torch.randn(clean.shape, generator=random)

    def value(rows: Rows) -> Tensor:
        return -(rows["y"] / scale).square().flatten(1).sum(1) / (2 * 0.25)

    def evaluate(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        return {**rows, "f": value(rows)}

    model = SimpleNamespace(
        config=SimpleNamespace(steps=20, sampler=SimpleNamespace(lr=0.01 * scale**2, s1=0.0)),
        device=torch.device("cpu"),
        finest=SimpleNamespace(chain=shortrun(value), evaluate=evaluate),
        padded=lambda image: image,
        shown=lambda rows: rows["y"],
    )
    asked = DenoiseJob(n=1, seed=0, steps=steps, step_size=1.0, noise=0.0, refine=True, image=noisy)
    made = images_of(run(denoise(cast(EnergyModel, model), asked)))[0]
    assert ((made - clean) / scale).square().mean().item() == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize("growth", ["chained", "single"])
def test_a_score_is_set_against_held_out_images(growth: str) -> None:
    model, data = model_of(growth), images(40)
    found = calibrate(model, data)
    fitted = data.fit(model.config.image_size)
    f = model.log_density(fitted.images / 127.5 - 1)
    assert (found["data"], found["pooled"]["images"]) == ("random", 40)
    assert found["pooled"]["mean"] == pytest.approx(float(f.mean()), rel=1e-4)
    judge = EnergyModel(model.config, model.energies, found, model.device)
    by_f = f.argsort()
    percentiles = []
    for place in (0, 20, 39):
        output = make(growth, "score", judge, image=fitted.images[by_f[place]] / 127.5 - 1, steps=0)
        assert output.numbers["f"][0] == pytest.approx(float(f[by_f[place]]), abs=1e-5)
        assert output.energy.item() == -output.numbers["f"][0]
        assert "trace" not in output.numbers
        percentiles.append(output.numbers["percentile"][0])
    assert percentiles == pytest.approx([0, 51.3, 100], abs=1.5)


def test_the_slope_is_the_norm_of_the_gradient() -> None:
    model, image = model_of("single"), picture(ZOO["cfebm-single"].card()["image"])
    y = model.padded(image)[None].requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.finest.f(y).sum(), y)
    output = make("single", "score", image=image, steps=3, noise=0.0)
    assert output.numbers["slope"][0] == pytest.approx(float(gradient.norm()), rel=1e-4)
    assert len(output.numbers["trace"][0]) == 4
    assert output.numbers["trace"][0] == sorted(output.numbers["trace"][0])  # plain ascent climbs
    assert "percentile" not in output.numbers  # nothing is known of other images


def translated(**changes: Any) -> tuple[Tensor, Output]:
    image = picture(ZOO["cfebm-translate"].card()["image"], 2) / 2
    return image, make("translate", "translate", image=image, **{"steps": 8, "noise": 0.0, "n": 1, **changes})


def test_a_translation_without_noise_is_determined_by_its_source() -> None:
    _, first = translated(seed=1)
    _, other = translated(seed=2)
    assert torch.equal(images_of(first), images_of(other))
    _, noisy = translated(seed=1, noise=0.02)
    assert not torch.equal(images_of(first), images_of(noisy))


def test_each_domain_has_an_energy_of_its_own() -> None:
    _, there = translated(label={"A": 1.0})
    _, back = translated(label={"A": 0.4, "B": 0.6})
    assert not torch.equal(images_of(there), images_of(back))
    assert torch.equal(images_of(back), images_of(translated(label={"B": 1.0})[1]))


def test_maps_show_where_a_translation_changed_the_image() -> None:
    image, output = translated(steps=20, step_size=4.0)
    change = images_of(output)[0] - image
    assert change.abs().max() > 0.02
    assert images_of(output).abs().max() < 1  # nothing was cut
    net, path = (output.extras[name] for name in ("net", "path"))
    assert net.shape == path.shape == (1, 1, 32, 32)
    torch.testing.assert_close(net[0, 0], change.abs().mean(0) - 1, atol=1e-5, rtol=0)
    assert (path >= net - 1e-6).all()
    assert (path > net + 1e-6).any()


def test_maps_have_one_scale_for_all_images() -> None:
    change = torch.tensor([0.0, -0.5, 1.0, 2.0, -9.0]).reshape(5, 1, 1, 1).expand(5, 3, 1, 1)
    assert shades(change).flatten().tolist() == [-1, -0.5, 0, 1, 1]


@pytest.mark.parametrize(("steps", "frames"), [(0, 2), (1, 2), (8, 9), (20, 11)])
def test_a_film_leads_from_the_source_to_the_translation(steps: int, frames: int) -> None:
    image, output = translated(steps=steps, animate=True)
    _, plain = translated(steps=steps)
    assert output.film is not None
    assert plain.film is None
    assert output.film.shape == (1, frames, 3, 32, 32)
    assert torch.equal(output.film[0, 0], image)
    assert torch.equal(output.film[:, -1], images_of(output))
    assert torch.equal(images_of(output), images_of(plain))  # to look on changes nothing
    assert torch.equal(output.extras["net"], plain.extras["net"])
    if steps == 8:
        assert torch.equal(output.film[:, 3], images_of(translated(steps=3)[1]))


def test_a_translations_score_is_that_of_the_domain_asked_for() -> None:
    model = model_of("translate")
    found = translation.calibrate(model, domains())
    assert found["conditions"].keys() == {"A", "B"}
    judge = CFEBMTranslation(model.config, model.energies, found, model.device)
    image = picture(ZOO["cfebm-translate"].card()["image"])
    for label, energy in model.energies.items():
        output = make("translate", "score", judge, image=image, steps=0, label={label: 1.0})
        f = float(energy.f(image[None]))
        assert output.numbers["f"][0] == pytest.approx(f, abs=1e-5)
        known = found["conditions"][label]
        assert output.numbers["calibrated"][0] == pytest.approx((f - known["mean"]) / known["std"], rel=1e-3)
    target = drop_pairs(pairs().fit(32, 3, condition_channels=3)).target
    f = model.energies["B"].f(target.images / 127.5 - 1)
    assert found["conditions"]["B"]["mean"] == pytest.approx(summary(f)["mean"], rel=1e-4)


def test_previews_of_coarse_stages_are_as_large_as_the_result() -> None:
    model = model_of("chained")
    for loop in loops_of("chained", "generate")[1:-1]:
        assert loop.preview is not None
        shown = loop.preview({"y": 3 * torch.ones_like(loop.rows["y"])})
        assert shown.shape == (2, 1, 28, 28)
        assert shown.max() == 1
    ramp = torch.rand(1, 1, 28, 28)
    assert torch.equal(model.cropped(model.padded(ramp)), ramp)
    assert model.padded(ramp)[0, 0, 0].unique().tolist() == [-1]
