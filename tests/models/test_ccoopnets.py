"""Networks, configuration and tasks of CCoopNets."""

from __future__ import annotations

import pytest
import torch

from models.core.loop import run
from models.networks.layers import initialize_as_paper
from models.systems.ccoopnets.labels.config import PRESETS, Config
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.ccoopnets.labels.networks import Initializer, Solver
from tests.models.zoo import CLASSES, generate_job, tiny_model


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def deconvolution(inputs: int, outputs: int, kernel: int, norm: bool) -> int:
    return inputs * outputs * kernel**2 + outputs + 2 * outputs * norm


def chain(widths: list[int], kernels: list[int], label_at: int = 0) -> int:
    """Parameters of an initializer with batch norm after all layers but the last; the label joins one of them."""
    layers = zip(widths[:-1], widths[1:], kernels, strict=True)
    return sum(
        deconvolution(i + 10 * (k == label_at), o, kernel, k < len(kernels) - 1)
        for k, (i, o, kernel) in enumerate(layers)
    )


SOLVER_28 = 1_648_228  # k5 s2 64, k3 s2 128, label, k3 256, then 7x7x256 to 100
SOLVER_32 = (3 * 25 * 64 + 64) + (64 * 9 * 128 + 128) + (138 * 9 * 256 + 256) + (8 * 8 * 256 * 100 + 100)


@pytest.mark.parametrize(
    ("preset", "initializer", "solver"),
    [
        ("small", chain([100, 128, 128, 64, 32, 1], [7, 3, 4, 4, 3]), 746_052),
        (
            "small-colour",
            chain([100, 128, 128, 64, 32, 3], [8, 3, 4, 4, 3]),
            (3 * 16 * 32 + 32) + (32 * 16 * 64 + 64) + (74 * 9 * 128 + 128) + (8 * 8 * 128 * 100 + 100),
        ),
        ("paper-mnist", chain([100, 256, 128, 64, 1], [4, 4, 4, 4]), SOLVER_28),
        ("paper-fashion", chain([128, 256, 128, 64, 1], [4, 4, 4, 4]), SOLVER_28),
        ("paper-svhn", chain([100, 256, 128, 64, 3], [4, 4, 4, 4]), SOLVER_32),
        ("paper-cifar10", chain([100, 256, 128, 64, 3], [4, 5, 5, 5], label_at=2), SOLVER_32),
    ],
)
def test_sizes_of_the_presets(preset: str, initializer: int, solver: int) -> None:
    config = PRESETS[preset]
    g, f = Initializer(config).eval(), Solver(config)
    assert parameters(g) == initializer
    assert parameters(f) == solver
    c = torch.eye(10)[:2]
    with torch.no_grad():
        y = g(torch.randn(2, config.initializer.latent), c)
        assert y.shape == (2, config.channels, config.size, config.size)
        assert f(y, c).shape == (2,)


def test_every_preset_is_tested() -> None:
    assert set(PRESETS) == {"small", "small-colour", "paper-mnist", "paper-fashion", "paper-svhn", "paper-cifar10"}


@pytest.mark.parametrize(("preset", "steps"), [("paper-mnist", 16), ("paper-cifar10", 8)])
def test_paper_presets_have_the_papers_loop(preset: str, steps: int) -> None:
    r, d, s = PRESETS[preset].refinement, 0.0008, 0.016
    assert (r.eta, r.rho, r.tau, r.steps) == (pytest.approx(d**2 / 2), pytest.approx(1 / s**2), d, steps)


