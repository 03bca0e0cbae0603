"""What a training will take of memory is told before it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.training.configuration import TrainingError
from models.training.memory import HELD_FACTOR, Need, bounded, check_memory, needs, saved_bytes
from models.training.plan import Plan
from models.training.training import Training
from tests.models.test_training import SYSTEM_NAMES, plan

GIB = 2**30


def with_batch(plan: Plan, rows: int) -> Plan:
    training = plan.config.training.model_copy(update={"batch_size": rows})
    return replace(plan, config=plan.config.model_copy(update={"training": training}))


def test_what_autograd_holds_is_counted_while_it_is_held() -> None:
    with saved_bytes() as meter:
        x = torch.ones(1000, requires_grad=True)
        y = x.exp()  # holds its result
        assert (meter.now, meter.most) == (4000, 4000)
        z = y.exp()
        w = z * z  # what is held already is not counted again
        assert meter.now == 8000
        w.sum().backward()
        del y, z, w
        assert (meter.now, meter.most) == (0, 8000)


def test_trials_with_few_rows_tell_what_a_batch_takes() -> None:
    (need,) = needs(with_batch(plan("ccoopnets"), 64), 8)
    assert need.rows == 64
    for rows in (16, 64):
        trainer = with_batch(plan("ccoopnets"), rows).trainer()
        with saved_bytes() as meter:
            trainer.step(0, 1.0, 0)
        assert need.row * rows > need.fixed / 10
        held = HELD_FACTOR * meter.most
        assert 0.9 * held < need.total(rows) < 1.3 * held + 2.5 * sum(t.nbytes for t in trainer.state().values())


@pytest.mark.parametrize("system", SYSTEM_NAMES)
def test_every_system_is_measured_in_all_its_stages(system: str) -> None:
    one = plan(system)
    found = needs(one, 2)
    trainer = one.trainer()
    stages = 1
    while trainer.leave_stage():
        stages += 1
    assert len(found) == stages
    assert all(need.fixed > 0 for need in found)
    assert max(need.total() for need in found) < GIB


def test_a_batch_that_is_too_large_is_refused_in_words_before_it_is_made() -> None:
    one = with_batch(plan("ccoopnets"), 65_536)
    with pytest.raises(
        TrainingError, match=r"with 65536 images a batch .* about \d+\.\d GiB of memory, but .* 0\.1 GiB"
    ):
        check_memory(one, GIB // 10)
    check_memory(one, 1000 * GIB)


def test_weights_that_are_too_large_are_refused_before_they_are_touched() -> None:
    one = plan("cfebm")
    network = one.config.network.model_copy(update={"c": 3000})
    with pytest.raises(TrainingError, match="the networks of these settings take more than"):
        check_memory(replace(one, config=one.config.model_copy(update={"network": network})), GIB)
    with bounded(400), pytest.raises(TrainingError, match="choose smaller ones"):
        torch.nn.Linear(10, 10)
    torch.nn.Linear(100, 100)  # bounded no more


def test_a_chain_that_diverges_in_a_trial_is_not_the_trials_affair() -> None:
    one = plan("ccoopnets", refinement__eta=1e30)
    trainer = one.trainer()
    assert "a chain diverged" in (trainer.diverged(0, trainer.step(0, 1.0, 0)) or "")
    check_memory(one, GIB)


def test_a_need_grows_with_its_rows() -> None:
    assert Need(100.0, 10.0, 5).total() == 150
    assert Need(100.0, 10.0, 5).total(8) == 180


@pytest.mark.parametrize("settings", [{"network__c": 10**7}, {"network__c": 10**12}])
def test_settings_of_which_no_model_can_be_built_are_refused_in_words(settings: dict[str, int], tmp_path: Path) -> None:
    one = plan("cfebm", **settings)
    with pytest.raises(TrainingError, match=r"^no model can be built with these settings: \S"):
        Training(one, tmp_path)
    with pytest.raises(TrainingError):
        check_memory(one, GIB)
