"""The baselines share all but the loss with cooperative training, stop and go on, and are compared in one table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from benchmarks import baselines
from benchmarks.baselines import Budget, Contest, budgets, claims_of, planned
from benchmarks.rivals import PatchCritic, Rival, fit
from models.data.catalog import load
from models.evaluation.pictures import PictureBench, sampler
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.networks import PairSolver, unet
from models.systems.ccoopnets.images.variant import make_trainer
from models.systems.weights import fill
from models.training.configuration import configure
from models.training.plan import Plan
from models.training.training import Training
from tests.models.zoo import ZOO, pairs, tiny_model

CPU = torch.device("cpu")
NAMES = ("ccoopnets-translate", "ccoopnets-inpaint")


def make_rival(
    name: str = NAMES[0], *, iterations: int = 6, adversarial: bool = False, precision: str = "fp32"
) -> Rival:
    config = ZOO[name].config()
    assert isinstance(config, ImageConfig)
    config = config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})
    return Rival(config, pairs(), seed=3, device=CPU, iterations=iterations, adversarial=adversarial)


def make_contest(name: str) -> Contest:
    model, config = tiny_model(name), ZOO[name].config()
    assert isinstance(config, ImageConfig)
    task: Any = name.removeprefix("ccoopnets-")
    defaults = {"n": 1, "steps": 2, "step_size": 1.0, "noise": 0.0, "refine": True}
    return Contest(PictureBench(model, task, defaults, 3, pairs(), pairs(), pairs()), config, 3, CPU)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("adversarial", [False, True])
def test_a_baseline_starts_and_sees_what_cooperative_training_does(name: str, adversarial: bool) -> None:
    rival = make_rival(name, adversarial=adversarial)
    trainer = make_trainer(rival.config, pairs(), 3, CPU)
    assert same(rival.unet.network.state_dict(), trainer.initializer.network.state_dict())
    ours, theirs = rival.problem.batch(5, 0), trainer.problem.batch(5, 0)
    assert torch.equal(ours.y, theirs.y)
    assert torch.equal(ours.c, theirs.c)
    assert all(torch.equal(a, b) for a, b in zip(ours.x, theirs.x, strict=True))


def test_l1_is_the_mean_over_the_hole() -> None:
    rival = make_rival("ccoopnets-inpaint")
    batch = rival.problem.batch(0, 0)
    hidden = (batch.extra["mask"] > 0).expand_as(batch.y)
    with torch.no_grad():
        made = rival.unet.network(batch.c, batch.x)
    expected = (made - batch.y)[hidden].abs().mean()
    assert rival.step(0)["l1"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("adversarial", [False, True])
def test_a_baseline_trains_in_the_precision_of_the_preset(adversarial: bool) -> None:
    full, half = (make_rival(adversarial=adversarial, precision=precision) for precision in ("fp32", "bf16"))
    a, b = full.step(0), half.step(0)
    assert a != b
    for name, value in a.items():
        assert b[name] == pytest.approx(value, rel=0.03)
    assert all(v.dtype == torch.float32 for v in half.unet.network.state_dict().values())


def test_training_lowers_l1() -> None:
    rival = make_rival(iterations=1000)
    losses = [rival.step(0)["l1"] for _ in range(6)]  # the same batch each time
    assert losses[-1] < losses[0] - 0.02


def test_adversarial_training_lowers_l1_and_the_discriminator_learns() -> None:
    rival = make_rival(iterations=1000, adversarial=True)
    steps = [rival.step(0) for _ in range(6)]
    assert steps[-1]["l1"] < steps[0]["l1"] - 0.02
    assert steps[0]["critic"] == pytest.approx(np.log(2), abs=0.2)  # it knows nothing yet
    assert steps[-1]["critic"] < steps[0]["critic"] - 0.1
    assert rival.critic is not None
    assert all(p.requires_grad for p in rival.critic.network.parameters())


def test_the_discriminator_judges_patches() -> None:
    assert PatchCritic(3, 1)(torch.zeros(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)).shape == (2, 1, 14, 14)


def test_what_is_served_is_the_average() -> None:
    rival = make_rival()
    before = {k: v.clone() for k, v in rival.unet.served.state_dict().items()}
    rival.step(0)
    decay = rival.config.training.ema
    for name, value in rival.served().state_dict().items():
        expected = decay * before[name] + (1 - decay) * rival.unet.network.state_dict()[name]
        assert torch.allclose(value, expected, atol=1e-6)


class StoppedError(Exception):
    pass


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    def stop_after_three() -> Iterator[None]:
        yield from (None, None, None)  # the count of saved iterations, then two more
        raise StoppedError

    turns = stop_after_three()
    with pytest.raises(StoppedError):
        fit(make_rival(iterations=4, adversarial=True), tmp_path / "state", lambda _: next(turns), save_every=2)
    resumed, done = make_rival(iterations=4, adversarial=True), []
    fit(resumed, tmp_path / "state", done.append, save_every=2)
    assert done == [2, 1, 1]
    unbroken = make_rival(iterations=4, adversarial=True)
    for iteration in range(4):
        unbroken.step(iteration)
    assert same(resumed.state(), unbroken.state())
    again = make_rival(iterations=4, adversarial=True)
    fit(again, tmp_path / "state", done.append)
    assert done[3:] == [4]  # nothing is left to do
    assert same(again.state(), unbroken.state())


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_answers_as_the_checkpoints_proposals_do(name: str) -> None:
    contest = make_contest(name)
    network, solver = unet(contest.config), PairSolver(contest.config)
    fill({"initializer": network, "solver": solver}, ZOO[name].weights())
    served = contest.served(network)
    masks = contest.bench.masks(pairs())
    conditions = pairs().conditions if masks is None else pairs().images
    assert conditions is not None
    given = conditions.float() / 127.5 - 1
    proposals = sampler(contest.bench)(given, masks, 9, 2, False)
    for refine in (False, True):
        assert torch.equal(sampler(served)(given, masks, 9, 2, refine), proposals)
    assert not torch.equal(sampler(contest.bench)(given, masks, 9, 2, True), proposals)


def test_a_baseline_has_the_time_of_the_cooperative_training(tmp_path: Path) -> None:
    contest = make_contest(NAMES[0])
    plan = budgets(contest, None, 1)
    for budget in plan.values():
        whole = contest.config.training.iterations * budget.cooperative_pace
        assert budget.iterations * budget.pace == pytest.approx(whole, abs=0.5 * budget.pace + 1e-9)  # it is rounded
    assert plan["l1"].cooperative_pace == plan["gan"].cooperative_pace


def test_a_later_run_keeps_the_budgets(tmp_path: Path) -> None:
    first, second = ({"l1": Budget(iterations, 0.1, 0.5)} for iterations in (7, 8))
    file = tmp_path / "new" / "plan.json"
    assert planned(file, lambda: first) == first
    assert planned(file, lambda: second) == first


def test_the_claims_are_differences_to_the_refined_pictures() -> None:
    rows = {
        "refined": {"psnr": 13.0, "ssim": 0.5, "kid": 0.010},
        "proposal": {"psnr": 13.2, "ssim": 0.5, "kid": 0.012},
        "l1": {"psnr": 13.6, "ssim": 0.6, "kid": 0.030},
        "gan": {"psnr": 12.0, "ssim": 0.4, "kid": 0.009},
    }
    claims = claims_of(rows)
    assert [claim.value for claim in claims] == pytest.approx([-2, -20, 1, 1, 0.1, -0.6])
    assert [claim.met for claim in claims] == [True, True, False, True, True, False]


def _sets(rng: np.random.Generator) -> dict[str, Any]:
    sets = {}
    for part in ("train", "valid", "test"):
        colours = rng.integers(0, 256, (10, 3, 4, 4), dtype=np.uint8)
        sets[f"images_{part}"] = images = colours.repeat(16, 2).repeat(16, 3)
        sets[f"conditions_{part}"] = images.mean(1, keepdims=True).astype(np.uint8)
    return sets


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pairs in an archive, and a folder of models with one that was trained on them for a moment."""
    root = tmp_path_factory.mktemp("baselines")
    archive = root / "pairs.npz"
    np.savez(archive, **_sets(np.random.default_rng(0)))
    data = load(str(archive), "train", root)
    changes = {"training.iterations": 2, "training.batch_size": 4, "refinement.steps": 2}
    config = configure("ccoopnets", "small-emoji", data, changes)
    training = Training(Plan("ccoopnets/images", config, data, "tiny", 3, CPU, "train it"), root / "run")
    assert training.run()
    training.publish(root / "models")
    return root / "models", archive


