"""The chain that a training learns from is the chain of the served model: same weights and seeds, same images.

Served networks are folded, traced and prepacked, so images agree to rounding, not to the bit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.core.jobs import TranslateJob
from models.core.loop import run
from models.core.noise import Key, Noise, row_seeds
from models.systems.ccoopnets.images.model import ImageCCoopNets
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.ccoopnets.refinement import refined, trained_numbers
from models.systems.ccoopnets.training import CCoopTrainer
from models.systems.cfebm.chain import annealed, chain_numbers, split_steps, walk
from models.systems.cfebm.generation.model import EnergyModel
from models.systems.cfebm.generation.tasks.generate import generate
from models.systems.cfebm.generation.training import GenerationTrainer
from models.systems.cfebm.translation.model import CFEBMTranslation
from models.systems.cfebm.translation.tasks import translate
from models.systems.cfebm.translation.training import TranslationTrainer
from models.systems.registry import load_from
from models.training.draws import Purpose
from models.training.learner import frozen, mixed_precision
from tests.models.zoo import CPU, ZOO, Tiny, generate_job, picture

NOISY = {
    "ccoopnets": {"refinement.tau": 0.05, "training.noise_fraction": 1.0},
    "cfebm": {"sampler.s0": 0.05, "training.precision": "fp32"},
}
SEEDS = row_seeds(5, 2)


def noisy(name: str, **changes: object) -> Tiny:
    """A model of the zoo whose chains are noisy, so that the keys of the noise count."""
    tiny = ZOO[name]
    return replace(tiny, changes={**tiny.changes, **NOISY[tiny.system], **changes})


def close(taught: Tensor, served: Tensor | None) -> None:
    assert served is not None
    torch.testing.assert_close(taught, served, atol=2e-5, rtol=1e-4)


def images(n: int, size: int) -> Tensor:
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("name", [name for name in ZOO if ZOO[name].system == "ccoopnets"])
def test_the_solver_is_taught_by_the_refinement_that_is_served(name: str) -> None:
    tiny = noisy(name)
    trainer = tiny.trainer()
    assert isinstance(trainer, CCoopTrainer)
    model = load_from(tiny.card(), trainer.export(), CPU).kernels
    assert isinstance(model, CCoopNets | ImageCCoopNets)
    batch, trained = trainer.problem.batch(3, 0), trainer.config.refinement
    with torch.no_grad():
        proposal = trainer.problem.propose(trainer.initializer.network, batch)
    taught = trainer.refine(proposal, batch, 3, 0)
    numbers = trained_numbers(trained, len(proposal), CPU, tau=trained.tau)
    rows = {"y": proposal, "c": batch.c, **numbers, **batch.extra}
    seeds = trainer.draws.rows(len(proposal), Purpose.CHAIN, 3, 0)
    close(taught, run(refined(model.refine, rows, trained.steps, seeds))["y"])
    assert not torch.equal(taught, trainer.refine(proposal, batch, 4, 0))  # the noise is that of the iteration


class Roundings(TorchDispatchMode):
    """Counts what is rounded to bfloat16, by shape."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[torch.Size] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        how = kwargs or {}
        if func is torch.ops.aten._to_copy.default and how.get("dtype") == torch.bfloat16:
            self.shapes[args[0].shape] += 1
        return func(*args, **how)


@pytest.mark.parametrize("name", ["ccoopnets", "ccoopnets-inpaint"])
def test_mixed_precision_rounds_the_weights_of_a_chain_once(name: str) -> None:
    """And its value is, bit for bit, what it would be."""
    trainer = noisy(name, **{"training.precision": "bf16", "refinement.steps": 3}).trainer()
    assert isinstance(trainer, CCoopTrainer)
    batch, solver = trainer.problem.batch(3, 0), trainer.solver.network
    with Roundings() as found:
        trainer.refine(batch.y, batch, 3, 0)
    weights = [p for layer in solver.get_submodule("layers").children() for p in layer.parameters()]
    assert all(p.dtype == torch.float32 and p.requires_grad for p in weights)
    alike = Counter(p.shape for p in weights)
    assert {shape: found.shapes[shape] for shape in alike} == dict(alike)
    with torch.no_grad(), mixed_precision(CPU, "bf16"):
        outside = solver(batch.y, batch.c)
        with frozen(solver, "bf16"):
            assert torch.equal(solver(batch.y, batch.c), outside)


def grown(tiny: Tiny) -> tuple[GenerationTrainer, EnergyModel]:
    """A training whose network is fully grown, and the model that it would publish."""
    trainer = tiny.trainer()
    assert isinstance(trainer, GenerationTrainer)
    while trainer.leave_stage():
        pass
    trainer.fit.growth = trainer.fit.growth._replace(seen=trainer.fit.stage.phase)  # the last block is all there
    model = load_from(tiny.card(), trainer.export(), CPU).kernels
    assert isinstance(model, EnergyModel)
    return trainer, model


@pytest.mark.parametrize("name", ["cfebm-chained", "cfebm-single"])
def test_an_energy_is_taught_by_the_walk_that_is_served(name: str) -> None:
    trainer, model = grown(noisy(name))
    config = model.config
    start = images(len(SEEDS), config.size)
    parts = [(energy.chain, energy.size) for energy in model.energies]
    rows = chain_numbers(model, len(SEEDS), config.sampler.s0, 1.0, 0, config.steps)
    rows["y"] = start[:, :, : parts[0][1], : parts[0][1]]
    served = run(walk(rows, annealed(parts, split_steps(config.steps, len(parts))), SEEDS))
    close(trainer.fit.draw(start, SEEDS), served["y"])


@pytest.mark.parametrize("name", ["cfebm-chained", "cfebm-single"])
def test_the_task_generate_gives_the_ends_of_the_chain_that_teaches(name: str) -> None:
    """Without noise in the steps: those of the task have other keys, since its first loop draws the start."""
    trainer, model = grown(noisy(name, **{"sampler.s0": 0.0}))
    config, coarse = model.config, model.energies[0].size
    start = torch.zeros(len(SEEDS), config.channels, config.size, config.size)
    noise = Noise([Key(seed, 0, 0) for seed in SEEDS])
    start[:, :, :coarse, :coarse] = noise.uniform(config.channels, coarse, coarse) * 2 - 1
    job = generate_job(seed=5, steps=config.steps, noise=0.0, label=None)
    close(model.cropped(trainer.fit.draw(start, SEEDS)), run(generate(model, job)).images)


def test_each_direction_of_a_translation_is_taught_by_the_task_that_is_served() -> None:
    tiny = noisy("cfebm-translate")
    trainer = tiny.trainer()
    assert isinstance(trainer, TranslationTrainer)
    model = load_from(tiny.card(), trainer.export(), CPU).kernels
    assert isinstance(model, CFEBMTranslation)
    image = picture(tiny.card()["image"])
    start = model.padded(image).expand(len(SEEDS), -1, -1, -1)
    for name, fit in trainer.fits.items():
        job = TranslateJob(
            n=len(SEEDS),
            seed=5,
            steps=model.config.steps,
            step_size=1.0,
            noise=model.config.sampler.s0,
            refine=True,
            image=image,
            label={name: 1.0},
        )
        close(model.cropped(fit.draw(start, SEEDS)), run(translate(model, job)).images)
