"""How a progressive GAN is trained: its growth, its rates, and that it goes on exactly where it stopped."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.data.images import ImageData
from models.systems.aishmc.config import Config, LevelConfig, growth_iterations
from models.systems.aishmc.growth import Growth, decay, rate
from models.systems.aishmc.presets import PRESETS
from models.systems.aishmc.training import Trainer, make_trainer
from models.training.configuration import TrainingError, choose, fit
from tests.models.zoo import CPU, images

LEVELS = (
    LevelConfig(size=4, fade=0, stable=0.016, batch_size=4),
    LevelConfig(size=8, fade=0.016, stable=0.016, batch_size=4),
    LevelConfig(size=16, fade=0.016, stable=0.008, batch_size=4),
)


def config(**training: Any) -> Config:
    small = PRESETS["small-fashion32"].model_dump() | {"image_size": 12}
    network = {"latent": 6, "base": 32, "most": 8}
    levels = [level.model_dump() for level in LEVELS]
    changed = {**small["training"], "iterations": 18, "ramp": 0.02, "ema_warm": 0.02, **training}
    return Config.model_validate({**small, "network": network, "levels": levels, "training": changed})


def data(n: int = 20) -> ImageData:
    return images(n, 12)


def trainer(seed: int = 1, **training: Any) -> Trainer:
    return make_trainer(config(**training), data(), seed, CPU)


def test_the_growth_follows_from_the_images_seen() -> None:
    place, seen = Growth(), []
    for _ in range(24):
        seen.append((place.level, round(place.alpha(config()), 3)))
        place = place.after(4, config())
    assert seen[:4] == [(0, 1.0)] * 4
    assert seen[4:12] == [(1, 0.0), (1, 0.25), (1, 0.5), (1, 0.75), *[(1, 1.0)] * 4]
    assert seen[12:17] == [(2, 0.0), (2, 0.25), (2, 0.5), (2, 0.75), (2, 1.0)]
    assert seen[-1] == (2, 1.0)  # the last level never ends
    assert place.kimg == pytest.approx(0.096)
    assert growth_iterations(LEVELS) == 16


def test_the_paper_reaches_its_sizes_when_it_says() -> None:
    """At 800 + 800 thousand images a level, 128 pixels at 8,000 thousand and 1,024 at 12,800; the first has no fade."""
    for preset, at in (("paper-celeba128", 8_000), ("paper-celebahq1024", 12_800)):
        *coarser, _ = PRESETS[preset].levels
        assert 800 + sum(level.fade + level.stable for level in coarser) == at


def test_rates_rise_and_the_average_slows() -> None:
    at = config(ramp=40.0, ema_start=0.99, ema_warm=20.0)
    assert rate(at, 0) == pytest.approx(1e-3 * math.exp(-5))
    assert rate(at, 20) == pytest.approx(1e-3 * math.exp(-1.25))
    assert rate(at, 40) == rate(at, 500) == 1e-3
    assert rate(config(ramp=0.0), 0) == 1e-3
    assert (decay(at, 19.9), decay(at, 20)) == (0.99, 0.999)
    assert math.log(0.5) / math.log(0.999) == pytest.approx(692.8, abs=0.1)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def test_a_resumed_training_repeats_an_unbroken_one() -> None:
    """Stopped within a level, between two, and while one is faded in."""
    whole, halves = trainer(), {stop: trainer() for stop in (2, 4, 6, 14)}
    for iteration in range(18):
        if half := halves.get(iteration):
            half.load_state(whole.state())
        whole.step(iteration, 1.0, 0)
    for stop, half in halves.items():
        for iteration in range(stop, 18):
            half.step(iteration, 1.0, 0)
        assert equal(whole.state(), half.state()), stop
    assert (whole.stage, whole.size) == (2, 16)


def test_both_learn_and_the_average_follows() -> None:
    one = trainer()
    before = one.state()
    metrics = one.step(0, 1.0, 0)
    after = one.state()
    moved = {k.partition(".")[0] for k, v in after.items() if k in before and not torch.equal(v, before[k])}
    assert moved >= {"generator", "critic", "ema_generator", "growth"}
    assert all(math.isfinite(value) for value in metrics.values())
    assert after["growth"].tolist() == [0, 4, 0]


def test_moments_are_fresh_at_each_level() -> None:
    one = trainer()
    for iteration in range(4):
        one.step(iteration, 1.0, 0)
    assert one.stage == 1
    assert not any(name.startswith("opt_") for name in one.state())
    one.step(4, 1.0, 0)
    counts = [v for k, v in one.state().items() if k.startswith("opt_generator") and k.endswith("step")]
    assert {float(count) for count in counts} == {1.0}


def test_what_runs_away_is_told() -> None:
    one = trainer(guard_value=1e-9)
    metrics = one.step(0, 1.0, 0)
    before = one.state()
    assert "runs away" in (one.diverged(0, metrics) or "")
    assert one.growth == Growth()  # nothing was applied
    assert not any(name.startswith("opt_") for name in before)
    calm = trainer()
    assert calm.diverged(0, calm.step(0, 1.0, 0)) is None


def test_pictures_are_drawn_once_a_level_is_all_there() -> None:
    one = trainer()
    first = one.draw(3)
    assert first is not None
    assert first.shape == (3, 1, 4, 4)
    assert one.leave_stage()
    assert one.draw(3) is None
    assert one.samples().shape == (8, 8, 1, 8, 8)
    assert one.reference(data().images[:2]).shape == (2, 1, 8, 8)
    assert one.leave_stage()
    assert not one.leave_stage()


@pytest.mark.parametrize("preset", [name for name in PRESETS if name.startswith("small")])
def test_small_presets_fit_their_data(preset: str) -> None:
    """And grow to their full size within their iterations, with images to spare."""
    given = images(4, PRESETS[preset].image_size, PRESETS[preset].channels)
    fitted = fit("aishmc/pgan", PRESETS[preset], given)
    assert isinstance(fitted, Config)
    assert fitted.size in (32, 64)
    assert fitted.training.iterations >= growth_iterations(fitted.levels) + 1_000


def test_too_short_a_training_is_refused() -> None:
    with pytest.raises(TrainingError, match="the growth takes 4376 iterations"):
        choose("aishmc/pgan", "small-fashion32", {"training.iterations": 100})
