"""Training of CF-EBM: what it converges to, and how it survives divergence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.checkpoints import load_model, load_state
from models.core.loop import run
from models.data.kinds import Data
from models.systems.base import Trainer
from models.systems.cfebm.config import GenerationConfig, SamplerConfig, StageConfig
from models.systems.cfebm.fit import EnergyFit
from models.systems.cfebm.generation.training import GenerationTrainer
from models.systems.cfebm.networks import Kernels, fold, fuse, value
from models.training.configuration import TrainingError, configure
from models.training.plan import Event, Plan, Rhythm
from models.training.readings import Readings
from models.training.training import Training
from tests.models.around import Around, Step
from tests.models.zoo import CPU, QUICK, domains, generate_job, images

GROWN = 9
"""Updates after which the quick training is in its second stage; the new block is all there after 4 more."""
ITERATIONS = QUICK["cfebm"].iterations


def plan(*, features: Callable[[Tensor], Tensor] | None = None, rate: float = 1.0, **changes: Any) -> Plan:
    config = QUICK["cfebm"].config("cfebm", images(), changes).model_dump()
    for stage in config["stages"]:
        stage["learning_rate"] *= rate
    return _plan("cfebm/generation", GenerationConfig.model_validate(config), images(), features)


def _plan(variant: str, config: Any, data: Data, features: Callable[[Tensor], Tensor] | None = None) -> Plan:
    return Plan(variant, config, data, "a-model", 1, CPU, "coopserve train ...", {}, features)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def fit_of(training: Training) -> EnergyFit:
    assert isinstance(training.trainer, GenerationTrainer)
    return training.trainer.fit


def warnings_of(folder: Path) -> list[str]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["warning"] for line in lines if "warning" in line]


def scalar_energy(kernels: Kernels, images: Tensor, *, activation: str = "", alpha: float = 1.0) -> Tensor:
    """f = -a |x|^2 / 2, with a = 1 before the first update."""
    return -(1 + kernels["head.bias"]) * images.square().flatten(1).sum(1) / 2


def test_the_update_matches_the_short_run_to_the_data() -> None:
    """a is where the chain's end has the variance of the data, .2; maximum likelihood would be 1 / .25 = 4.

    All is a quarter as large as in the closed form, which is linear, so that no chain end is cut to [-1, 1].
    """
    config = GenerationConfig(
        channels=1,
        image_size=8,
        stages=(StageConfig(size=8, steps=20, learning_rate=2e-2, batch_size=16, phase=1),),
        network={"c": 1, "full_below": 8},  # type: ignore[arg-type]
        sampler=SamplerConfig(lr=1.0, s0=0.3 / 4, s1=0.3 / 4),
        training={"iterations": 200},  # type: ignore[arg-type]
    )
    fit, found = EnergyFit(config, 0, CPU, scalar_energy), []
    random = torch.Generator().manual_seed(0)
    for iteration in range(config.training.iterations):
        data = torch.randn(16, 1, 8, 8, generator=random) / 2 / 4
        start = (torch.rand(16, 1, 8, 8, generator=random) * 2 - 1) / 4
        metrics = fit.step(data, fit.draw(start, range(100 * iteration, 100 * iteration + 16)), iteration)
        assert bool(fit.judge.allows(metrics))
        found.append(1 + fit.live.layers["head"].bias.item())  # type: ignore[union-attr, operator]
    assert found[0] > 0.9
    assert sum(found[-100:]) / 100 == pytest.approx(0.2, abs=0.01)


def test_mixed_precision_rounds_the_weights_of_a_chain_once() -> None:
    """Its steps find what they would have made of them, bit for bit; the update has them unrounded."""
    config = configure("cfebm", "tiny", images(), {"training.precision": "bf16", "network.c": 2})
    assert isinstance(config, GenerationConfig)
    seen: list[torch.dtype] = []

    def watched(kernels: Kernels, y: Tensor, **how: Any) -> Tensor:
        seen.append(kernels["top_first.weight"].dtype)
        found = value(kernels, y, **how)
        if not fit.live.training:
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                unrounded = fold(fuse(fit.live.effective()), 8)
            assert torch.equal(found, value(unrounded, y, **how))
        return found

    fit = EnergyFit(config, 0, CPU, watched)
    start = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    chain = fit.draw(start, range(4))
    assert set(seen) == {torch.bfloat16}
    fit.step(torch.zeros_like(chain), chain, 0)
    assert seen[-1] == torch.float32


def test_singular_values_are_found_as_often_as_they_are_logged(tmp_path: Path) -> None:
    fit, zeros = fit_of(Training(plan(), tmp_path)), torch.zeros(4, 1, 8, 8)
    found = {k: fit.step(zeros, zeros + 0.1, k).get("sigma_max") for k in (0, Rhythm().log - 1, Rhythm().log)}
    assert [k for k, value in found.items() if value is not None] == [Rhythm().log - 1]
    assert found[Rhythm().log - 1] == pytest.approx(1, abs=0.5)


def test_an_update_is_one_power_iteration(tmp_path: Path) -> None:
    fit = fit_of(Training(plan(), tmp_path))
    twin = EnergyFit(fit.config, 0, CPU)
    twin.load_state(fit.state())
    twin.live.train().effective()
    chain = fit.draw(torch.zeros(4, 1, 16, 16), range(4))
    fit.step(torch.zeros(4, 1, 8, 8), chain, 0)
    vectors = {name: v for name, v in fit.live.state_dict().items() if name.endswith(("_u", "_v"))}
    assert vectors
    assert all(torch.equal(v, twin.live.state_dict()[name]) for name, v in vectors.items())


def test_a_translation_resumes_to_the_bit(tmp_path: Path) -> None:
    iterations = 1
    config = configure("cfebm", "small-translate", domains(), {"network.c": 2, "training.iterations": 2})
    whole, parts = (
        Training(_plan("cfebm/translation", config, domains()), tmp_path / name) for name in ("whole", "parts")
    )
    left = iter(range(iterations))
    assert whole.run()
    assert not parts.run(lambda: next(left, None) is None)
    second = Training(_plan("cfebm/translation", config, domains()), tmp_path / "parts")
    assert second.progress.iteration == iterations
    assert second.run()
    assert same(second.trainer.state(), whole.trainer.state())


class Wound:
    """Does something to the network before an iteration, once; has the states before and after that iteration."""

    def __init__(self, fit: EnergyFit, at: int, how: Callable[[EnergyFit], None]) -> None:
        self._fit, self._at, self._how = fit, at, how
        self.states: list[dict[str, Tensor]] = []

    def __call__(self, step: Step, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        if iteration != self._at or self.states:
            return step(iteration, lr_scale, salt)
        self._how(self._fit)
        self.states.append(self._fit.state())
        try:
            return step(iteration, lr_scale, salt)
        finally:
            self.states.append(self._fit.state())


def scale_head(fit: EnergyFit) -> None:
    fit.live.layers["head"].weight.data.mul_(1e4)  # type: ignore[union-attr, operator]


def spoil_kernel(fit: EnergyFit) -> None:
    fit.live.layers["top_first"].bias.data.fill_(torch.nan)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    ("how", "at", "reason"),
    [(scale_head, 4, "the scale of f runs away|too far apart|jumped"), (spoil_kernel, 15, "not finite")],
)
def test_a_wounded_network_is_noticed_before_the_update_and_rolled_back(
    how: Callable[[EnergyFit], None], at: int, reason: str, tmp_path: Path
) -> None:
    events: list[Event] = []

    def report(event: Event) -> None:
        events.append(event)
        if event.kind == "warning":  # the state right after the roll-back
            assert same(training.trainer.state(), dict(around.loaded[-1]))
            assert training.progress.lr_scale == 0.5

    training = Training(plan(), tmp_path / "run", report)
    wound = Wound(fit_of(training), at, how)
    training.trainer = around = Around(training.trainer, wound)
    assert training.run()
    before, after = ({k: v for k, v in s.items() if not k.endswith(("_u", "_v"))} for s in wound.states)
    assert all(torch.equal(before[k].nan_to_num(), after[k].nan_to_num()) for k in before)  # the update was held back
    (warning,) = [event for event in events if event.kind == "warning"]
    back = 0 if at < GROWN else GROWN
    assert warning.data["message"].startswith(f"iteration {at} undone (")
    assert f"back to {back}, rates halved" in warning.data["message"]
    assert any(word in warning.data["message"] for word in reason.split("|"))
    assert (training.progress.iteration, training.progress.rollbacks) == (ITERATIONS, 1)
    model = load_model(training.publish(tmp_path / "models"), CPU)
    made = run(model.start("generate", generate_job())).images
    assert made is not None
    assert made.isfinite().all()


def rarely(training: Training) -> Training:
    """The same, looked at as on a GPU."""
    trainer = training.trainer
    assert isinstance(trainer, GenerationTrainer)
    trainer.readings = Readings(
        torch.device("meta"), training.iterations, lambda _, metrics: trainer.fit.judge.objection(metrics)
    )
    return training


def test_a_training_that_is_looked_at_now_and_then_is_the_same(tmp_path: Path) -> None:
    """Stopped between two looks, too."""
    whole, left = Training(plan(), tmp_path / "whole"), iter(range(4))
    assert whole.run()
    assert not rarely(Training(plan(), tmp_path / "parts")).run(lambda: next(left, None) is None)
    parts = rarely(Training(plan(), tmp_path / "parts"))
    assert parts.progress.iteration == 4
    assert parts.run()
    assert same(parts.trainer.state(), whole.trainer.state())


@pytest.mark.parametrize(("stop", "seen"), [(99, GROWN - 1), (6, 6)])
def test_what_went_wrong_between_two_looks_is_found_at_the_next_or_when_the_state_is_saved(
    stop: int, seen: int, tmp_path: Path
) -> None:
    events: list[Event] = []
    training = rarely(Training(plan(), tmp_path, events.append))
    wound, fit = Wound(fit_of(training), 4, scale_head), fit_of(training)
    training.trainer = Around(training.trainer, wound)
    assert training.run(lambda: training.progress.iteration == stop) is (stop > ITERATIONS)
    before, after = ({k: v for k, v in s.items() if k.startswith("live.layers")} for s in wound.states)
    assert all(torch.equal(before[k], after[k]) for k in before if not k.endswith(("_u", "_v")))
    assert fit.growth.stage == (1 if stop > ITERATIONS else 0)
    (warning,) = [event.data["message"] for event in events if event.kind == "warning"]
    assert warning.startswith(f"iteration {seen} undone (")
    assert warning.endswith("; back to 0, rates halved")


def test_rates_that_are_far_too_high_are_halved_until_the_stage_is_given_up(tmp_path: Path) -> None:
    training = Training(plan(rate=1e5), tmp_path)
    with pytest.raises(TrainingError, match="after 3 roll-backs"):
        training.run()
    assert training.progress.stage_rollbacks == 4
    assert len(warnings_of(tmp_path)) == 3
    assert same(training.trainer.state(), load_state(next((tmp_path / "snapshots").iterdir()))[0])


class Doomed:
    """A step that reports a divergence from an iteration of a stage on."""

    def __init__(self, trainer: Trainer, stage: int, after: int) -> None:
        self._trainer, self._place = trainer, (stage, after)

    def __call__(self, step: Step, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        stage, after = self._place
        if self._trainer.stage == stage and iteration >= after:
            return {"f_data": float("nan")}
        return step(iteration, lr_scale, salt)


@pytest.mark.parametrize(
    ("stage", "after", "says"),
    [
        (0, 5, "on to stage 1 with the state of iteration"),
        (1, GROWN + 9, "ended with the state of iteration"),
    ],
)
def test_a_stage_that_can_not_be_finished_ends_with_its_best_state(
    stage: int, after: int, says: str, tmp_path: Path
) -> None:
    training = Training(
        plan(features=lambda images: images.mean((1, 3))), tmp_path / "run", rhythm=Rhythm(judge=2, judged=8)
    )
    training.trainer = around = Around(training.trainer, Doomed(training.trainer, stage, after))
    assert training.run()
    assert len(warnings_of(tmp_path / "run")) == 4
    assert f"(f_data is not finite); {says}" in warnings_of(tmp_path / "run")[-1]
    assert "None" not in warnings_of(tmp_path / "run")[-1]
    p = training.progress
    assert p.rollbacks == 4
    assert p.ended == (stage == 1)
    assert training.trainer.stage == 1
    best = dict(around.loaded[-1])
    if stage == 0:
        assert (p.iteration, p.stage_rollbacks) == (ITERATIONS, 0)
        frozen = {name: value for name, value in training.trainer.state().items() if name.startswith("frozen0.")}
        assert same(frozen, {f"frozen0.{k[5:]}": v for k, v in best.items() if k.startswith("live.")})
    else:
        assert same(training.trainer.state(), best)
    folder = training.publish(tmp_path / "models")
    card = json.loads((folder / "card.json").read_text())
    assert card["training"]["published"]["iteration"] == p.best_iteration
    assert load_model(folder, CPU).tasks.keys() >= {"generate", "score"}


def test_a_kill_after_a_stage_began_leaves_a_place_to_go_back_to(tmp_path: Path) -> None:
    """The state on disk is never of a stage before that of the snapshots."""
    training = Training(plan(), tmp_path)

    def killed(step: Step, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        if iteration == GROWN + 3:
            raise KeyboardInterrupt
        return step(iteration, lr_scale, salt)

    training.trainer = Around(training.trainer, killed)
    with pytest.raises(KeyboardInterrupt):
        training.run()
    second = Training(plan(), tmp_path)
    assert (second.progress.iteration, second.progress.stage) == (GROWN, 1)
    second.trainer = Around(second.trainer, Wound(fit_of(second), GROWN + 2, scale_head))
    assert second.run()
    assert second.progress.rollbacks == 1
