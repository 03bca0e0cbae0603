"""The training of CoopFlow: its phases, its guards, and that it can be resumed anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from models.data.images import ImageData
from models.systems.coopflow.config import Config, noise_share
from models.systems.coopflow.pair import Pair, Phase, weight_norm_scales
from models.systems.coopflow.presets import PRESETS
from models.systems.coopflow.training import CoopFlowTrainer, make_trainer
from models.training.draws import Draws
from tests.models.zoo import images

CPU = torch.device("cpu")
LENGTHS = {Phase.NORMS: 1, Phase.FLOW: 3, Phase.WARM_UP: 2, Phase.COOPERATION: 4}


def config(**changes: Any) -> Config:
    """Ten iterations in all phases."""
    tiny = PRESETS["tiny"].model_dump()
    training = {**tiny["training"], "iterations": 10, "flow_share": 1 / 3, "warm_up_share": 1 / 3}
    training |= {"batch_size": 4, "norm_images": 16, **changes}
    flow = {**tiny["flow"], "scales": ((0, 1), (1, 1)), "width": 8, "components": 2}
    return Config.model_validate({**tiny, "size": 16, "image_size": 12, "width": 4, "flow": flow, "training": training})


def data() -> ImageData:
    return images(size=12)


def trainer(**changes: Any) -> CoopFlowTrainer:
    return make_trainer(config(**changes), data(), 3, CPU)


def advance(trainer: CoopFlowTrainer, start: int, end: int) -> list[dict[str, float]]:
    return [trainer.step(k, 1.0, 0) for k in range(start, end)]


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize(
    ("preset", "energy", "flow"),
    [
        ("cpu-gray32", 447_540, 665_416),
        ("small-gray32", 447_540, 558_848),
        ("small-rgb32", 447_828, 747_440),
        ("small+", 853_132, 747_440),
        ("small-64", 890_580, 1_299_568),
        ("paper-cifar10-Pre", 17_129_444, 28_784_792),
        ("tiny", 163_484 - 2 * 9 * 8, 52_352),
    ],
)
def test_presets_have_the_sizes_of_their_tables(preset: str, energy: int, flow: int) -> None:
    with torch.device("meta"):
        pair = Pair(PRESETS[preset], Draws(0), torch.device("meta"))
    counts = [sum(p.numel() for p in net.network.parameters()) for net in (pair.energy, pair.flow)]
    assert counts == [energy, flow]


def test_the_pretrained_modes_of_the_paper_have_its_epochs() -> None:
    t = PRESETS["paper-svhn-Pre"].training
    epoch = 73_257 // 28
    assert (t.flow_iterations, t.warm_up_iterations, t.iterations) == (200 * epoch, 10 * epoch, 1 + 300 * epoch)


def test_the_noise_decays_to_nothing_and_stays_there() -> None:
    expected = {0: 1.0, 1: 0.5076, 2: 0.2516, 5: 0.0261, 10: 3.0e-4}
    assert {epoch: noise_share(epoch, 30) for epoch in expected} == pytest.approx(expected, rel=2e-2)
    assert [noise_share(epoch, 30) for epoch in (30, 31, 60, 75)] == [0.0] * 4
    assert noise_share(0, 0) == 0.0


def test_the_rate_of_the_flow_falls_to_nothing_in_its_phase_and_again_at_the_end() -> None:
    made = trainer(cool_down=0.7, ramp=1, lr_flow=1e-3, lr_flow_alone=1e-2, lr_energy=1e-4)
    rates = []
    for k in range(10):
        made.step(k, 1.0, 0)
        rates.append([learner.optimizer.param_groups[0]["lr"] for learner in (made.pair.flow, made.pair.energy)])
    flow, energy = zip(*rates, strict=True)
    assert flow[1:4] == pytest.approx([1e-2, 1e-2 * 2 / 2.1, 1e-2 / 2.1])
    assert flow[6:] == pytest.approx([1e-3 * k / 7 for k in (4, 3, 2, 1)])
    assert energy[4:] == pytest.approx([1e-4 * k / 7 for k in (6, 5, 4, 3, 2, 1)])


@pytest.mark.parametrize(("flow", "warm_up", "phase"), [(0.999, 0.0, Phase.FLOW), (0.0, 0.999, Phase.WARM_UP)])
def test_a_training_ends_in_its_last_phase(flow: float, warm_up: float, phase: Phase) -> None:
    """A phase that is entered after the last iteration would have no best state to publish."""
    made = trainer(iterations=4, flow_share=flow, warm_up_share=warm_up)
    advance(made, 0, 4)
    assert (made.pair.phase, made.pair.done) == (phase, 3)


def test_phases_follow_one_another() -> None:
    found = [Phase(int(metrics["phase"])) for metrics in advance(trainer(), 0, 10)]
    assert found == [phase for phase, length in LENGTHS.items() for _ in range(length)]
    without = trainer(flow_share=0.0, warm_up_share=0.0)
    assert [int(m["phase"]) for m in advance(without, 0, 3)] == [Phase.NORMS, *[Phase.COOPERATION] * 2]


def test_the_norms_fit_to_images_before_anything_is_learned() -> None:
    fresh = trainer()
    assert fresh.draw(2) is None
    before = fresh.state()
    advance(fresh, 0, 1)
    assert fresh.pair.flow.network.fitted
    changed = {name for name, value in fresh.state().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[2] for name in changed - {"place"}} == {"mean", "log_scale", "fitted"}


def test_the_flow_and_its_optimizer_rest_in_the_warm_up() -> None:
    t = trainer()
    advance(t, 0, 4)
    assert t.pair.phase is Phase.WARM_UP
    before = t.state()
    advance(t, 4, 6)
    after = t.state()
    flow = [name for name in before if name.startswith(("flow.", "opt_flow."))]
    assert flow
    assert all(torch.equal(before[name], after[name]) for name in flow)
    assert not torch.equal(before["energy.first.weight"], after["energy.first.weight"])
    assert t.pair.phase is Phase.COOPERATION
    advance(t, 6, 7)
    moved = t.state()
    assert any(not torch.equal(after[name], moved[name]) for name in flow)


def test_a_training_that_is_resumed_in_any_phase_repeats_an_unbroken_one() -> None:
    unbroken, resumed = trainer(), {stop: trainer() for stop in (1, 3, 5, 8)}
    for k in range(10):
        if k in resumed:
            resumed[k].load_state(unbroken.state())
        advance(unbroken, k, k + 1)
    for stop, one in resumed.items():
        advance(one, stop, 10)
        assert same(one.state(), unbroken.state()), stop


def test_the_rates_grow_anew_in_each_phase() -> None:
    """The first update of a phase is a small one, but not none."""
    t = trainer(ramp=4, lr_energy=1e-2, weight_decay=0.0)
    advance(t, 0, 6)
    before = t.pair.energy.network.first.weight.detach().clone()
    advance(t, 6, 7)
    step = (t.pair.energy.network.first.weight.detach() - before).abs().max()
    assert 0 < float(step) < 2 * 1e-2 / 4


def test_a_small_step_of_the_energy_widens_the_gap_as_its_gradient_says() -> None:
    t = trainer()
    advance(t, 0, 6)
    energy = t.pair.energy.network.double()
    real, made = torch.rand(2, 4, 1, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gap() -> Tensor:
        value: Tensor = energy(real).mean() - energy(made).mean()
        return value

    first = gap()
    gradients = torch.autograd.grad(first, list(energy.parameters()))
    h = 1e-6
    with torch.no_grad():
        for parameter, gradient in zip(energy.parameters(), gradients, strict=True):
            parameter += h * gradient
    expected = h * float(sum(g.square().sum() for g in gradients))
    assert float((gap() - first).detach()) == pytest.approx(expected, rel=0.01)


def test_a_step_of_the_flow_lowers_the_bits_of_its_batch() -> None:
    t = trainer(ramp=1, lr_flow=1e-3)
    advance(t, 0, 4)
    made = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = torch.rand(made.shape, generator=torch.Generator().manual_seed(2))
    t.pair.schedule(1.0)
    before = t.pair.flow_gradients(made, noise)
    assert bool(t.pair.update(before))
    assert t.pair.flow_gradients(made, noise)["bits"] < before["bits"]


def test_weight_decay_reaches_the_scales_of_weight_normalised_layers_alone() -> None:
    t = trainer()
    scales = weight_norm_scales(t.pair.flow.network)
    names = [n for n, p in t.pair.flow.network.named_parameters() if any(p is scale for scale in scales)]
    assert len(scales) == len(names) > 10
    assert all(name.endswith("original0") for name in names)
    groups = t.pair.flow.optimizer.param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups][1] == (len(scales), 5e-5)
    assert groups[0]["weight_decay"] == 0


# Guards


def test_an_iteration_with_a_number_that_is_not_finite_changes_nothing_and_three_go_back() -> None:
    t = trainer()
    advance(t, 0, 6)
    with torch.no_grad():
        t.pair.energy.network.head.bias.fill_(float("nan"))
    before = t.state()
    for k in range(3):
        assert t.diverged(5 + k, {}) is None
        metrics = t.step(6 + k, 1.0, 0)
        assert metrics["skipped"] == 1
        assert all(value == value for value in metrics.values())
    after = t.state()
    learned = [name for name in before if name.startswith(("flow.", "opt_"))]
    assert all(torch.equal(before[name], after[name]) for name in learned)
    assert "3 iterations in a row were skipped" in str(t.diverged(8, {}))


def test_a_gradient_far_beyond_its_limit_is_not_applied() -> None:
    t = trainer(guards={"energy_norm": 1e-9})
    advance(t, 0, 4)
    before = t.state()
    assert advance(t, 4, 5)[0]["skipped"] == 1
    assert torch.equal(before["energy.first.weight"], t.state()["energy.first.weight"])


def test_a_gradient_of_the_flow_that_jumps_while_it_learns_is_applied() -> None:
    t = trainer()
    usual = {"bits": torch.tensor(5.0), "norm_flow": torch.tensor(1.0)}
    for _ in range(20):
        t.pair.guards.note(usual, torch.tensor(True))
    found = [(5.0, 1.0), (4.0, 100.0), (5.6, 10.0), (5.6, 100.0), (4.0, 1e7)]
    allowed = [
        bool(t.pair.guards.allows({"bits": torch.tensor(bits), "norm_flow": torch.tensor(norm)}))
        for bits, norm in found
    ]
    assert allowed == [True, True, True, False, False]


def test_an_energy_that_stays_too_steep_goes_back() -> None:
    t = trainer(guards={"patience": 2})
    advance(t, 0, 6)
    with torch.no_grad():
        for parameter in t.pair.energy.network.parameters():
            parameter *= 5.5
    metrics = advance(t, 6, 8)
    assert [m["skipped"] for m in metrics] == [0, 0]  # it goes on learning, which is what makes it flatter
    assert all(0.01 < m["cut"] < 0.5 for m in metrics)
    assert "too steep for 2 iterations" in str(t.diverged(8, metrics[-1]))


def test_an_energy_that_has_gone_flat_goes_back_unless_its_ends_are_good() -> None:
    t = trainer(guards={"still": 1.0, "still_patience": 2})
    advance(t, 0, 6)
    metrics = {name: torch.tensor(1.0) for name in ("cut", "saturated", "saturated_data", "contrast_refined", "move")}
    allowed, good = torch.tensor(True), {**metrics, "cut": torch.tensor(0.0)}
    bad = {**good, "move": torch.tensor(0.5), "contrast_refined": torch.tensor(0.8)}
    for noted, said in ((bad, False), (bad, False), (good, False), ({**good, "move": torch.tensor(0.5)}, False)):
        t.pair.guards.note(noted, allowed)
        assert (t.pair.guards.hopeless() is not None) is said  # it never moved, or its ends are good
    for _ in range(2):
        t.pair.guards.note(bad, allowed)
    assert "gone flat" in str(t.diverged(9, {}))


def test_bits_of_chain_ends_that_rise_for_three_epochs_go_back() -> None:
    t = trainer()
    advance(t, 0, 6)

    def epochs(*bits: float) -> str | None:
        t.pair.guards.clear()
        for mean in bits:
            for off in (-0.5, 0.5):
                t.pair.guards.note({"bits": torch.tensor(mean + off)}, torch.tensor(True))
            t.pair.guards.end_epoch()
        return t.diverged(9, {})

    assert epochs(4.0, 4.1, 4.2) is None
    assert epochs(4.0, 4.1, 4.05, 4.2) is None
    assert epochs(4.0, 4.01, 4.02, 4.03) is None
    assert "rose from 4 to 4.2" in str(epochs(4.5, 4.0, 4.05, 4.1, 4.2))
    held = t.state()
    t.pair.guards.clear()
    t.load_state(held)
    assert "rose from 4 to 4.2" in str(t.diverged(9, {}))


def test_chains_that_diverge_are_skipped_and_three_go_back() -> None:
    t = trainer()
    advance(t, 0, 6)
    with torch.no_grad():
        for parameter in t.pair.energy.network.parameters():
            parameter *= 20
    assert [m["skipped"] for m in advance(t, 6, 9)] == [1, 1, 1]
    assert "3 iterations in a row were skipped" in str(t.diverged(9, {}))


def test_a_flow_that_does_not_invert_any_more_goes_back() -> None:
    t = trainer()
    assert "not invertible" in str(t.diverged(0, {"round_trip": 0.02}))
    assert t.diverged(0, {"round_trip": 1e-4}) is None


def test_leaving_phases_early_still_gives_a_model() -> None:
    t = trainer()
    while t.leave_stage():
        pass
    assert t.stage == Phase.COOPERATION
    assert bool(t.export()["flow.flow.finest.by_checkerboard.0.norm.fitted"])
    drawn = t.draw(3)
    assert drawn is not None
    assert drawn.shape == (3, 1, 16, 16)
    assert t.samples().shape == (8, 8, 1, 16, 16)
    assert t.reference(data().images[:2]).shape == (2, 1, 16, 16)


def test_impossible_sizes_are_refused() -> None:
    tiny = PRESETS["tiny"].model_dump()
    for changes, says in (
        ({"size": 24, "image_size": 24}, "power of two"),
        ({"image_size": 31}, "evenly"),
        ({"size": 8, "image_size": 8, "flow": {**tiny["flow"], "scales": ((0, 1),) * 4}}, "halved"),
    ):
        with pytest.raises(ValueError, match=says):
            Config.model_validate({**tiny, **changes})
