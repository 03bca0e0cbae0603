"""Models that travel: out to a folder and in again, and folders that are not what they seem."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from coopserve.cli import main
from coopserve.travel import hub
from coopserve.travel.arriving import Arrived, arrive
from coopserve.travel.layout import FILES, TravelError
from coopserve.travel.leaving import leave
from models.checkpoints import load_model, publish
from pictures.files import PictureLimits
from service.contract.catalog import Catalog
from service.settings import Settings
from tests.coopserve.fake_hub import FakeHub, hub_server
from tests.models.zoo import ZOO

HEAD = {"name": "tiny", "title": "A tiny energy", "description": "Untrained.", "license": "MIT", "notice": "Nobody"}
METRICS = {"generated": {"kid": 0.25, "mean": -0.5, "note": "words"}, "images": 1000, "small": 1e-05}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one in it, which somebody owns."""
    root = tmp_path_factory.mktemp("shipped")
    tiny = ZOO["cfebm-single"]
    own = {"owner": "alice", "metrics": METRICS, "known_weaknesses": ["It has learned nothing."]}
    folder = publish(root, {**HEAD, **tiny.card(), **own}, tiny.weights())
    Image.new("RGB", (32, 32), (9, 8, 7)).save(folder / "sample.png")
    return root


@pytest.fixture
def folder(shipped: Path, tmp_path: Path) -> Path:
    """The model, on its way."""
    leave(Catalog([shipped]), "tiny", tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def bring(folder: Path, models: Path, name: str | None = None) -> Arrived:
    return arrive(folder, models, beside=models.parent / "none", limits=PictureLimits(2**20, 2**20, 4096), name=name)


def test_it_arrives_as_it_left(folder: Path, shipped: Path, models: Path) -> None:
    assert {file.name for file in folder.iterdir()} == set(FILES)
    assert bring(folder, models) == Arrived("tiny@1", new=True)
    made, was = models / "tiny" / "1", shipped / "tiny" / "1"
    assert (made / "model.safetensors").read_bytes() == (was / "model.safetensors").read_bytes()
    card = Catalog([models]).get("tiny")
    assert card == Catalog([shipped]).get("tiny").model_copy(update={"owner": None})
    load_model(made, torch.device("cpu"))
    with Image.open(made / "sample.png") as picture:
        assert picture.getpixel((0, 0)) == (9, 8, 7)
    assert bring(folder, models) == Arrived("tiny@1", new=False)
    assert bring(folder, models, "other") == Arrived("other@1", new=True)
    assert sorted(os.listdir(models / "tiny")) == ["1"]


def test_its_page_is_what_the_hub_reads(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert (about["license"], about["library_name"]) == ("mit", "coopserve")
    assert about["pipeline_tag"] == "unconditional-image-generation"
    assert {"coopserve", "cfebm", "generate"} <= set(about["tags"])
    (result,) = about["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"generated.kid": 0.25, "generated.mean": -0.5, "images": 1000.0, "small": 0.00001}
    for part in ("# A tiny energy", "sample.png", "It has learned nothing.", "| generated.kid | 0.25 |", "Nobody"):
        assert part in body
    assert "alice" not in "".join((folder / name).read_text() for name in ("README.md", "card.json", "config.json"))
    assert json.loads((folder / "config.json").read_text())["variant"] == "cfebm/generation"


def edit(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


def with_weights(data: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(data)
        edit(folder, files={"model.safetensors": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}})

    return change


def flipped(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def longer(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes() + b"x")


def linked(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def piped(folder: Path) -> None:
    (folder / "card.json").unlink()
    os.mkfifo(folder / "card.json")


class Mine:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no card": (lambda f: (f / "card.json").unlink(), "card.json can't be read"),
    "a card that is a link": (
        lambda f: ((f / "card.json").unlink(), (f / "card.json").symlink_to("/etc/hostname")),
        "it is a link",
    ),
    "a card that is a pipe": (piped, "is no plain file"),
    "a card that is no JSON": (lambda f: (f / "card.json").write_text("{"), "is not valid"),
    "a card of a million lists": (lambda f: (f / "card.json").write_text("[" * 10**6), "is not valid"),
    "an endless card": (lambda f: (f / "card.json").write_bytes(b" " * (5 * 2**20)), "has more than"),
    "a name that leads out": (lambda f: edit(f, name="../../evil"), "name"),
    "a file that leads out": (lambda f: edit(f, files={"../x": {"sha256": "0" * 64, "bytes": 1}}), "beside the card"),
    "a pickle on the card": (
        lambda f: edit(f, files={"model.pkl": {"sha256": "0" * 64, "bytes": 1}}),
        "a model has one, model.safetensors",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors can't be read"),
    "weights that are a link": (linked, "it is a link"),
    "other weights": (flipped, "is not the file of the card"),
    "too many weights": (longer, "more bytes"),
    "a pickle in disguise": (with_weights(pickle.dumps(Mine())), "not in the format safetensors"),
    "a header of terabytes": (with_weights((2**42).to_bytes(8, "little") + b"{}"), "not in the format safetensors"),
    "weights of another model": (with_weights((2).to_bytes(8, "little") + b"{}"), "can't be loaded"),
    "an unknown kind": (lambda f: edit(f, variant="evil/kind"), "knows no 'evil/kind'"),
    "settings that are none": (lambda f: edit(f, config={"stages": "x"}), "can't be loaded"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_refused_in_words_and_leaves_nothing(name: str, folder: Path, models: Path) -> None:
    change, words = HOSTILE[name]
    change(folder)
    with pytest.raises(TravelError, match=words):
        bring(folder, models)
    assert [path for path in models.rglob("*") if path.name != "tiny"] == []
    assert not (models.parent / "evil").exists()


def test_what_is_besides_is_not_taken_along(folder: Path, models: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Mine()))
    (folder / "sample.png").write_bytes(b"no picture")
    edit(folder, owner="mallory", training={"run": "../../x"})
    bring(folder, models)
    assert sorted(os.listdir(models / "tiny" / "1")) == ["card.json", "model.safetensors"]
    assert Catalog([models]).get("tiny").owner is None


def test_a_model_goes_to_the_hub_and_comes_back(folder: Path, models: Path, fake: FakeHub, tmp_path: Path) -> None:
    address = hub.push(folder, "me/tiny", private=False, endpoint=fake.url)
    assert address.startswith(f"{fake.url}/me/tiny/commit/")
    assert fake.repositories["me/tiny"] == {name: (folder / name).read_bytes() for name in FILES}
    fake.repositories["me/tiny"]["pytorch_model.bin"] = pickle.dumps(Mine())
    hub.pull("me/tiny", tmp_path / "pulled", endpoint=fake.url)
    assert set(fake.fetched) == set(FILES)
    assert bring(tmp_path / "pulled", models).ref == "tiny@1"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with hub_server() as hub:
        yield hub


def test_what_goes_wrong_with_the_hub_is_told_in_a_line(folder: Path, fake: FakeHub, tmp_path: Path) -> None:
    for repo, endpoint in (("me/none", fake.url), ("not a name", fake.url), ("me/tiny", "http://127.0.0.1:1")):
        with pytest.raises(TravelError, match=repo) as caught:
            hub.pull(repo, tmp_path / "pulled", endpoint=endpoint)
        assert "\n" not in str(caught.value)


def command(data_dir: Path, shipped: Path, *words: str) -> Result:
    env = {"COOPSERVE_CHECKPOINTS_DIR": str(shipped), "COOPSERVE_DATA_DIR": str(data_dir)}
    return CliRunner().invoke(main, ["models", *words], env=env)


def test_the_commands(shipped: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "var"
    models = Settings(data_dir=data).models_dir
    assert "tiny@1 is in" in command(data, shipped, "export", "tiny", str(out)).output
    assert "is there already" in command(data, shipped, "export", "tiny", str(out)).output
    assert "no model" in command(data, shipped, "export", "none", str(tmp_path / "x")).output
    assert "tiny@1 is the same model" in command(data, shipped, "import", str(out)).output
    assert "mine@1 is there" in command(data, shipped, "import", str(out), "--name", "mine").output
    assert "name" in command(data, shipped, "import", str(out), "--name", "../x").output
    assert "ships with the program" in command(data, shipped, "rm", "tiny@1", "--yes").output
    assert "is not there" in command(data, shipped, "rm", "mine", "--yes").output
    assert command(data, shipped, "rm", "mine@1").exit_code == 1  # nobody said yes
    assert (models / "mine" / "1").is_dir()
    assert command(data, shipped, "rm", "mine@1", "--yes").output == "deleted mine@1\n"
    assert Catalog([models]).list() == []
    again = command(data, shipped, "import", str(out), "--name", "mine")
    assert "mine@2 is there" in again.output  # the number 1 is gone for good
