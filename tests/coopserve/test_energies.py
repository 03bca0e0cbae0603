"""Energy-based models on the command line: trained on two domains without pairs, measured, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from coopserve.cli import main
from tests.models.test_data_kinds import save_domains
from tests.models.test_energy_evaluation import archive, checkpoint


@pytest.fixture(autouse=True)
def usual_torch() -> Iterator[None]:
    """Commands flush denormal numbers and set threads in the whole process; later tests need them."""
    threads = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)


def run(root: Path, *args: str) -> tuple[int, str]:
    env = {"COOPSERVE_DATA_DIR": str(root), "COOPSERVE_CHECKPOINTS_DIR": str(root / "none")}
    result = CliRunner().invoke(main, args, env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def card_of(root: Path, name: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((root / "models" / name / "1" / "card.json").read_text())
    return card


def test_two_domains_are_learned_and_measured(tmp_path: Path) -> None:
    folder = save_domains(tmp_path / "horses", trainA=12, trainB=11, validA=10, validB=10, testA=10, testB=12)
    train = ["train", "--system", "cfebm", "--preset", "small-translate", "--data", str(folder), "--name", "horses"]
    small = ["--threads", "1", "--image-size", "16", "--set", "network.c=1", "--set", "training.iterations=1"]
    code, output = run(tmp_path, *train, *small)
    assert code == 0, output
    assert card_of(tmp_path, "horses")["training"]["data"]["images"] == 11
    code, output = run(tmp_path, "evaluate", "horses", "--data", str(folder), "--threads", "1")
    assert code == 0, output
    card = card_of(tmp_path, "horses")
    assert set(card["metrics"]["doubtful"]["directions"]) == {"A", "B"}
    assert "only 12 test images" in card["metrics"]["caveats"][0]
    assert output.index("caution: there are only 12 test images") < output.index('"caveats"')  # the table comes first
    assert set(card["calibration"]["conditions"]) == {"A", "B"}
    refused = run(tmp_path, "evaluate", "horses", "--data", str(folder), "--choose-steps")
    assert refused[0] == 2
    assert "--choose-steps is for models that refine proposals; horses makes none" in refused[1]


def test_a_model_from_noise_alone_is_measured(tmp_path: Path) -> None:
    data = archive(tmp_path)
    checkpoint(tmp_path, data)
    code, output = run(tmp_path, "evaluate", "m", "--data", data, "--images", "10", "--threads", "1")
    assert code == 0, output
    card = card_of(tmp_path, "m")
    assert card["metrics"]["images"] == 10
    figures = card["metrics"]["doubtful"]
    assert figures["generated"]["kid"] > figures["real"]["kid"]
    assert card["calibration"]["pooled"]["images"] == 12


@pytest.mark.parametrize(
    ("preset", "data", "reason"),
    [
        ("small-translate", "tests/data/fashion-sample.npz", "has no two domains; give aligned pairs, or a folder"),
        ("tiny", "DOMAINS", "choose a preset that translates without pairs"),
    ],
)
def test_the_wrong_kind_of_data_is_refused(preset: str, data: str, reason: str, tmp_path: Path) -> None:
    folder = save_domains(tmp_path / "horses", trainA=2, trainB=2)
    place = data.replace("DOMAINS", str(folder))
    code, output = run(tmp_path, "train", "--system", "cfebm", "--preset", preset, "--data", place, "--name", "x")
    assert code == 1
    assert reason in output
