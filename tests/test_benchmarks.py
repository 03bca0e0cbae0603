"""The benchmarks run, at a size that takes seconds, and what they compare is comparable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import workload
from benchmarks.client import LoadError, Plan, load
from benchmarks.litserve_server import use_trained
from benchmarks.loops import BareLoop, run_static
from benchmarks.report import Claim
from models.checkpoints import load_model, publish
from models.core.loop import run
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.registry import VARIANTS
from models.training.configuration import configure
from service.settings import Settings
from tests.models.zoo import CLASSES, TINY, generate_job, images, tiny_model

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
FEW = {"COOPSERVE_DEVICE": "cpu", "COOPSERVE_MAX_ROWS": "8"}
"""Settings with which a benchmark starts soon: small batches, of which few sizes are tried out."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small, untrained model."""
    root, system, data = tmp_path_factory.mktemp("checkpoints"), VARIANTS["ccoopnets/labels"], images()
    config = configure("ccoopnets", "small", data, TINY["ccoopnets"])
    about = {"name": "tiny", "system": "ccoopnets", "title": "Tiny", "description": "Untrained.", "license": "CC0-1.0"}
    publish(root, {**about, **system.card(config, CLASSES)}, system.trainer(config, data, 3, CPU).export())
    return root


def run_benchmark(name: str, checkpoints: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The figures that a benchmark writes, and what it prints."""
    path = checkpoints / f"{name}.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--model=tiny", "--threads=1", f"--json={path}", *options],
        env={**os.environ, **FEW, "COOPSERVE_CHECKPOINTS_DIR": str(checkpoints)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(path.read_text())
    assert content["benchmark"] == name
    assert content["machine"]["threads"] == 1
    assert content["machine"]["torch"] == torch.__version__
    assert content["figures"]["model"] == "tiny@1"
    assert all(target["value"] > 0 for target in content["targets"] if target["at_least"])
    for target in content["targets"]:
        assert target["name"] in done.stdout
    return content, done.stdout


def test_engine_benchmark(checkpoints: Path) -> None:
    content, _ = run_benchmark("engine", checkpoints, "--jobs=6", "--shortest=2", "--longest=5", "--repetitions=2")
    assert {way: len(seconds) for way, seconds in content["figures"]["seconds"].items()} == {
        "serial": 2,
        "static": 2,
        "continuous": 2,
        "ideal": 2,
    }
    assert [target["target"] for target in content["targets"]] == [0.9, 1.4, 2.5]


@pytest.mark.timeout(300)
def test_service_benchmark(checkpoints: Path) -> None:
    sizes = ["--idle-jobs=4", "--seconds=0.05", "--rounds=1", "--clients=4", "--arrival-jobs=6", "--longest=3"]
    content, printed = run_benchmark("service", checkpoints, *sizes)
    figures = content["figures"]
    assert {name: len(values) for name, values in figures["idle"].items()} == dict.fromkeys(
        ("total", "queued", "worked", "engine", "bare"), 4
    )
    assert min(figures["idle"]["total"]) > min(figures["idle"]["worked"]) > 0
    assert [(kind["n"], len(kind["service"]), len(kind["bare"])) for kind in figures["busy"]] == [
        (1, 1, 1),
        (4, 1, 1),
        (1, 1, 1),
        (4, 1, 1),
    ]
    for server in ("coopserve", "LitServe", "LitServe, tuned"):
        assert [f["rate"] for f in figures["arrivals"][server]] == [16, 32, None]
        assert all(0 < f["p50"] <= f["p99"] and f["jobs_per_second"] > 0 for f in figures["arrivals"][server])
    assert "LitServe, all at once" in printed
    assert "LitServe, tuned, 16/s" in printed


def test_an_unknown_model_is_refused_in_words(checkpoints: Path) -> None:
    with pytest.raises(Exception, match="there is no") as refused:
        workload.find_model("nobody", Settings(checkpoints_dir=checkpoints))
    assert str(checkpoints) in str(refused.value)


def test_a_static_batch_gives_each_job_the_images_it_has_alone() -> None:
    model = tiny_model("ccoopnets")
    jobs = [generate_job(n=1 + k % 2, seed=k, steps=steps) for k, steps in enumerate((4, 1, 0, 6))]
    together = run_static([model.start("generate", job) for job in jobs], CPU)
    for job, output in zip(jobs, together, strict=True):
        alone = run(model.start("generate", job))
        assert output.seeds == alone.seeds
        torch.testing.assert_close(output.images, alone.images, atol=1e-5, rtol=0)


def test_the_peer_has_the_networks_of_the_training(checkpoints: Path) -> None:
    folder = workload.find_model("tiny", Settings(checkpoints_dir=checkpoints)).folder
    served, trained = load_model(folder, CPU), load_model(folder, CPU)
    assert isinstance(trained.kernels, CCoopNets)
    use_trained(trained.kernels, folder)
    job = generate_job(n=2, seed=3, steps=5, noise=0.0, step_size=0.1, label={trained.kernels.classes[0]: 1.0})
    ours, theirs = (run(model.start("generate", job)) for model in (served, trained))
    torch.testing.assert_close(ours.images, theirs.images, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.energy, theirs.energy, atol=1e-2, rtol=1e-4)


def test_a_static_batch_takes_tasks_of_one_kind_only() -> None:
    model = tiny_model("ccoopnets")
    tasks = [model.start("generate", generate_job(n=1, refine=refine)) for refine in (True, False)]
    with pytest.raises(ValueError, match="share their kernels"):
        run_static(tasks, CPU)


def test_the_bare_loop_does_the_refinement() -> None:
    model = tiny_model("ccoopnets")
    job = generate_job(n=1, steps=5, noise=0.0)
    bare = BareLoop([model.start("generate", job)], CPU)
    expected = run(model.start("generate", job)).images
    torch.testing.assert_close(bare.advance(5)["y"].clamp(-1, 1), expected, atol=1e-6, rtol=0)
    assert bare.images_per_second(2, 0.01) > 0


def test_jobs_and_arrivals_are_the_same_each_time() -> None:
    lengths = workload.mixed_lengths(1000, 10, 200)
    assert lengths == workload.mixed_lengths(1000, 10, 200)
    assert (min(lengths), max(lengths)) == (10, 200)
    times = workload.arrival_times(4000, 16.0)
    assert times == workload.arrival_times(4000, 16.0)
    gaps = np.diff(times)
    assert times[0] == 0
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1 / 16, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # as exponential gaps have it


def test_a_job_that_fails_stops_the_measurement() -> None:
    plan = Plan(server="coopserve", address="http://127.0.0.1:9", bodies=[{}])
    with pytest.raises(LoadError, match="Cannot connect"):
        load(plan)


@pytest.mark.parametrize(
    ("value", "at_least", "met"), [(0.9, True, True), (0.89, True, False), (0.9, False, True), (0.91, False, False)]
)
def test_a_claim_knows_whether_it_is_met(value: float, at_least: bool, met: bool) -> None:
    claim = Claim("x", value, 0.9, at_least)
    assert claim.met is met
    assert claim.row()[-1] == ("met" if met else "MISSED")
