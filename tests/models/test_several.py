"""Trainings shared out among processes on the CPU, held against the same in one process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.systems.registry import VARIANTS
from models.training.configuration import TrainingError, choose
from models.training.plan import Event, Plan, Rhythm
from models.training.several import check_several, run_several
from models.training.team import ALONE, Team
from models.training.training import Training
from tests.models.zoo import CPU, Tiny, domains, images, pairs

ITERATIONS = 4
TOLERANCE = 2e-4
"""Of metrics, relative to the largest in the iteration that is as large as one; sums of floats are in another order."""
WEIGHTS = 2e-4
"""Of weights, absolute: a tenth of an update at the rates of these presets."""

SMALL = {"training.batch_size": 4, "refinement.steps": 2}
SHARED: dict[str, Tiny] = {
    "labels": Tiny("ccoopnets", "small", images, SMALL),
    "inpainting": Tiny("ccoopnets", "small-inpaint", pairs, {**SMALL, "initializer.finish": 8}),
    "generation": Tiny("cfebm", "tiny", images, {"network.c": 4}),
    "translation": Tiny("cfebm", "small-translate", domains, {"network.c": 2}),
    "flow": Tiny("coopflow", "tiny", images, {"training.flow_share": 0.25, "training.iterations": 6}),
}


def trainer_of(name: str, team: Team) -> Any:
    tiny = SHARED[name]
    shared = {} if team is ALONE else {"team": team}
    return VARIANTS[tiny.variant].trainer(tiny.config(), tiny.data(), 3, CPU, **shared)


def fitted(name: str, team: Team) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    trainer = trainer_of(name, team)
    metrics = [trainer.step(k, 1.0, 0) for k in range(ITERATIONS)]
    return metrics, trainer.state()


def plan_of(team: Team) -> Plan:
    tiny = SHARED["generation"]
    config = tiny.config()
    config = config.model_copy(update={"training": config.training.model_copy(update={"iterations": 5})})
    return Plan(tiny.variant, config, tiny.data(), "several", 3, CPU, "x", features=features, team=team)


def features(drawn: Tensor) -> Tensor:
    return drawn.float().flatten(1)[:, :8]


RHYTHM = Rhythm(save=0, log=1, sample=5, judge=2, snapshot=2, judged=8)


def trained(team: Team, folder: Path, stops: tuple[int, ...] = ()) -> tuple[bool, int, list[str]]:
    """A training that is stopped at some iterations by the first process, and goes on from what was saved."""
    for stop in (*stops, 99):
        told: list[Event] = []
        training = Training(plan_of(team), folder, told.append, RHYTHM)

        def should_stop(training: Training = training, stop: int = stop) -> bool:
            return team.first and training.progress.iteration >= stop

        finished = training.run(should_stop)
    return finished, training.progress.iteration, [event.kind for event in told]


def diverging(team: Team) -> Tensor:
    """A chain of the second process has diverged."""
    return team.together(4, lambda: torch.tensor([[1.0], [torch.nan if team.rank else 2.0]]))


def failing(team: Team) -> str:
    """What the first process could not do is an error in all."""

    def work() -> None:
        raise TrainingError(f"process {team.rank} can't")

    try:
        team.told(work)
    except TrainingError as error:
        return str(error)
    return "it went on"


def everything(team: Team, device: torch.device, folder: Path) -> None:
    torch.set_num_threads(1)
    found = {
        "fitted": {name: fitted(name, team) for name in SHARED},
        "rows": team.together(5, lambda: team.own(torch.arange(10.0).view(5, 2))),
        "diverging": diverging(team),
        "failing": failing(team),
        "unbroken": trained(team, folder / "unbroken"),
        "resumed": trained(team, folder / "resumed", stops=(1, 3)),
    }
    torch.save(found, folder / f"{team.rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What two processes have found."""
    folder = tmp_path_factory.mktemp("two")
    run_several(2, "cpu", everything, folder)
    assert not multiprocessing.active_children()
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_learn_what_one_does(name: str, two: tuple[Path, list[dict[str, Any]]]) -> None:
    """With the same batch in all: the same metrics and weights but for rounding, and the same bits in both."""
    metrics, state = fitted(name, ALONE)
    shared, held = two[1][0]["fitted"][name]
    for own, its in zip(metrics, shared, strict=True):
        assert own.keys() == its.keys()
        for key, value in own.items():
            assert its[key] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), key
    assert state.keys() == held.keys()
    for key, value in state.items():
        torch.testing.assert_close(held[key], value, rtol=TOLERANCE, atol=WEIGHTS, msg=lambda m, key=key: f"{key}: {m}")
    others, other = two[1][1]["fitted"][name]
    assert others == shared
    assert all(torch.equal(other[key], value) for key, value in held.items())


