"""How CF-EBM grows: the stages, what a new network takes over, and where its chains start."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from models.systems.cfebm.chain import mixed
from models.systems.cfebm.config import GenerationConfig, StageConfig, TranslationConfig, growth_iterations
from models.systems.cfebm.fit import EnergyFit
from models.systems.cfebm.growth import Growth
from models.systems.cfebm.networks import Energy
from models.systems.cfebm.presets import GENERATION_PRESETS, TRANSLATION_PRESETS
from models.training.configuration import configure
from tests.models.zoo import CPU, images

PRESETS = {**GENERATION_PRESETS, **TRANSLATION_PRESETS}

STAGES = tuple(StageConfig(size=8 << k, steps=5, learning_rate=1e-3, batch_size=16, phase=400) for k in range(2))


def make_fit(growth: str) -> EnergyFit:
    config = configure("cfebm", "tiny", images(), {"growth": growth, "network.c": 2})
    assert isinstance(config, GenerationConfig)
    return EnergyFit(config, 7, CPU)


def noise(n: int = 4, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def update(fit: EnergyFit, times: int = 1) -> None:
    size = fit.config.stages[fit.growth.stage].size
    for k in range(times):
        fit.step(noise(size=size, seed=k), fit.draw(noise(seed=k), range(4)), k)


def state_of(net: Energy) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_block_is_faded_in_over_its_phase() -> None:
    assert Growth(0, 0).alpha(STAGES) == 1  # the first has nothing to fade
    assert [Growth(1, seen).alpha(STAGES) for seen in (0, 199, 399, 400, 5000)] == [1 / 400, 0.5, 1, 1, 1]


def test_a_stage_ends_past_twice_its_phase_and_the_last_one_never() -> None:
    assert Growth(0, 784).after(16, STAGES) == Growth(0, 800)
    assert Growth(0, 800).after(16, STAGES) == Growth(1, 0)
    assert Growth(1, 10**6).after(16, STAGES) == Growth(1, 10**6 + 16)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if len(preset.stages) > 1])
def test_a_preset_trains_until_its_last_block_is_all_there(name: str) -> None:
    config, growth, iterations = PRESETS[name], Growth(), 0
    while growth.stage < len(config.stages) - 1:
        # As many updates at once as certainly stay in the stage, so that millions of images are soon counted.
        stage = config.stages[growth.stage]
        updates = max(1, (2 * stage.phase - growth.seen) // stage.batch_size)
        growth, iterations = growth.after(updates * stage.batch_size, config.stages), iterations + updates
    assert iterations == growth_iterations(config.stages[:-1])
    last = config.stages[-1]
    seen = (config.training.iterations - iterations) * last.batch_size
    assert Growth(growth.stage, seen).alpha(config.stages) == 1


def test_too_few_iterations_to_grow_are_refused() -> None:
    document = GENERATION_PRESETS["tiny"].model_dump()
    least = 51 + 25
    GenerationConfig.model_validate(document | {"training": {"iterations": least}})
    with pytest.raises(ValidationError, match=f"the growth takes {least} iterations"):
        GenerationConfig.model_validate(document | {"training": {"iterations": least - 1}})


@pytest.mark.parametrize(
    ("preset", "steps"),
    [
        ("paper-cifar10-chained", 45),
        ("paper-celebahq-256", 90),
        ("paper-celebahq-512", 105),
        ("paper-cifar10", 50),
        ("paper-celeba64", 60),
        ("small", 45),
    ],
)
def test_the_steps_of_the_whole_chain(preset: str, steps: int) -> None:
    assert PRESETS[preset].steps == steps


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": [STAGES[1].model_dump(), STAGES[0].model_dump()]},
        {"stages": [{**STAGES[0].model_dump(), "size": 4}]},
        {"stages": [STAGES[0].model_dump(), {**STAGES[1].model_dump(), "size": 32}]},
        {"image_size": 17},
        {"image_size": 15},
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"stages must double|can't be padded"):
        GenerationConfig.model_validate(GENERATION_PRESETS["tiny"].model_dump() | changes)


def test_a_translation_grows_in_single_stages() -> None:
    with pytest.raises(ValidationError, match="its growth is single"):
        TranslationConfig.model_validate(TRANSLATION_PRESETS["small-translate"].model_dump() | {"growth": "chained"})


@pytest.mark.parametrize(("alpha", "variance"), [(0, 0.25), (0.25, 0.2552), (0.5, 0.2708), (0.75, 0.2969), (1, 0.3333)])
def test_the_start_of_a_single_chain_is_a_mixture(alpha: float, variance: float) -> None:
    coarse = torch.randn(400_000, generator=torch.Generator().manual_seed(0)) / 2
    uniform = torch.rand(400_000, generator=torch.Generator().manual_seed(1)) * 2 - 1
    start = mixed(coarse, uniform, alpha)
    assert start.var().item() == pytest.approx(variance, rel=0.01)
    if alpha == 1:
        assert torch.equal(start, uniform)


@pytest.mark.parametrize("growth", ["chained", "single"])
def test_the_coarse_part_of_a_chain_goes_with_the_fading_only_in_single_growth(growth: str) -> None:
    fit = make_fit(growth)
    fit.leave_stage()
    coarse = (fit.frozen or [fit.live])[0]
    phase = fit.config.stages[1].phase
    moved = {}
    for seen in (0, phase // 2, phase):
        fit.growth = Growth(1, seen)
        before = fit.draw(noise(), range(4))
        kept = coarse.layers["rgb8"].weight.detach().clone()  # type: ignore[union-attr]
        with torch.no_grad():
            coarse.layers["rgb8"].weight.mul_(-2)  # type: ignore[union-attr, operator]
        moved[seen] = not torch.equal(fit.draw(noise(), range(4)), before)
        with torch.no_grad():
            coarse.layers["rgb8"].weight.copy_(kept)  # type: ignore[union-attr, operator]
    assert moved == {0: True, phase // 2: True, phase: growth == "chained"}


@pytest.mark.parametrize("growth", ["chained", "single"])
def test_a_grown_network_goes_on_where_the_one_before_was(growth: str) -> None:
    fit = make_fit(growth)
    update(fit)
    before = state_of(fit.live)
    moments = {name: tensor.clone() for name, tensor in fit.state().items() if name.startswith("opt.")}
    assert fit.leave_stage()
    grown = state_of(fit.live)
    assert same({name: grown[name] for name in before}, before)  # with the singular vectors
    assert any(name.endswith("_u") for name in before)
    new = grown.keys() - before.keys()
    assert new
    assert all("16." in name for name in new)
    kept = {name: tensor for name, tensor in fit.state().items() if name.startswith("opt.")}
    if growth == "chained":
        assert kept == {}
        assert same(state_of(fit.frozen[0]), before)
    else:
        assert same(kept, moments)
        assert fit.frozen == []
    assert fit.growth == Growth(1, 0)
    assert not fit.leave_stage()


def test_the_moments_stay_with_their_parameters() -> None:
    """The new block's parameters follow the old ones, so each old one finds the moments that it had."""
    fit = make_fit("single")
    update(fit)
    before = {id_of(fit, p): fit.learner.optimizer.state[p]["exp_avg"].clone() for p in fit.live.parameters()}
    fit.leave_stage()
    for parameter in fit.live.parameters():
        name, moments = id_of(fit, parameter), fit.learner.optimizer.state[parameter]
        assert torch.equal(moments["exp_avg"], before[name]) if name in before else not moments


