"""The command line: what is wrong is said in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from coopserve.cli import main


@pytest.fixture(autouse=True)
def usual_floats() -> Iterator[None]:
    """Training flushes denormal numbers in the whole process; later tests need them."""
    yield
    torch.set_flush_denormal(False)


def run(*args: str, **env: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, args, env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--data", "nope", "--name", "x"], "no data called 'nope'"),
        (
            ["train", "--data", "tests/data/fashion-sample.npz", "--name", "x", "--system", "gan"],
            "unknown system 'gan'",
        ),
        (["train", "--data", "tests/data/fashion-sample.npz", "--name", "x", "--set", "steps"], "PATH=VALUE"),
        (
            ["train", "--data", "tests/data/fashion-sample.npz", "--name", "x", "--direction", "BtoA"],
            "no pairs that BtoA could turn round",
        ),
        (["train", "--data", "x", "--name", "x", "--direction", "AB"], "is not one of 'AtoB', 'BtoA'"),
        (["evaluate", "nope", "--data", "x", "--direction", "AB"], "is not one of 'AtoB', 'BtoA'"),
        (["evaluate", "nope", "--data", "digits"], "there is no model 'nope'"),
        (["data", "fetch", "nope"], "the known ones are fashion-mnist, digits"),
        (["models", "show", "nope"], "there is no model 'nope'"),
        (["worker"], "no Redis is configured"),
        (["trainer"], "no Redis is configured"),
        (["api"], "no Redis is configured"),
    ],
)
def test_mistakes_are_named(args: list[str], message: str, tmp_path: Path) -> None:
    code, output = run(*args, COOPSERVE_DATA_DIR=str(tmp_path), COOPSERVE_CHECKPOINTS_DIR=str(tmp_path))
    assert code in (1, 2)
    assert message in output


def test_idle_connections_outlive_those_of_clients_and_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, float] = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **given: options.update(given))
    code, output = run("api", COOPSERVE_REDIS_URL="redis://127.0.0.1:1/0")
    assert code == 0, output
    assert options["timeout_keep_alive"] > 60


@pytest.mark.parametrize("command", [["serve"], ["models", "list"], ["data", "list"]])
def test_a_bad_setting_is_named(command: list[str]) -> None:
    code, output = run(*command, COOPSERVE_PORT="eighty")
    assert code == 1
    assert "port: Input should be a valid integer" in output


def test_a_training_is_published_repeated_and_shown(tmp_path: Path) -> None:
    env = {"COOPSERVE_DATA_DIR": str(tmp_path / "var"), "COOPSERVE_CHECKPOINTS_DIR": str(tmp_path / "none")}
    command = ["train", "--data", "tests/data/fashion-sample.npz", "--name", "mine", "--threads", "1"]
    command += ["--set", "training.iterations=3", "--set", "training.batch_size=4", "--set", "refinement.steps=1"]
    code, output = run(*command, **env)
    assert code == 0, output
    assert "mine@1 is in" in output
    assert "mine@1 is in" in run(*command, **env)[1]  # the same command finds it finished
    assert "mine@2 is in" in run(*command, "--fresh", "--seed", "2", **env)[1]
    listed = run("models", "list", **env)[1]
    assert listed.count("generate, ") == 2
    assert listed.count(": CCoopNets trained on") == 2
    assert '"iterations": 3' in run("models", "show", "mine@1", **env)[1]
