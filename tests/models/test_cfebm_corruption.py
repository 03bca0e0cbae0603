"""Chains that start from corrupted observed images."""

from __future__ import annotations

import pytest
import torch

from models.core.noise import row_seeds
from models.systems.cfebm.config import GenerationConfig, TranslationConfig
from models.systems.cfebm.fit import EnergyFit
from models.systems.cfebm.generation.corruption import corrupted
from models.systems.cfebm.generation.training import make_trainer
from models.systems.cfebm.presets import TRANSLATION_PRESETS
from models.training.configuration import configure
from tests.models.zoo import CPU, TINY, images


def test_noise_is_of_all_strengths_and_every_second_image_has_a_hole() -> None:
    ground = torch.zeros(2_000, 1, 16, 16)
    made = corrupted(ground, 0.2, torch.Generator().manual_seed(0))
    assert made.abs().max() <= 1
    whole, holed = made[0::2], made[1::2]
    stds = whole.flatten(1).std(1)
    torch.testing.assert_close(stds.mean(), torch.tensor(0.1), atol=0.01, rtol=0)  # uniform up to 0.2
    assert stds.min() < 0.01
    assert 0.17 < stds.max() < 0.23
    # A hole of 8 x 8 pixels of U(-1, 1), whose variance is 1/3, and noise whose variance is 0.2^2 / 3 elsewhere.
    expected = 64 / 256 / 3 + (1 - 64 / 256) * 0.2**2 / 3
    torch.testing.assert_close(holed.var(), torch.tensor(expected), atol=0.003, rtol=0)
    often = (holed.abs() > 0.65).float().mean(0)[0]  # noise alone never reaches so far
    assert (often > 0).all()  # holes are at any place
    assert often[8, 8] > 3 * often[0, 0]
    again = corrupted(ground, 0.2, torch.Generator().manual_seed(0))
    assert torch.equal(made, again)


def test_the_last_chains_start_from_them_at_the_size_of_the_stage() -> None:
    config = configure("cfebm", "tiny", images(), {**TINY["cfebm"], "sampler.s0": 0.0})
    assert isinstance(config, GenerationConfig)
    fit = EnergyFit(config, 0, CPU, lambda kernels, y, **_: 0 * y.flatten(1).sum(1))  # chains stay where they are
    start, keys = torch.rand(6, 1, 16, 16) * 2 - 1, row_seeds(1, 6)
    for size in (8, 16):
        here = torch.rand(2, 1, size, size) * 2 - 1
        ends = fit.draw(start, keys, here)
        assert ends.shape == (6, 1, size, size)
        assert torch.equal(ends[4:], here)
        assert torch.equal(ends[:4], fit.draw(start[:4], keys[:4]))
        fit.leave_stage()


def test_a_share_of_the_chains_does_so() -> None:
    config = configure("cfebm", "tiny", images(), {**TINY["cfebm"], "training.spoiled": 0.25})
    assert isinstance(config, GenerationConfig)
    trainer = make_trainer(config, images(), 0, CPU)
    begun: list[int] = []
    draw = trainer.fit.draw

    def watched(start: torch.Tensor, keys: list[int], own: torch.Tensor | None = None) -> torch.Tensor:
        begun.append(0 if own is None else len(own))
        return draw(start, keys, own)

    trainer.fit.draw = watched  # type: ignore[method-assign, assignment]
    batch = config.stages[0].batch_size
    trainer.step(0, 1.0, 0)
    assert begun == [batch // 4]


def test_a_translation_has_no_such_chains() -> None:
    config = TRANSLATION_PRESETS["small-translate"].model_dump()
    config["training"]["spoiled"] = 0.5
    with pytest.raises(ValueError, match=r"training\.spoiled must be 0"):
        TranslationConfig.model_validate(config)