def test_the_summed_head_is_the_sum_of_its_hundred_outputs() -> None:
    torch.manual_seed(0)
    f = Solver(PRESETS["small"])
    y, c = torch.randn(3, 1, 28, 28), torch.eye(10)[:3]
    h = y
    for k, layer in enumerate(f.layers):
        if k == f.concat_at:
            h = torch.cat([h, 6 * c[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)
        h = torch.nn.functional.silu(layer(h))
    torch.testing.assert_close(f(y, c), f.head(h.flatten(1)).sum(1))


def test_the_label_reaches_both_networks() -> None:
    torch.manual_seed(0)
    for preset in PRESETS:
        config = PRESETS[preset]
        g, f = Initializer(config).eval(), Solver(config)
        x, c = torch.randn(1, config.initializer.latent), torch.eye(10)
        with torch.no_grad():
            y = g(x.expand(2, -1), c[:2])
            assert not torch.equal(y[0], y[1])
            values = f(y[:1].expand(2, -1, -1, -1), c[:2])
            assert values[0] != values[1]


@pytest.mark.parametrize("concat_at", [0, 1, 2])
def test_the_values_of_every_label_at_once_are_those_one_by_one(concat_at: int) -> None:
    config = PRESETS["small"].model_copy(
        update={"solver": PRESETS["small"].solver.model_copy(update={"concat_at": concat_at})}
    )
    solver, y = Solver(config), torch.randn(3, 1, 28, 28)
    one_by_one = torch.stack([solver(y, label.expand(3, 10)) for label in torch.eye(10)], 1)
    torch.testing.assert_close(solver.of_every_label(y), one_by_one)


def test_paper_initialization() -> None:
    torch.manual_seed(0)
    f = Solver(PRESETS["paper-mnist"])
    initialize_as_paper(f)
    assert f.head.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert f.head.bias.abs().max() == 0


def test_the_learning_gradient_against_central_differences() -> None:
    """Eq. 6, d/dtheta [mean f(Y) - mean f(Y~)], in float64."""
    torch.manual_seed(0)
    document = PRESETS["small"].model_dump()
    document |= {"size": 8, "classes": 3}
    document["solver"]["layers"] = [
        {"out": 3, "kernel": 4, "stride": 2, "padding": 1},
        {"out": 4, "kernel": 3, "padding": 1},
    ]
    document["solver"] |= {"concat_at": 1, "head": 5}
    f = Solver(Config.model_validate(document)).double()
    data, refined = torch.randn(4, 1, 8, 8).double(), torch.randn(4, 1, 8, 8).double()
    c = torch.eye(3).double()[[0, 1, 2, 0]]

    def objective() -> torch.Tensor:
        return f(data, c).mean() - f(refined, c).mean()

    objective().backward()
    for parameter in f.parameters():
        direction = torch.randn_like(parameter)
        analytic = (parameter.grad * direction).sum().item()
        h = 1e-5
        with torch.no_grad():
            parameter += h * direction
            up = objective().item()
            parameter -= 2 * h * direction
            down = objective().item()
            parameter += h * direction
        assert (up - down) / (2 * h) == pytest.approx(analytic, rel=1e-6, abs=1e-10)


def job(**changes):  # type: ignore[no-untyped-def]
    return generate_job(**{"n": 3, "noise": 0.0, **changes})


def test_without_refinement_the_proposal_comes_back() -> None:
    model = tiny_model("ccoopnets")
    assert isinstance(model.kernels, CCoopNets)
    proposal = run(model.start("generate", job(refine=False))).images
    assert torch.equal(proposal, run(model.start("generate", job(steps=0))).images)
    refined = run(model.start("generate", job(steps=5))).images
    assert 0 < (refined - proposal).abs().mean() < 0.5


def test_refinement_raises_the_value() -> None:
    model = tiny_model("ccoopnets")
    energies = [run(model.start("generate", job(steps=steps, step_size=0.1))).energy for steps in (0, 5, 20)]
    assert (energies[1] < energies[0]).all()
    assert (energies[2] < energies[1]).all()


def test_a_mix_of_one_label_is_that_label_and_mixes_lie_between() -> None:
    model = tiny_model("ccoopnets")

    def images(label: dict[str, float]) -> torch.Tensor:
        return run(model.start("generate", job(label=label, refine=False))).images

    pure = [images({name: 1.0}) for name in CLASSES[:2]]
    assert not torch.equal(*pure)
    half = images({CLASSES[0]: 0.5, CLASSES[1]: 0.5})
    between = (half - pure[0]).norm() + (half - pure[1]).norm()
    assert between < 2 * (pure[0] - pure[1]).norm()
    assert not torch.equal(half, pure[0])


def test_the_energy_is_that_of_the_clipped_image_with_its_reference() -> None:
    model = tiny_model("ccoopnets")
    assert isinstance(model.kernels, CCoopNets)
    output = run(model.start("generate", job(label={"thin": 1.0})))
    c = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, -1)
    with torch.no_grad():
        torch.testing.assert_close(output.energy, -model.kernels.solver(output.images, c))
