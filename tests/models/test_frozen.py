"""The networks as they are served against those that are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.core.loop import Rows
from models.core.noise import Key, Noise
from models.samplers.langevin import ascend, langevin
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.frozen_unet import FrozenUNet
from models.systems.ccoopnets.images.networks import UNet
from models.systems.ccoopnets.labels.config import PRESETS, Config
from models.systems.ccoopnets.labels.frozen_initializer import FrozenInitializer
from models.systems.ccoopnets.labels.frozen_solver import Drift, FrozenSolver
from models.systems.ccoopnets.labels.networks import Initializer, Solver
from models.training.configuration import configure
from tests.models.zoo import pairs


def small(size: int = 28, **solver: Any) -> Config:
    """The small preset with other images or another solver."""
    document = PRESETS["small"].model_dump()
    return Config.model_validate(document | {"size": size, "solver": document["solver"] | solver})


POOLED = [{"out": 8, "pooled": True, "kernel": 4, "stride": 2, "padding": 1}, {"out": 4, "kernel": 3}]
CONFIGS = {
    **PRESETS,
    **{f"joined at {k}": small(concat_at=k) for k in range(3)},
    "odd size": small(size=27),
    "leaky": small(activation="leaky_relu"),
    "wide padding": small(
        layers=[{"out": 4, "kernel": 3, "padding": 4}, {"out": 4, "kernel": 3, "padding": 3}], concat_at=1
    ),
    "pooled": small(layers=POOLED, concat_at=1),
}


def both(config: Config) -> tuple[Solver, FrozenSolver, Tensor, Tensor]:
    """A solver in both forms, images, and labels of which the last is a mix."""
    torch.manual_seed(0)
    solver = Solver(config).double().requires_grad_(False)
    frozen = FrozenSolver(solver, config.solver.activation, config.size)
    y = torch.randn(3, config.channels, config.size, config.size).double()
    c = torch.eye(config.classes).double()[:3].clone()
    c[2] = torch.linspace(0, 1, config.classes) / config.classes
    return solver, frozen, y, c


@pytest.mark.parametrize("name", CONFIGS)
def test_value_and_gradient_are_those_of_the_trained_solver(name: str) -> None:
    solver, frozen, y, c = both(CONFIGS[name])
    before = {k: v.clone() for k, v in solver.state_dict().items()}
    torch.testing.assert_close(frozen(y, c), solver(y, c))
    expected = ascend(lambda rows: solver(rows["y"], rows["c"]), {"y": y, "c": c})
    assert expected.abs().max() > 0
    torch.testing.assert_close(frozen.gradient(y, c), expected)
    assert all(torch.equal(v, before[k]) for k, v in solver.state_dict().items())


def test_a_step_with_the_drift_is_the_step_without_it() -> None:
    _, frozen, y, c = both(PRESETS["small"])
    one = torch.ones(3, 1, 1, 1).double()
    rows: Rows = {"y": y, "c": c, "eta": one, "rho": one * 0.1, "tau": one * 0.2}

    def value(rows: Rows) -> Tensor:
        found: Tensor = frozen(rows["y"], rows["c"])
        return found

    drift = Drift(frozen)
    steps = [langevin(value), langevin(value, lambda rows: drift(*(rows[k] for k in ("y", "c", "eta", "rho"))))]
    first, second = (
        step(rows, torch.zeros(3, dtype=torch.int64), Noise([Key(k, 0, 0) for k in range(3)], "cpu")) for step in steps
    )
    torch.testing.assert_close(first["y"], second["y"])


def test_no_graph_is_built_for_the_gradient() -> None:
    _, frozen, y, c = both(PRESETS["small"])
    assert not frozen.gradient(y.requires_grad_(True), c).requires_grad


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_weights_give_the_same_numbers(name: str) -> None:
    _, frozen, y, c = both(CONFIGS[name])
    value, gradient = frozen(y, c), frozen.gradient(y, c)
    bare = frozen.float().nbytes
    frozen.pack()
    assert frozen.nbytes > bare
    scale = gradient.abs().max().item()
    for n in (1, 3):  # as torch takes another algorithm for a row alone
        torch.testing.assert_close(frozen(y[:n].float(), c[:n]).double(), value[:n], atol=1e-4, rtol=1e-4)
        packed = frozen.gradient(y[:n].float(), c[:n]).double()
        torch.testing.assert_close(packed, gradient[:n], atol=1e-5 * scale, rtol=1e-4)


def test_a_gradient_through_packed_weights_is_not_lost() -> None:
    _, frozen, y, c = both(PRESETS["small"])
    frozen.float().pack()
    rows = {"y": y.float(), "c": c}
    found = ascend(lambda rows: frozen(rows["y"], rows["c"]), rows)
    torch.testing.assert_close(found, frozen.gradient(rows["y"], c), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("concat_at", [None, 0, 1, 2])
def test_the_served_initializer_proposes_the_same_images(name: str, concat_at: int | None) -> None:
    document = PRESETS[name].model_dump()
    if concat_at is not None:
        document["initializer"] |= {"concat_at": concat_at}
    config = Config.model_validate(document)
    torch.manual_seed(1)
    trained = Initializer(config).double().requires_grad_(False)
    x, c = torch.randn(5, config.initializer.latent).double(), torch.eye(config.classes).double()[:5]
    for _ in range(3):  # statistics that are not those of the start
        trained(3 * x, c)
    for norm in trained.norms:
        norm.weight.uniform_(0.5, 2.0), norm.bias.uniform_(-1.0, 1.0)
    expected = trained.eval()(x, c)
    frozen = FrozenInitializer(trained)
    assert expected.std() > 0.01
    torch.testing.assert_close(frozen(x, c), expected)  # both float32: of numbers that are not
    frozen.float().pack()
    for n in (1, 5):
        torch.testing.assert_close(frozen(x[:n].float(), c[:n]), expected[:n], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(trained(x, c), expected)


UNETS: dict[str, Mapping[str, Any]] = {
    "smooth": {},
    "plain": {"initializer.smooth": False},
    "without a finish": {"initializer.finish": None},
    "masks of activations": {"initializer.dropout": "activation", "initializer.finish_layers": 1},
}


@pytest.mark.parametrize("name", UNETS)
def test_the_served_u_net_answers_with_the_same_images(name: str) -> None:
    config = configure("ccoopnets", "small-emoji", pairs(), UNETS[name])
    assert isinstance(config, ImageConfig)
    torch.manual_seed(1)
    trained = UNet(config).double().requires_grad_(False)
    for norm in [*trained.down_norms, *trained.up_norms]:
        if isinstance(norm, nn.InstanceNorm2d):
            norm.weight.uniform_(0.5, 2.0), norm.bias.uniform_(-1.0, 1.0)
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    c = torch.rand(3, config.condition_channels, config.size, config.size).double() * 2 - 1
    masks = [torch.rand(3, *shape) for shape in trained.mask_shapes]
    expected = trained(c, masks)
    assert expected.std() > 0.01
    frozen = FrozenUNet(trained)
    torch.testing.assert_close(frozen(c, masks), expected)  # both float32: of numbers that are not
    bare = frozen.float().nbytes
    frozen.pack()
    assert frozen.nbytes > bare
    for n in (1, 3):
        found = frozen(c[:n].float(), [mask[:n] for mask in masks])
        torch.testing.assert_close(found, expected[:n], atol=1e-4, rtol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
