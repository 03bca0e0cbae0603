"""Annealed HMC and descent in the latents of decoders whose posteriors are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from models.core.loop import Kernel, Loop, Rows, RowsError, Task, run, run_together
from models.core.noise import Key, Noise, row_seeds, streams
from models.samplers.cogeneration import Cogeneration, sigmoid
from models.samplers.observation import Observation, avg_pool, whole
from models.samplers.stepsizes import KNOTS, adapted, looked_up, table
from models.serving import fast_networks
from models.systems.aishmc.settings import Settings
from models.systems.aishmc.solver import diagnostics, log_evidence, solve
from models.systems.ccoopnets.labels.decoder import LabelDecoder
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.coopflow.decoder import FlowDecoder
from models.systems.coopflow.model import CoopFlow
from tests.models.decoders import CPU, Line, Ring, kernels, line_at, second_is_zero
from tests.models.zoo import tiny_model


def schedule(low: float, high: float, temperatures: int, *, raw: bool) -> list[float]:
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)
    rows = {
        "low": one * low,
        "high": one * high,
        "temperatures": torch.tensor([temperatures]),
        "raw": none | raw,
        "descends": none,
        "adapts": ~none,
        "own": one,
        "b": one,
        "s": one,
        "table": torch.ones(1, len(KNOTS)),
    }
    rows["table"] = rows["table"].double()
    return [float(sigmoid(rows, torch.tensor([k]))[0]) for k in range(-1, temperatures)]


@pytest.mark.parametrize(("low", "high", "ends"), [(-5, 5, (0.006693, 0.993307)), (-10, 2, (4.540e-5, 0.880797))])
def test_the_schedule_has_the_published_ends_and_normalised_exact_ones(
    low: float, high: float, ends: tuple[float, float]
) -> None:
    raw, normalised = (schedule(low, high, 20, raw=raw) for raw in (True, False))
    assert (raw[0], raw[-1]) == pytest.approx(ends, rel=1e-4)
    assert (normalised[0], normalised[-1]) == (0.0, 1.0)
    assert all(a < b for a, b in pairwise(normalised))


def test_a_row_adapts_its_step_size_by_the_rule_of_the_authors() -> None:
    one = torch.ones(1, dtype=torch.float64)
    own, average, kappa = one * 0.01, one * 0.65, one * 0.02
    own, average = adapted(own, average, one, kappa)
    assert own.item() == pytest.approx(0.0098)  # its first update goes down: the average is not above the target
    for _ in range(199):
        own, average = adapted(own, average, one, kappa)
    assert own.item() == pytest.approx(0.5, rel=0.02)
    assert adapted(one * 1e-4, one * 0.1, 0 * one, kappa)[0].item() == 1e-4


def test_a_table_is_looked_up_by_the_precision() -> None:
    sizes = torch.tensor(table([0.1, 10.0, 1000.0], [0.4, 0.2, 0.01]), dtype=torch.float64)
    b = torch.tensor([0.001, 0.01, 0.1, 1.0, 1.0], dtype=torch.float64)
    s = torch.tensor([0.1, 0.1, 0.01, 0.001, 1e-9], dtype=torch.float64)
    found = looked_up({"table": sizes.repeat(5, 1), "s": s}, b)
    expected = [0.4, 0.4, 0.2, 0.01, 0.001]  # the last is beyond what was measured, at 10^5: narrower by 10
    assert found.tolist() == pytest.approx(expected, rel=1e-3)
    between = looked_up({"table": sizes[None], "s": s[:1]}, s[:1] * math.sqrt(10) * 10)
    assert between.item() == pytest.approx(math.sqrt(0.2 * 0.01) * (0.2 / 0.01) ** 0.25, rel=1e-3)


@pytest.mark.parametrize("solver", ["ais_hmc", "gd_single", "gd_multi"])
def test_a_run_costs_t_l_and_one_gradients(solver: str) -> None:
    """Whatever the solver: a step is a gradient, weights and a change of temperature cost none."""

    @dataclass
    class Counted(Line):
        def decode(self, z: Tensor, rows: Rows) -> Tensor:
            self.calls += z.requires_grad
            return super().decode(z, rows)

    decoder = Counted()
    how = Settings(solver=solver, temperatures=50, leapfrogs=7, step_sizes="row", starts=20)  # type: ignore[arg-type]
    with fast_networks(False):
        rows = run(solve(kernels(decoder), line_at(0.7), how, row_seeds(1, 3)))
    assert decoder.calls == how.gradients == 351
    assert diagnostics(rows, line_at(0.7), how)["gradients"] == [351] * 3


def test_the_gradient_of_the_value_is_that_of_differences() -> None:
    ring = kernels(Ring(0.9))
    rows = {k: v.double() for k, v in second_is_zero().rows(1, (1, 1, 2), torch.device("cpu")).items()}
    s = torch.tensor([0.01], dtype=torch.float64)
    rows |= {"s": s, "tempered": s * 50, "x": torch.tensor([[0.8, -0.5]], dtype=torch.float64)}
    x = rows["x"].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(ring.value({**rows, "x": x}).sum(), x)
    for k, h in ((0, 1e-5), (1, 1e-5)):
        way = torch.zeros(1, 2, dtype=torch.float64)
        way[0, k] = h
        ends = [float(ring.value({**rows, "x": rows["x"] + sign * way})) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(float(gradient[0, k]), rel=1e-6)


@pytest.mark.parametrize("scope", ["table", "row", "job"])
def test_the_evidence_and_posterior_of_a_linear_observation(scope: str) -> None:
    """y = w.z + noise, w = (.3, -1.2), s = .05, y = .7: log N(.7; 0, 1.58) = -1.3027."""
    how = Settings(sigma=math.sqrt(0.05), temperatures=100, leapfrogs=8, low=-4, high=4, step_sizes=scope)  # type: ignore[arg-type]
    rows = run(solve(kernels(Line()), line_at(0.7), how, row_seeds(1, 400)))
    W = rows["w"].softmax(0)
    assert log_evidence(rows, line_at(0.7), how) == pytest.approx(-1.3027, abs=0.08)
    assert 1 / W.square().sum() > 180
    mean = W.float() @ rows["x"]
    torch.testing.assert_close(mean, torch.tensor([0.1329, -0.5316]), rtol=0, atol=0.12)
    torch.testing.assert_close(
        rows["x"].T.cov(aweights=W.float()), torch.tensor([[0.943, 0.2278], [0.2278, 0.0886]]), rtol=0, atol=0.15
    )


def test_chains_of_a_job_share_a_step_size_that_follows_their_mean_acceptance() -> None:
    """And those of another job in the batch do not count."""
    how = Settings(sigma=0.1, temperatures=12, leapfrogs=3, step_sizes="job", first=0.4)
    alone = run(solve(kernels(Line()), line_at(0.7), how, row_seeds(1, 6)))
    other = replace(how, sigma=0.01)
    both = kernels(Line())
    together = run_together([solve(both, line_at(0.7), one, row_seeds(1, 6)) for one in (how, other)])
    assert len(alone["eps"].unique()) == 1
    torch.testing.assert_close(together[0]["x"], alone["x"])
    assert float(together[1]["eps"][0]) < float(alone["eps"][0])


def advanced(loop: Loop, number: int) -> Rows:
    rows, keys = loop.rows, streams(loop.seeds, number)
    for step in range(loop.steps):
        steps = torch.full_like(keys, step)
        rows = loop.kernel(rows, steps, Noise.at(keys, steps))
    return rows


def driven(task: Task[Rows], answer: Callable[[Loop, int], Rows]) -> Rows:
    """To its end; the loops are answered by their numbers."""
    loop, number = next(task), 0
    while True:
        try:
            loop, number = task.send(answer(loop, number)), number + 1
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


@pytest.mark.parametrize("scope", ["job", "table"])
def test_a_search_is_resumed_from_what_its_loops_keep(scope: str) -> None:
    """Loops before the one that was saved give what they keep alone, so the others' names are missing on the way."""
    how = Settings(sigma=0.1, temperatures=8, leapfrogs=2, step_sizes=scope)  # type: ignore[arg-type]
    chains, ends = kernels(Line()), list[Rows]()

    def first(loop: Loop, number: int) -> Rows:
        ends.append(advanced(loop, number))
        return ends[-1]

    whole = driven(solve(chains, line_at(0.7), how, row_seeds(1, 3)), first)
    assert len(ends) > 8
    for saved in (2, len(ends) - 2):
        again = driven(
            solve(chains, line_at(0.7), how, row_seeds(1, 3)),
            lambda loop, number, saved=saved: loop.kept(ends[number]) if number < saved else ends[number],  # type: ignore[misc]
        )
        assert torch.equal(again["x"], whole["x"])


