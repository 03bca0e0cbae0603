"""Networks as they are served against the networks that are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.core.loop import Rows, run
from models.core.output import Output
from models.samplers.langevin import ascend
from models.serving import fast_networks, served
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.networks import unet
from models.systems.ccoopnets.labels.config import PRESETS, Config
from models.systems.ccoopnets.labels.networks import Initializer, Solver
from models.training.configuration import configure
from tests.models.zoo import ZOO, fresh_model, job, pairs


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


def both(config: Config, dtype: torch.dtype) -> tuple[Solver, Any, Tensor, Tensor]:
    """A solver as it is trained, its value of rows as it is served, images, and labels of which the last is a mix."""
    torch.manual_seed(0)
    solver = Solver(config).to(dtype).requires_grad_(False)
    y = torch.randn(3, config.channels, config.size, config.size, dtype=dtype)
    c = torch.eye(config.classes, dtype=dtype)[:3].clone()
    c[2] = torch.linspace(0, 1, config.classes) / config.classes

    def value(rows: Rows) -> Tensor:
        found: Tensor = solver(rows["y"], rows["c"])
        return found

    fast = served(value, {"y": y[:1].clone().requires_grad_(True), "c": c[:1]})
    return solver, fast, y, c


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # only float32 is prepacked
@pytest.mark.parametrize("name", CONFIGS)
def test_value_and_gradient_are_those_of_the_trained_solver(
    name: str, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    solver, fast, y, c = both(CONFIGS[name], dtype)
    before = {k: v.clone() for k, v in solver.state_dict().items()}
    expected = ascend(lambda rows: solver(rows["y"], rows["c"]), {"y": y, "c": c})
    scale = expected.abs().max().item()
    assert scale > 0
    close = {"atol": 1e-5 * scale, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-12 * scale, "rtol": 1e-7}
    for n in (1, 3):
        rows = {"y": y[:n], "c": c[:n], "more": y}
        torch.testing.assert_close(fast(rows), solver(y[:n], c[:n]), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ascend(fast, rows), expected[:n], **close)
    assert all(torch.equal(v, before[k]) for k, v in solver.state_dict().items())
    assert not caplog.text


def test_a_served_value_can_be_part_of_what_is_differentiated() -> None:
    solver, fast, y, c = both(PRESETS["small"], torch.float64)
    found = ascend(lambda rows: 2 * fast(rows) + fast({**rows, "y": rows["y"].flip(3)}), {"y": y, "c": c})
    expected = ascend(
        lambda rows: 2 * solver(rows["y"], rows["c"]) + solver(rows["y"].flip(3), rows["c"]), {"y": y, "c": c}
    )
    torch.testing.assert_close(found, expected)


def test_a_gradient_that_was_not_announced_is_not_lost() -> None:
    solver, fast, y, c = both(PRESETS["small"], torch.float64)
    c.requires_grad_(True)
    (found,) = torch.autograd.grad(fast({"y": y, "c": c}).sum(), c)
    (expected,) = torch.autograd.grad(solver(y, c).sum(), c)
    assert found.abs().max() > 0
    torch.testing.assert_close(found, expected)


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
    assert expected.std() > 0.01
    torch.testing.assert_close(served(trained, x[:1], c[:1])(x, c), expected)  # both float32: of numbers that are not
    single = served(trained.float(), x[:1].float(), c[:1].float())
    for n in (1, 5):
        torch.testing.assert_close(single(x[:n].float(), c[:n].float()), expected[:n], atol=1e-4, rtol=1e-4)


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
    trained = unet(config).double().requires_grad_(False)
    for norm in [*trained.down_norms, *trained.up_norms]:
        if isinstance(norm, nn.InstanceNorm2d):
            norm.weight.uniform_(0.5, 2.0), norm.bias.uniform_(-1.0, 1.0)
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    c = torch.rand(3, config.condition_channels, config.size, config.size).double() * 2 - 1
    masks = [torch.rand(3, *shape) for shape in trained.mask_shapes]
    expected = trained(c, masks)
    assert expected.std() > 0.01
    fast = served(trained, c[:1], [mask[:1] for mask in masks])
    torch.testing.assert_close(fast(c, masks), expected)  # both float32: of numbers that are not
    c, masks = c.float(), [mask.float() for mask in masks]
    fast = served(trained.float(), c[:1], [mask[:1] for mask in masks])
    for n in (1, 3):
        torch.testing.assert_close(fast(c[:n], [mask[:n] for mask in masks]), expected[:n], atol=1e-4, rtol=1e-4)
    assert fast.constants
    assert all(torch.equal(v, before[k].float()) for k, v in trained.state_dict().items())


def outputs(name: str, fast: bool) -> dict[str, Output]:
    """What a model does that was loaded for this: whether its networks are fast is decided then."""
    with fast_networks(fast):
        model = fresh_model(name)
    return {task: run(model.start(task, job(name, task))) for task in model.tasks}


@pytest.mark.parametrize("name", ZOO)
def test_all_that_is_served_is_traced_and_makes_the_pictures_of_networks_as_they_are_written(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fast, plain = outputs(name, True), outputs(name, False)
    assert not caplog.text
    assert plain
    for task, output in plain.items():
        torch.testing.assert_close(fast[task].energy, output.energy, atol=1e-4, rtol=1e-4)
        if output.images is not None:
            torch.testing.assert_close(fast[task].images, output.images, atol=3e-5, rtol=0)