def id_of(fit: EnergyFit, parameter: Tensor) -> str:
    return next(name for name, p in fit.live.named_parameters() if p is parameter)


def test_frozen_networks_do_not_change_any_more() -> None:
    fit = make_fit("chained")
    update(fit)
    fit.leave_stage()
    frozen, live = state_of(fit.frozen[0]), state_of(fit.live)
    update(fit, 3)
    assert same(state_of(fit.frozen[0]), frozen)
    assert not any(p.requires_grad for p in fit.frozen[0].parameters())
    assert not same(state_of(fit.live), live)


def test_images_of_applied_updates_make_it_grow() -> None:
    fit = make_fit("chained")
    for _ in range(50):
        fit.advance(16)
    assert (fit.growth, len(fit.frozen)) == (Growth(0, 800), 0)
    fit.advance(16)
    assert (fit.growth, len(fit.frozen)) == (Growth(1, 0), 1)


@pytest.mark.parametrize("growth", ["chained", "single"])
def test_a_saved_state_brings_all_of_it_back(growth: str) -> None:
    fit, other = make_fit(growth), make_fit(growth)
    update(fit)
    fit.leave_stage()
    update(fit, 2)
    fit.advance(48)
    other.load_state(fit.state())
    assert same(other.state(), fit.state())
    update(fit)
    update(other)
    assert same(other.state(), fit.state())
