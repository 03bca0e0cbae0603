"""The benchmarks of recovery and of the queue run, at a size that takes seconds, and count right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from benchmarks import chaos, queue_depth
from tests.workers.conftest import publish_tiny


def figures_of(command: click.Command, folder: Path, *options: str) -> dict[str, Any]:
    publish_tiny(folder / "checkpoints")
    path = folder / "figures.json"
    settings = {"CHECKPOINTS_DIR": str(folder / "checkpoints"), "DEVICE": "cpu", "MAX_ROWS": "16"}
    environment = {f"COOPSERVE_{name}": value for name, value in settings.items()}
    result = CliRunner(env=environment).invoke(command, ["--model=tiny", f"--json={path}", *options])
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(path.read_text())
    for target in content["targets"]:
        assert target["name"] in result.output
    return content


@pytest.mark.timeout(300)
def test_chaos(tmp_path: Path) -> None:
    options = ["--kills=1", "--jobs=3", "--images=16", "--steps=200", "--checkpoint-seconds=0.05"]
    content = figures_of(chaos.main, tmp_path, *options)
    assert [target["value"] for target in content["targets"][:3]] == [0, 0, 0]
    assert content["figures"]["jobs"] >= 3
    resumed = content["figures"]["resumed_seconds"]
    assert resumed
    assert 0 < max(resumed) == content["targets"][4]["value"]


def test_queue_depth(tmp_path: Path) -> None:
    content = figures_of(queue_depth.main, tmp_path, "--few=3", "--many=40", "--calls=4")
    few, many = content["figures"]["depths"]
    assert (few["queued"], many["queued"]) == (3, 40)
    assert len(few["submit"]) == len(many["cancel"]) == 4
    assert content["targets"][2]["value"] > 0
