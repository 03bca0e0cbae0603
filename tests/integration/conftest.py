"""One server for most tests: the real command with its own database, worker, trainer and API."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Literal

import httpx
import pytest
import torch

from models.checkpoints import publish
from models.data.catalog import load
from models.training.configuration import configure
from models.training.plan import Plan
from models.training.training import Training
from tests.integration.server import Ending, Server, running
from tests.models.zoo import ZOO

MODEL: Literal["shipped", "stand-in"] = "shipped"
"""Which ``fashion-ccoopnets`` is served: the one in ``checkpoints/``, or an untrained one of the same shape."""

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "tests" / "data" / "fashion-sample.npz"

Launch = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the models that are there from the start."""
    if MODEL == "shipped":
        assert (ROOT / "checkpoints" / "fashion-ccoopnets").is_dir(), "checkpoints/ lacks the model fashion-ccoopnets"
        return ROOT / "checkpoints"
    folder = tmp_path_factory.mktemp("stand-in")
    data = load(str(SAMPLE), "train", folder)
    config = configure("ccoopnets", "small", data, {"training.batch_size": 8})
    plan = Plan("ccoopnets/labels", config, data, "fashion-ccoopnets", 0, torch.device("cpu"), "untrained")
    Training(plan, folder / "training").publish(folder / "checkpoints")
    return folder / "checkpoints"


@pytest.fixture(scope="session")
def clothes(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``fashion-ccoopnets`` alone: a worker tries out the batch sizes of each model that it finds, which
    takes a minute or two for all of them.
    """
    folder = tmp_path_factory.mktemp("clothes")
    shutil.copytree(checkpoints / "fashion-ccoopnets", folder / "fashion-ccoopnets")
    return folder


@pytest.fixture(scope="session")
def launch(clothes: Path) -> Launch:
    """Starts a further server: ``with launch(data_dir, "--option", VARIABLE="value") as server``."""
    return partial(running, clothes)


def data_folder(root: Path) -> Path:
    """The data directory of a server, with some images to train on."""
    (root / "var" / "data").mkdir(parents=True)
    shutil.copy(SAMPLE, root / "var" / "data" / "sample.npz")
    return root / "var"


@pytest.fixture(scope="package")  # so that it ends before the tests of other folders
def server(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that tests share; at the end SIGTERM must stop all of it."""
    data_dir = data_folder(tmp_path_factory.mktemp("shared"))
    with launch(data_dir, COOPSERVE_TRAINING_SAVE_SECONDS="0.5") as server:
        yield server
        assert server.end(signal.SIGTERM) == Ending(0, []), server.output()


IMAGE_MODELS = {"translate": "tiny-pairs", "inpaint": "tiny-holes"}
"""Small models that have never been trained, by the task that they do."""

ENERGY_MODELS = {"cfebm-chained": "tiny-energy", "cfebm-translate": "tiny-ways", "coopflow": "tiny-flows"}
"""And models without an initializer, or with a flow in its place, by their names in the zoo."""


@pytest.fixture(scope="package")
def picture_server(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with all models and some that take pictures. Batch sizes are not tried out, so it is ready soon."""
    data_dir = data_folder(tmp_path_factory.mktemp("pictures"))
    models = {**{f"ccoopnets-{task}": name for task, name in IMAGE_MODELS.items()}, **ENERGY_MODELS}
    for key, name in models.items():
        tiny = ZOO[key]
        head = {"name": name, "title": "t", "description": "d", "license": "MIT"}
        publish(data_dir / "models", {**head, **tiny.card()}, tiny.weights())
    with running(checkpoints, data_dir, COOPSERVE_EXACT="false") as server:
        yield server


@pytest.fixture(scope="package")
def picture_api(picture_server: Server) -> Iterator[httpx.Client]:
    """A client of the server with models that take pictures."""
    with httpx.Client(base_url=picture_server.url, timeout=90) as client:
        yield client


@pytest.fixture(scope="package")
def api(server: Server) -> Iterator[httpx.Client]:
    """A client of the shared server."""
    with httpx.Client(base_url=server.url, timeout=90) as client:
        yield client