def test_with_nothing_seen_the_prior_is_kept() -> None:
    """d = 64: the mean of |z|^2 / d is 1 +- 3 sqrt(2 / (d n))."""
    n, line = 256, Line(torch.linspace(-1, 1, 64))
    nothing = Observation(whole((1, 1, 1)), torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    how = Settings(temperatures=12, leapfrogs=5, step_sizes="row", first=0.3)
    rows = run(solve(kernels(line), nothing, how, row_seeds(2, n)))
    assert rows["x"].square().mean().item() == pytest.approx(1, abs=3 * math.sqrt(2 / (64 * n)))
    assert not rows["w"].any()


RING = Settings(sigma=0.1, temperatures=200, leapfrogs=10, low=-8, high=4)


def test_weights_tell_the_masses_of_the_modes_of_a_folded_ring() -> None:
    """a = .9, s = .01, x2 = 0: the mass of (1, 0) is .8128 and ln Z -2.1648. Chains freeze before they know."""
    rows = run(solve(kernels(Ring(0.9)), second_is_zero(), RING, row_seeds(1, 300)))
    right, W = (rows["image"][:, 0, 0, 0] > 0).double(), rows["w"].softmax(0)
    assert float(right.mean()) < 0.7
    assert float(W @ right) == pytest.approx(0.8128, abs=0.05)
    assert float(rows["w"].logsumexp(0)) - math.log(300) == pytest.approx(-2.1648, abs=0.1)
    assert 1 / W.square().sum() > 150
    assert 1.7 < rows["x"].square().sum(1).mean() < 2.3
    assert (rows["misfit"].sqrt() / RING.sigma).square().mean() == pytest.approx(1, abs=0.5)


def test_descent_stays_where_it_starts() -> None:
    """Both modes alike: .51 +- .04, whatever their masses. The latent is brought back to the norm sqrt(d)."""
    how = replace(RING, solver="gd_single", adam=False, rate=0.01, temperatures=80)
    rows = run(solve(kernels(Ring(0.9)), second_is_zero(), how, row_seeds(1, 300)))
    assert (rows["image"][:, 0, 0, 0] > 0).double().mean().item() == pytest.approx(0.51, abs=0.09)
    torch.testing.assert_close(rows["x"].square().sum(1), torch.full((300,), 2.0))


def test_the_target_of_the_authors_code_for_images_loses_its_prior() -> None:
    """At b = sigmoid(5) what the data do not see has variance 149: here the radius."""
    how = replace(RING, target="tempered_paper", low=None, temperatures=150)
    found = run(solve(kernels(Ring(0.9)), second_is_zero(), how, row_seeds(1, 60)))
    assert found["x"].square().sum(1).mean() > 50
    assert "log_weight" not in diagnostics(found, second_is_zero(), how)


def test_the_radius_of_a_decoder_that_does_not_see_it_has_no_force() -> None:
    ring = kernels(Ring(0.9))
    how = replace(RING, temperatures=3, step_sizes="row")
    rows = run(solve(ring, second_is_zero(), how, row_seeds(4, 50)))
    x, g = rows["x"], rows["g"]
    assert bool(((x * g).sum(1).abs() < 1e-4 * x.norm(dim=1) * g.norm(dim=1) + 1e-5).all())


@dataclass
class Waves:
    """8x8 images of 6 latents."""

    latent_shape = (6,)
    image_shape = (1, 8, 8)
    scale_invariant = False

    @property
    def condition(self) -> Rows:
        return {}

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        x, y = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
        waves = [(k * x + j * y).sin() for k, j in ((2, 0), (0, 2), (2, 2), (1, -3), (4, 1), (0, 5))]
        return (z @ torch.stack(waves).flatten(1) / 2).tanh().unflatten(1, (1, 8, 8))


def observations(image: Tensor) -> dict[str, Observation]:
    hole = torch.ones(1, 8, 8)
    hole[:, 2:6, 1:5] = 0
    pool = avg_pool((1, 8, 8), 2)
    return {
        "inpaint": Observation(whole((1, 8, 8)), image, hole),
        "reconstruct": Observation(whole((1, 8, 8)), image, torch.ones(1, 8, 8)),
        "upscale": Observation(pool, pool(image), torch.ones(1, 4, 4)),
    }


def test_images_that_the_decoder_made_are_found_again() -> None:
    """Rows of three observations, in one batch: all agree with what was seen, and with what was not."""
    waves = kernels(Waves())  # type: ignore[arg-type]
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(3))
    truth = waves.decoder.decode(z, {})
    how = Settings(sigma=0.05, temperatures=100, step_sizes="row", first=0.2)
    kinds = [(image, seen) for image in truth for seen in observations(image).values()]
    found = run_together([solve(waves, seen, how, row_seeds(k, 4)) for k, (_, seen) in enumerate(kinds)])
    pairs = list(zip(found, kinds, strict=True))
    rmse = torch.tensor([diagnostics(rows, seen, how)["observed_rmse"] for rows, (_, seen) in pairs])
    assert (rmse <= 1.5).double().mean() >= 0.8
    errors = [(rows["image"][rows["misfit"].argmin()] - image).square().mean() for rows, (image, _) in pairs]
    chance = (truth - truth.roll(1, 0)).square().mean()
    assert torch.stack(errors).median() < chance / 3