def run(checkpoints: Path, *options: str) -> Any:
    environment, threads = {"COOPSERVE_CHECKPOINTS_DIR": str(checkpoints)}, torch.get_num_threads()
    try:
        command = ["--model=tiny", "--device=cpu", "--threads=1", *options]
        return CliRunner().invoke(baselines.main, command, env=environment)
    finally:
        torch.set_num_threads(threads)


def test_one_table_of_all(checkpoint: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoints, archive = checkpoint
    options = (f"--data={archive}", "--rounds=1", "--seconds=1e-6", f"--work={tmp_path}")
    first = run(checkpoints, *options, f"--json={tmp_path / 'first.json'}")
    assert first.exit_code == 0, first.output
    assert "tiny@1 on 10 test images" in first.output
    assert "U-Net, conditional GAN" in first.output
    content = json.loads((tmp_path / "first.json").read_text())
    assert content["benchmark"] == "baselines"
    rows = content["figures"]["rows"]
    assert list(rows) == ["proposal", "refined", "l1", "gan", "copy", "real"]
    assert all(np.isfinite(value) for row in rows.values() for value in row.values())
    assert rows["proposal"] != rows["refined"]
    assert {Budget(**budget).iterations for budget in content["figures"]["budgets"].values()} == {1}
    assert len(content["targets"]) == 6


def test_other_data_and_other_models_are_refused_in_words(checkpoint: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoints, _ = checkpoint
    other = tmp_path / "other.npz"
    np.savez(other, **_sets(np.random.default_rng(1)))
    refused = run(checkpoints, f"--data={other}")
    assert refused.exit_code == 1
    assert "was not trained on" in refused.output
    unknown = run(checkpoints, "--data=nowhere")
    assert unknown.exit_code == 1
    assert "no data called" in unknown.output
