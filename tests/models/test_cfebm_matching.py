"""Energy matching, and the average of the weights, in the training of a CF-EBM."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.systems.cfebm.config import GenerationConfig, TranslationConfig
from models.systems.cfebm.generation.corruption import outliers, outlines
from models.systems.cfebm.generation.training import GenerationTrainer, make_trainer
from models.systems.cfebm.growth import rate
from models.systems.cfebm.matching import mismatch, misranking
from models.systems.cfebm.networks import fuse, value
from models.systems.cfebm.presets import TRANSLATION_PRESETS
from models.training.configuration import configure
from models.training.learner import below
from models.training.plan import Plan
from models.training.training import Training
from tests.models.zoo import CPU, TINY, images

MATCHED = {
    **TINY["cfebm"],
    "stages": [{"size": 8, "steps": 10, "learning_rate": 1e-4, "batch_size": 32, "phase": 1}],
    "image_size": 8,
    "network.spectral": False,
    "sampler.lr": 0.1,
    "training.iterations": 65,
    "training.matching": 60 / 64 + 1e-9,
    "training.matching_rate": 3e-3,
    "training.contrast": 0.01,
    "training.ema": 0.9,
}


def config(**changes: object) -> GenerationConfig:
    values = configure("cfebm", "tiny", images(), TINY["cfebm"]).model_dump()
    for path, changed in {**MATCHED, **changes}.items():
        part, _, name = path.rpartition(".")
        (values[part] if part else values)[name] = changed
    return GenerationConfig.model_validate(values)


def test_the_mismatch_of_a_known_field() -> None:
    """Of f = |x|^2 / 2 the gradient at x_t is x_t: with t = 1/2 it is off by (z + x) / 2 - (x - z) = (3 z - x) / 2."""
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(5, 1, 4, 4, generator=generator) for _ in range(2))
    found = mismatch(lambda y: y.square().flatten(1).sum(1) / 2, x, z, torch.full((5, 1, 1, 1), 0.5))
    torch.testing.assert_close(found, ((3 * z - x) / 2).square().mean())


def test_the_misranking_of_known_values() -> None:
    """log(1 + e) where both have the same value; less where outliers are lower; the margin grows with the pixels."""
    same = torch.zeros(3)
    assert float(misranking(same, same, 64)) == pytest.approx(1.313262)
    assert float(misranking(same - 64, same, 64)) == pytest.approx(1.234e-4, rel=1e-2)
    assert float(misranking(same - 128, same, 128)) == pytest.approx(float(misranking(same - 64, same, 64)))


def test_weights_learn_through_the_gradient() -> None:
    """f = a |x|^2 / 2 has the gradient a x_t; from z = 0 the velocity is x, so at t = 1 the best a is 1."""
    a = torch.tensor(0.0, requires_grad=True)
    x = torch.ones(2, 1, 2, 2)
    for _ in range(50):
        loss = mismatch(lambda y: a * y.square().flatten(1).sum(1) / 2, x, torch.zeros_like(x), torch.ones(2, 1, 1, 1))
        (slope,) = torch.autograd.grad(loss, a)
        a.data -= 0.3 * slope
    assert a.item() == pytest.approx(1, abs=1e-3)


def test_matching_comes_first_and_carries_noise_towards_images() -> None:
    trainer = make_trainer(config(), images(), 0, CPU)
    drawn: list[int] = []
    draw = trainer.fit.draw

    def watched(start: Tensor, keys: list[int], own: Tensor | None = None, **more: bool) -> Tensor:
        drawn.append(len(start))
        return draw(start, keys, own, **more)

    trainer.fit.draw = watched  # type: ignore[method-assign, assignment]
    found = [trainer.step(k, 1.0, 0) for k in range(62)]
    assert len(drawn) == 2  # no chains before the contrastive phase
    early, late = (sum(m["mismatch"] for m in part) / 10 for part in (found[:10], found[50:60]))
    assert late < 0.8 * early
    assert all(trainer.diverged(k, metrics) is None for k, metrics in enumerate(found))
    assert trainer.fit.growth.seen == 2 * 32  # images that were matched do not count
    made = trainer.draw(64)
    assert made is not None
    real = trainer.reference(images().images)
    noise = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean = real.mean(0)
    assert (made.mean(0) - mean).square().mean() < 0.5 * (noise.mean(0) - mean).square().mean()


def test_rates_of_both_phases_fall() -> None:
    chosen = config(**{"training.lr_final": 0.1})
    (stage,) = chosen.stages
    rates = [rate(chosen, stage, k) for k in (0, 30, 59, 60)]
    assert rates == pytest.approx([3e-3, 3e-3 * 0.55, 3e-3 * (1 - 0.9 * 59 / 60), 1e-4])


def test_the_average_is_what_is_drawn_and_served(tmp_path: Path) -> None:
    plan = Plan("cfebm/generation", config(), images(), "a-model", 1, CPU, "coopserve train ...", {}, None)
    training = Training(plan, tmp_path)
    assert isinstance(training.trainer, GenerationTrainer)
    trainer = training.trainer
    for k in range(5):
        trainer.step(k, 1.0, 0)
    average = trainer.fit.learner.average
    assert average is not None
    weights = average.eval().effective()
    served = trainer.export()
    assert torch.equal(served["net8.head.weight"], weights["head.weight"])
    assert not torch.equal(served["net8.head.weight"], trainer.fit.live.effective()["head.weight"])
    again = make_trainer(config(), images(), 1, CPU)
    again.load_state(trainer.state())
    assert torch.equal(again.samples(), trainer.samples())


def test_outlines_are_bright_on_black() -> None:
    square = torch.full((64, 1, 16, 16), -1.0)
    square[:, :, 4:12, 4:12] = 1
    made = outlines(square, torch.Generator().manual_seed(0))
    assert set(made.unique().tolist()) == {-1.0, 1.0}
    assert (made[:, :, 6:10, 6:10] == -1).all()  # the inside is no outline
    shares = (made > 0).float().mean((1, 2, 3))
    assert shares.max() == pytest.approx((10 * 10 - 6 * 6) / 256)
    assert shares.min() < 0.5 * shares.max()  # parts


def test_outliers_are_ranked_below_the_data() -> None:
    """In a few updates f of fresh outliers falls below f of images, which it does not without the term."""
    found = {}
    for weight in (0.0, 50.0):
        trainer = make_trainer(config(**{"training.outliers": weight}), images(), 0, CPU)
        for k in range(25):
            trainer.step(k, 1.0, 0)
        real = trainer.reference(images().images)
        others = outliers(real, 0.5, torch.Generator().manual_seed(1))
        energy = trainer.export()
        f = [value(fuse(dict(below("net8.", energy))), part) for part in (real, others)]
        found[weight] = float(misranking(f[1], f[0], 64))
    assert found[50.0] < found[0.0] - 0.1


def test_a_translation_is_not_matched() -> None:
    values = TRANSLATION_PRESETS["small-translate"].model_dump()
    values["training"]["matching"] = 0.5
    with pytest.raises(ValueError, match=r"training\.matching must be 0"):
        TranslationConfig.model_validate(values)