def test_rows_come_together_in_order(two: tuple[Path, list[dict[str, Any]]]) -> None:
    for found in two[1]:
        assert torch.equal(found["rows"], torch.arange(10.0).view(5, 2))


def test_trouble_of_one_process_is_that_of_all(two: tuple[Path, list[dict[str, Any]]]) -> None:
    first, second = two[1]
    lost = torch.tensor([[1.0], [1.0], [2.0], [torch.nan]])
    assert all(torch.equal(one["diverging"].nan_to_num(), lost.nan_to_num()) for one in (first, second))
    assert first["failing"] == second["failing"] == "process 0 can't"


def test_a_shared_training_that_was_stopped_goes_on_with_the_same_bits(two: tuple[Path, list[dict[str, Any]]]) -> None:
    """The first process alone writes and tells."""
    folder, (first, second) = two
    states = [(folder / name / "state.safetensors").read_bytes() for name in ("unbroken", "resumed")]
    lines = [(folder / name / "metrics.jsonl").read_text().count("\n") for name in ("unbroken", "resumed")]
    assert first["unbroken"][:2] == first["resumed"][:2] == second["resumed"][:2] == (True, 5)
    assert "metrics" in first["unbroken"][2]
    assert "sample" in first["resumed"][2]
    assert second["unbroken"][2] == second["resumed"][2] == []
    assert lines[0] == lines[1] == 5 + 3  # and three judgements
    assert _tensors(states[0]) == _tensors(states[1])


def _tensors(state: bytes) -> bytes:
    """Of a file of safetensors what follows its header, which tells how long it took."""
    return state[8 + int.from_bytes(state[:8], "little") :]


def killed(team: Team, device: torch.device) -> None:
    if team.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    team.any(True)


def test_a_process_that_is_killed_ends_all_with_a_message() -> None:
    with pytest.raises(TrainingError, match=r"process \d of 2 has failed, so all have ended .* from the last save"):
        run_several(2, "cpu", killed)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("system", "preset", "batch", "size", "device", "why"),
    [
        ("ccoopnets", "small", 5, 2, "cpu", "a batch of 5 images can't be divided among 2 devices"),
        ("ccoopnets", "small", 1, 2, "cpu", "a batch of 1 images can't be divided among 2 devices"),
        ("ccoopnets", "small", 100000, 100000, "cpu", "more than this machine has"),
        ("ccoopnets", "small", 4, 2, "cuda:1", "the kind of device, cuda or cpu, not 'cuda:1'"),
        ("aishmc", "tiny", None, 2, "cpu", "aishmc is trained on one device only: its critic"),
    ],
)
def test_what_can_not_be_shared_out_is_refused(
    system: str, preset: str, batch: int | None, size: int, device: str, why: str
) -> None:
    tiny = Tiny(system, preset, images)
    config = choose(tiny.variant, preset, {} if batch is None else {"training.batch_size": batch})
    with pytest.raises(TrainingError, match=why):
        check_several(tiny.variant, config, size, device)


class Pair:
    """What ties the first of two processes, none of which is there."""

    global_rank, world_size = 0, 2

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device


def test_a_plan_of_several_refuses_what_is_trained_alone() -> None:
    tiny = Tiny("aishmc", "tiny", lambda: images(size=12))
    plan = Plan(tiny.variant, tiny.config(), tiny.data(), "x", 0, CPU, "x")
    with pytest.raises(TrainingError, match="in one process only"):
        replace(plan, team=Team(Pair())).trainer()  # type: ignore[arg-type]


def test_processes_on_gpus_ask_each_other_no_more_often_than_they_are_looked_at() -> None:
    alone, cpus, gpus = Team(), Team(Pair()), Team(Pair(torch.device("cuda")))  # type: ignore[arg-type]
    assert all(team.asks(k, 60) for team in (alone, cpus) for k in range(60))
    assert [k for k in range(60) if gpus.asks(k, 60)] == [24, 49, 59]