def test_rows_among_others_with_other_lengths_and_solvers_are_the_same() -> None:
    waves = kernels(Waves())  # type: ignore[arg-type]
    image = waves.decoder.decode(torch.randn(1, 6, generator=torch.Generator().manual_seed(3)), {})[0]
    seen = list(observations(image).values())
    ways = [
        Settings(sigma=0.1 + 0.05 * k, temperatures=4 + k, leapfrogs=1 + k % 3, step_sizes="row", solver=solver)  # type: ignore[arg-type]
        for k, solver in enumerate(["ais_hmc", "gd_single", "ais_hmc", "gd_single", "ais_hmc"])
    ]

    def run_one(kernel: Kernel, rows: Rows, seeds: list[int], step: int) -> Rows:
        return kernel(rows, torch.full((len(seeds),), step), Noise([Key(seed, 1, step) for seed in seeds]))

    def begin(k: int) -> Rows:
        task = solve(waves, seen[k % 3], ways[k], [k])
        return task.send(run_one(waves.begin, next(task).rows, [k], 0)).rows

    alone = [begin(k) for k in range(5)]
    together = {name: torch.cat([rows[name] for rows in alone]) for name in alone[0]}
    for step in range(5):
        alone = [run_one(waves.step, rows, [k], step) for k, rows in enumerate(alone)]
        together = run_one(waves.step, together, list(range(5)), step)
    for k, rows in enumerate(alone):
        for name in ("x", "q", "v"):
            torch.testing.assert_close(rows[name][0], together[name][k], atol=1e-5, rtol=0)


