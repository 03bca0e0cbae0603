"""An iteration of a training never waits for its device.

The device is torch's ``meta``: its tensors have no numbers, so to read one on the host, by whatever call, is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.data.lab import to_lab
from models.systems.coopflow.pair import Phase
from models.training.learner import Learner
from models.training.readings import EVERY, Readings, due
from tests.models.zoo import CPU, SHIPPED, ZOO

META = torch.device("meta")
LEARNERS: Mapping[str, Callable[[Any], Sequence[Learner[Any]]]] = {
    "ccoopnets/labels": lambda trainer: [trainer.initializer, trainer.solver],
    "ccoopnets/images": lambda trainer: [trainer.initializer, trainer.solver],
    "cfebm/generation": lambda trainer: [trainer.fit.learner],
    "cfebm/translation": lambda trainer: [fit.learner for fit in trainer.fits.values()],
    "coopflow": lambda trainer: [trainer.pair.flow, trainer.pair.energy],
    "aishmc/pgan": lambda trainer: [trainer.generator, trainer.critic],
    "cgml/images": lambda trainer: [trainer.fit.coder, trainer.fit.predictor],
    "cgml/spectral": lambda trainer: [trainer.fit.coder, trainer.fit.predictor],
}


class Adam:
    """Stands for torch's, whose fused kernel refuses tensors without numbers."""

    def __init__(self, real: torch.optim.Adam) -> None:
        self.param_groups, self.updates = real.param_groups, 0

    def zero_grad(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self) -> None:
        self.updates += 1


class Sends(TorchDispatchMode):
    """Notes what the host sends to the device and waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        how = kwargs or {}
        if func is torch.ops.aten._to_copy.default and args[0].device != META and how.get("device") == META:
            self.awaited += [] if how.get("non_blocking") else [args[0].shape]
        return func(*args, **how)


CHANGES: Mapping[str, Mapping[str, Any]] = {
    "ccoopnets": {"training.precision": "fp32", "training.instance_noise": 0.1},
    "cfebm": {"training.precision": "fp32", "network.c": 2},
    "coopflow": {"training.precision": "fp32", "chain.steps": 1},
}
"""There is no mixed precision without numbers."""


def begun(name: str) -> tuple[Any, list[Adam]]:
    """A training of a tiny model there, and the stand-ins in it."""
    tiny = ZOO[name]
    config = replace(tiny, changes={**tiny.changes, **CHANGES.get(tiny.system, {})}).config()
    if tiny.variant == "coopflow":  # each step of a flow takes a second there
        config = config.model_copy(update={"flow": config.flow.model_copy(update={"scales": ((0, 1),)})})
    trainer: Any = SHIPPED[tiny.variant].trainer(config, tiny.data(), 3, META)
    learners = LEARNERS[tiny.variant](trainer)
    doubles = [Adam(learner.optimizer) for learner in learners]
    for learner, double in zip(learners, doubles, strict=True):
        learner.optimizer = double  # type: ignore[assignment]
    if tiny.variant == "coopflow":  # both learn, and a look is far
        trainer.pair.phase, trainer.pair.done = Phase.COOPERATION, config.training.flow_every
    return trainer, doubles


NAMES = {ZOO[name].variant: name for name in ZOO if ZOO[name].system != "toy"}
"""A model of each variant."""


@pytest.mark.parametrize("name", [*NAMES.values(), "cgml-colorize"])
def test_an_iteration_reads_nothing_of_its_device(name: str) -> None:
    trainer, doubles = begun(name)
    to_lab(torch.zeros(1, 3, 1, 1, device=META))  # its constants are sent once
    with Sends() as sends:
        assert trainer.step(1, 1.0, 0) == {}
    assert all(double.updates for double in doubles)
    assert sends.awaited == []


def objecting(iteration: int, metrics: Mapping[str, float]) -> str | None:
    return f"{iteration} is too large" if metrics["x"] > 2 else None


def test_figures_are_read_together_and_each_is_judged() -> None:
    readings = Readings(CPU, 100, objecting)
    assert readings.read() == {}
    for k, x in enumerate((1.0, 5.0, 4.0, 2.0)):
        readings.hold(k, {"x": torch.tensor(x), "k": float(k)})
    assert readings.trouble is None
    assert readings.read() == {"x": 2.0, "k": 3.0}
    assert readings.trouble == "1 is too large"
    assert readings.read() == {}
    readings.clear()
    assert readings.trouble is None


def test_a_cpu_is_looked_at_in_each_iteration_and_other_devices_now_and_then() -> None:
    assert all(due(CPU, k, 60) for k in range(60))
    assert [k for k in range(60) if due(META, k, 60)] == [EVERY - 1, 2 * EVERY - 1, 59]
