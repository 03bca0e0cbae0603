"""A system from outside goes all the way: trained, published, measured, served."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis
import torch
from click.testing import CliRunner
from PIL import Image

from coopserve.cli import main
from models.checkpoints import read_card
from models.data.catalog import read
from models.systems.registry import VARIANTS
from models.training.configuration import choose, find_variant, fit
from models.training.plan import Plan
from models.training.training import Training
from service.settings import Settings
from tests.service.serving import serving
from tests.toy.config import PRESETS
from tests.workers.conftest import make_bench

LEVEL = 200
"""The grey that the data lie around."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory with a data set and a trained toy."""
    rng = np.random.default_rng(1)
    parts = {part: rng.normal(LEVEL, 20, (40, 8, 8)).clip(0, 255) for part in ("train", "valid", "test")}
    np.savez(tmp_path / "greys.npz", **{f"images_{part}": images.astype(np.uint8) for part, images in parts.items()})
    variant = find_variant("toy", "plain")
    data = read(VARIANTS[variant].data, str(tmp_path / "greys.npz"), "train", tmp_path)
    config = fit(variant, choose(variant, "plain", {"training.rate": 0.3}), data)
    training = Training(Plan(variant, config, data, "toy", 1, torch.device("cpu"), "train it"), tmp_path / "run")
    assert training.run()
    training.publish(tmp_path / "models")
    return tmp_path


def evaluate(home: Path, *args: str) -> tuple[int, str]:
    line = ["evaluate", "toy", "--data", str(home / "greys.npz"), *args]
    env = {"COOPSERVE_DATA_DIR": str(home), "COOPSERVE_CHECKPOINTS_DIR": str(home / "none")}
    result = CliRunner().invoke(main, line, env=env)
    return result.exit_code, result.output


def card_of(home: Path) -> dict[str, Any]:
    return read_card(home / "models" / "toy" / "1")


def test_a_training_publishes_a_card_of_its_variant(home: Path) -> None:
    card = card_of(home)
    assert (card["system"], card["variant"]) == ("toy", "toy/gaussian")
    assert card["title"] == "Toy trained on greys/train"
    assert card["image"] == {"height": 8, "width": 8, "channels": 1}
    assert card["training"]["iterations"] == PRESETS["plain"].training.iterations


def test_it_is_measured_both_ways_and_calibrated(home: Path) -> None:
    code, output = evaluate(home, "--images", "32", "--choose-steps")
    assert code == 0, output
    card = card_of(home)
    metrics = card["metrics"]["doubtful"]  # of few images
    assert metrics["refined"]["distance"] < 0.02
    assert metrics["proposal"]["distance"] < 0.1
    assert card["tasks"]["generate"]["defaults"]["steps"] == metrics["steps_chosen_on_validation"]["steps"]
    assert card["tasks"]["score"]["defaults"]["steps"] == 0
    assert card["calibration"]["pooled"]["images"] == 40


def test_options_of_other_evaluations_are_refused(home: Path) -> None:
    before = card_of(home)
    code, output = evaluate(home, "--per-class", "3")
    assert code == 2
    assert "--per-class is not for models of this kind; their options are: --images" in output
    code, output = evaluate(home, "--likelihood", "--choose-steps")
    assert code == 2
    assert "--likelihood measures the density alone" in output
    assert card_of(home) == before


def test_its_likelihood_is_bounded(home: Path) -> None:
    few = ["--temperatures", "6", "--leapfrog", "2", "--chains", "4"]
    code, output = evaluate(home, "--likelihood", *few)
    assert code == 0, output
    assert card_of(home)["metrics"]["likelihood"]["dimensions"] == 64


def test_a_job_over_rest_is_run_by_a_worker(home: Path, redis_url: str, client: redis.Redis) -> None:
    settings = Settings(redis_url=redis_url, data_dir=home, checkpoints_dir=home / "none", worker_threads=4)
    worker = make_bench(settings, client, "worker")
    worker.start()
    with serving(settings) as address, httpx.Client(base_url=address, timeout=30) as api:
        answer = api.post("/v1/generate", json={"model": "toy", "n": 2, "seed": 3})
        assert answer.status_code == 202, answer.text
        worker.worker.run()
        job = api.get(answer.headers["Location"]).json()
        assert job["status"] == "succeeded", json.dumps(job)
        assert job["model"] == "toy@1"
        images = [Image.open(io.BytesIO(api.get(output["url"]).content)) for output in job["outputs"]]
        refused = api.post("/v1/inpaint", json={"model": "toy", "image": "data:image/png;base64,AA=="})
    worker.stop()
    assert [image.size for image in images] == [(8, 8)] * 2
    assert all(abs(float(np.asarray(image).mean()) - LEVEL) < 25 for image in images)
    assert refused.status_code == 422
