"""The command line: what is wrong is said in words."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError

from coopserve.cli import main
from coopserve.configured import address_of
from coopserve.parts import HOPELESS, Part
from service.contract.trainings import TrainingRequest
from service.http.server import listening
from service.settings import Settings


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


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--system", "gan"], "unknown system 'gan'; choose one of: ccoopnets, cfebm"),
        (["--preset", "huge"], "unknown preset 'huge' of ccoopnets; choose one of: small, small-colour, paper-mnist"),
        (["--data", "nope"], "no data called 'nope': give one of fashion-mnist"),
        (["--data", "digits"], "run `coopserve data fetch digits`"),
        (["--set", "speed=9"], "unknown setting 'speed'; known, for example: channels"),
        (["--set", "refinement.steps=0"], "refinement.steps: Input should be greater than or equal to 1"),
        (["--set", "training.ema=much"], "training.ema: Input should be a valid number"),
        (["--set", "solver.concat_at=3"], "one of 3 layers, 0 to 2"),
        (["--system", "cfebm", "--set", "training.batch_size=8"], "unknown setting 'training.batch_size'"),
        (["--system", "cfebm", "--set", "training.iterations=9"], "the growth takes 939 iterations"),
        (["--preset", "paper-svhn"], "has grey images (1 channel), but the preset paper-svhn takes colour"),
        (["--preset", "small-inpaint"], "the preset small-inpaint takes 64x64: try --image-size 64\n"),
        (["--image-size", "27"], "27x27 pixels, but the preset small takes 28x28: try --image-size 28\n"),
        (["--channels", "3"], "(1 channel): try --channels 1, or --preset small-colour --image-size 32\n"),
        (["--preset", "small-emoji"], "has no condition images"),
        (["--system", "cfebm", "--preset", "small-translate"], "no two domains; give aligned pairs"),
        (["--direction", "BtoA"], "no pairs that BtoA could turn round"),
        (["--name", "My Model"], "use small letters, digits and hyphens"),
        (["--device", "cuda:99"], "the device 'cuda:99' can't be used"),
        (["--device", "gpu"], "the device 'gpu' can't be used"),
        (["--devices", "2", "--set", "training.batch_size=5"], "a batch of 5 images can't be divided among 2 devices"),
        (["--devices", "2", "--system", "aishmc", "--preset", "small-fashion32"], "is trained on one device only: its"),
        (["--devices", "99999"], "--devices 99999 is more than this machine has"),
        (["--devices", "2", "--device", "cuda:0"], "needs the kind of device, cuda or cpu, not 'cuda:0'"),
    ],
)
def test_a_training_that_can_not_work_is_one_line_and_leaves_nothing(
    args: list[str], message: str, tmp_path: Path
) -> None:
    given = ["train", "--data", "tests/data/fashion-sample.npz", "--name", "x", *args]
    code, output = run(*given, COOPSERVE_DATA_DIR=str(tmp_path), COOPSERVE_CHECKPOINTS_DIR=str(tmp_path))
    assert (code, output.count("\n")) == (1, 1)
    assert message in output
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_takes_too_much_memory_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    env = {"COOPSERVE_DATA_DIR": str(tmp_path), "COOPSERVE_CHECKPOINTS_DIR": str(tmp_path)}
    env["COOPSERVE_TRAINING_MEMORY_BYTES"] = str(2**28)
    given = ["train", "--data", "tests/data/fashion-sample.npz", "--name", "x", "--set", "training.batch_size=65536"]
    code, output = run(*given, **env)
    assert (code, output.count("\n")) == (1, 1)
    assert "with 65536 images a batch this training would take about" in output
    assert "but it may take 0.2 GiB; choose a smaller batch_size" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["serve"], ["models", "list"], ["data", "list"]])
def test_a_bad_setting_is_named(command: list[str]) -> None:
    code, output = run(*command, COOPSERVE_PORT="eighty")
    assert code == 1
    assert "port: Input should be a valid integer" in output


COMMAND = ["train", "--name", "mine", "--threads", "1"]
COMMAND += ["--set", "training.iterations=3", "--set", "training.batch_size=4", "--set", "refinement.steps=1"]
SAMPLE = Path("tests/data/fashion-sample.npz")


def test_a_training_is_published_repeated_and_shown(tmp_path: Path) -> None:
    env = {"COOPSERVE_CHECKPOINTS_DIR": str(tmp_path / "none")}
    place = ["--data-dir", str(tmp_path / "var")]
    command = [*COMMAND, *place, "--data", str(SAMPLE)]
    code, output = run(*command, **env)
    assert code == 0, output
    assert "mine@1 is in" in output
    again = run(*command, **env)[1]
    assert "mine@1 is in" in again  # the same command finds it finished
    assert "nothing is trained; --fresh does" in again
    assert "mine@2 is in" in run(*command, "--fresh", **env)[1]
    assert "mine@3 is in" in run(*command, "--seed", "2", **env)[1]
    listed = run("models", "list", *place, **env)[1]
    assert listed.count("generate, ") == 3
    assert listed.count(": CCoopNets trained on") == 3
    assert '"iterations": 3' in run("models", "show", "mine@1", *place, **env)[1]


def test_changed_data_make_a_new_version_and_the_same_data_elsewhere_do_not(tmp_path: Path) -> None:
    with np.load(SAMPLE) as archive:
        arrays = dict(archive)
    first, second = tmp_path / "first" / "mine.npz", tmp_path / "second" / "mine.npz"
    for path in (first, second):
        path.parent.mkdir()
    np.savez(first, **arrays)
    np.savez(second, **{**arrays, "images_train": 255 - arrays["images_train"]})
    env = {"COOPSERVE_DATA_DIR": str(tmp_path / "var"), "COOPSERVE_CHECKPOINTS_DIR": str(tmp_path / "none")}
    assert "mine@1 is in" in run(*COMMAND, "--data", str(first), **env)[1]
    changed = run(*COMMAND, "--data", str(second), **env)[1]
    assert "mine@1 was trained on other data" in changed
    assert "mine@2 is in" in changed
    first.write_bytes(second.read_bytes())  # under the name of old, what was seen under another
    assert "mine@2 is in" in run(*COMMAND, "--data", str(first), **env)[1]
    hashes = {
        json.loads((tmp_path / "var" / "models" / "mine" / version / "card.json").read_text())["training"]["data"][
            "sha256"
        ]
        for version in ("1", "2")
    }
    assert len(hashes) == 2


def test_data_are_found_by_their_name_in_the_data_folder_too(tmp_path: Path) -> None:
    place = tmp_path / "data" / "v1.2 of mine.npz"
    place.parent.mkdir()
    shutil.copy(SAMPLE, place)
    code, output = run(*COMMAND, "--data", "v1.2 of mine", "--data-dir", str(tmp_path))
    assert code == 0, output
    assert "v1.2 of mine/train: " in output
    card = json.loads((tmp_path / "models" / "mine" / "1" / "card.json").read_text())
    assert card["title"] == "CCoopNets trained on v1.2 of mine/train"


@pytest.mark.parametrize(
    ("name", "instead"),
    [("my_model", "my-model"), ("MyModel", "mymodel"), ("a/b", "a-b"), ("-x", "x"), ("été 2", "ete-2"), ("x\n", "x")],
)
def test_a_name_that_the_api_refuses_is_refused_before_training_in_the_same_words(
    name: str, instead: str, tmp_path: Path
) -> None:
    code, output = run("train", "--data", str(SAMPLE), "--name", name, "--data-dir", str(tmp_path / "var"))
    assert code == 1
    assert output.endswith(f"at either end, such as {instead}\n")
    assert not (tmp_path / "var").exists()
    with pytest.raises(ValidationError) as refused:
        TrainingRequest.model_validate({"data": "sample", "name": name})
    assert output == f"Error: {refused.value.errors()[0]['msg']}\n"


@pytest.mark.parametrize("command", ["worker", "trainer"])
def test_a_worker_without_its_device_says_so_and_ends_for_good(command: str) -> None:
    code, output = run(command, COOPSERVE_REDIS_URL="redis://127.0.0.1:1/0", COOPSERVE_DEVICE="cuda:99")
    assert (code, output.count("\n")) == (HOPELESS, 1)
    assert "Error: the device 'cuda:99' can't be used" in output


def test_a_part_that_can_not_run_ends_all_of_them() -> None:
    part = Part("the worker", [sys.executable, "-c", f"raise SystemExit({HOPELESS})"])
    part.start()
    assert part.process is not None
    part.process.wait(30)
    with pytest.raises(click.exceptions.Exit):  # the part itself has said why
        part.restart_if_dead()


def test_all_addresses_are_those_of_both_protocols() -> None:
    settings = Settings(host="::", port=0)
    assert settings.auth_on
    (listener,) = listening(settings) or []
    with listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()
    for host in ("::", "::1"):
        assert address_of(Settings(host=host, port=8000)) == "http://[::1]:8000"
    assert listening(Settings()) is None