def test_more_chains_leave_those_there_are_alone() -> None:
    how = replace(RING, temperatures=5, leapfrogs=2)
    two, five = (run(solve(kernels(Ring(0.9)), second_is_zero(), how, row_seeds(1, n))) for n in (2, 5))
    torch.testing.assert_close(two["x"], five["x"][:2])


def test_the_best_of_many_starts_is_nearer() -> None:
    how = replace(RING, temperatures=1, leapfrogs=1, rate=1e-9)
    single, multi = (
        run(solve(kernels(Ring(0.9)), second_is_zero(), replace(how, solver=solver), row_seeds(1, 20)))
        for solver in ("gd_single", "gd_multi")
    )
    assert multi["misfit"].max() < 1e-3 < single["misfit"].median()


@pytest.mark.parametrize(("stretch", "temperatures"), [(1e30, 5), (60.0, 20)])
def test_chains_that_never_move_are_refused(stretch: float, temperatures: int) -> None:
    """Every move diverges; or many are made, and none is accepted."""
    how = replace(RING, sigma=1e-3, temperatures=temperatures, leapfrogs=3, low=2.0, stretch=stretch)
    with pytest.raises(RowsError, match="lower step_size, or give a greater sigma"):
        run(solve(kernels(Ring(0.9)), second_is_zero(), how, row_seeds(1, 3)))


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"sigma": math.nan}, {"temperatures": 0}, {"low": 5.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        replace(RING, **wrong)  # type: ignore[arg-type]


def test_the_initializer_of_ccoopnets_is_a_decoder_with_its_class_fixed() -> None:
    """Rows of two classes beside each other; the images are those that the model's own rendering gives."""
    model = tiny_model("ccoopnets").kernels
    assert isinstance(model, CCoopNets)
    decoder = LabelDecoder(model)
    solver = Cogeneration(decoder, CPU)
    classes = torch.eye(len(model.classes))[[0, 2]]
    truth = decoder.decode(torch.ones(1, 100), {"c": classes[1:]})[0]
    hole = torch.ones(1, 28, 28)
    hole[:, 8:20, 8:20] = 0
    seen, how = Observation(whole(truth.shape), truth, hole), Settings(temperatures=4, leapfrogs=3, step_sizes="row")
    rows = run(solve(solver, seen, how, [1, 2], condition={"c": classes}))
    drawn = model.render(rows, torch.zeros(2, dtype=torch.int64), Noise([]))["y"]
    torch.testing.assert_close(rows["image"], drawn, atol=1e-5, rtol=0)
    assert not torch.equal(rows["image"][0], rows["image"][1])


def test_the_flow_of_coopflow_is_a_decoder() -> None:
    """Its images are those that the model renders, and a search in its latents comes nearer to what is given."""
    model = tiny_model("coopflow").kernels
    assert isinstance(model, CoopFlow)
    decoder = FlowDecoder(model.config, model.flow)
    z = torch.randn(2, *decoder.latent_shape, generator=torch.Generator().manual_seed(1))
    drawn = model.render({"z": z}, torch.zeros(2, dtype=torch.int64), Noise([]))["y"]
    torch.testing.assert_close(decoder.decode(z, {}).detach().clamp(-1, 1), drawn, atol=1e-4, rtol=0)
    seen = Observation(whole(decoder.image_shape), drawn[0], torch.ones(1, 1, 1))
    how = Settings(solver="gd_single", temperatures=4, leapfrogs=1, rate=0.05)
    with fast_networks(False):
        chains = Cogeneration(decoder, CPU)
    ends = [run(solve(chains, seen, each, [3])) for each in (replace(how, rate=1e-9), how)]
    assert float(ends[1]["misfit"]) < 0.9 * float(ends[0]["misfit"])


def test_sizes_of_a_pilot_are_accepted_where_the_posterior_narrows_fast() -> None:
    """Its width falls from 1 to .003 within a hundred moves, which a size that changes by 5 % a move can't follow."""
    how = Settings(sigma=0.003, temperatures=100, leapfrogs=6)
    rows = run(solve(kernels(Line()), line_at(0.7), how, row_seeds(1, 60)))
    assert 0.55 < float(rows["accepted"].double().mean()) / how.temperatures < 0.85
    fit = torch.tensor(diagnostics(rows, line_at(0.7), how)["observed_rmse"])
    assert float(fit.square().mean()) == pytest.approx(1, abs=0.6)  # 1 +- 1.4 / sqrt(60) of a posterior


def test_a_polish_leads_each_chain_to_the_best_fit_nearby() -> None:
    """Its weight stays that of the sample, and the gradients are counted."""
    how = Settings(sigma=0.3, temperatures=30, leapfrogs=5)
    sampled, polished = (
        run(solve(kernels(Line()), line_at(0.7), one, row_seeds(1, 40))) for one in (how, replace(how, polish=200))
    )
    assert float(sampled["misfit"].mean()) == pytest.approx(0.09, rel=0.7)
    assert float(polished["misfit"].max()) < 1e-4
    assert torch.equal(polished["w"], sampled["w"])
    assert float((polished["x"] - sampled["x"]).norm(dim=1).mean()) < 0.5
    assert diagnostics(polished, line_at(0.7), replace(how, polish=200))["gradients"] == [351] * 40
    with pytest.raises(ValueError, match="polish at least 0"):
        replace(how, polish=-1)
