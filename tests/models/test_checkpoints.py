from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints import CheckpointError, latest_version, load_model, load_state, publish, save_state
from models.systems.registry import VARIANTS, systems, variant_of
from models.training.configuration import configure
from tests.models.zoo import CLASSES, TINY, ZOO, images


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    data, entry = images(), VARIANTS["ccoopnets/labels"]
    config = configure("ccoopnets", "small", data, TINY["ccoopnets"])
    tensors = entry.trainer(config, data, 3, torch.device("cpu")).export()
    return publish(
        tmp_path,
        {"name": "m", "system": "ccoopnets", "variant": "ccoopnets/labels", **entry.card(config, CLASSES)},
        tensors,
    )


def edit(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(folder, torch.device("cpu"))
    return str(caught.value)


def test_versions_count_up(tmp_path: Path) -> None:
    card, tensors = {"name": "m", "system": "s"}, {"x": torch.ones(1)}
    assert [publish(tmp_path, card, tensors).name for _ in range(3)] == ["1", "2", "3"]
    assert publish(tmp_path, card, tensors, after=9).name == "10"
    assert latest_version(tmp_path, "m") == 10
    assert latest_version(tmp_path, "other") == 0
    assert not list((tmp_path / "m").glob(".staging*"))


def test_a_damaged_file_is_refused(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "is damaged" in refused(checkpoint)


def test_a_missing_file_is_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused(checkpoint)


def test_a_pickle_in_disguise_is_refused(checkpoint: Path) -> None:
    torch.save({"x": torch.ones(1)}, checkpoint / "model.safetensors")
    from models.checkpoints import sha256

    files = {"model.safetensors": {"sha256": sha256(checkpoint / "model.safetensors"), "bytes": 1}}
    edit(checkpoint, files=files)
    assert refused(checkpoint)


def test_tensors_of_another_configuration_are_refused(checkpoint: Path) -> None:
    card = json.loads((checkpoint / "card.json").read_text())
    config = {**card["config"], "initializer": {**card["config"]["initializer"], "latent": 50}}
    edit(checkpoint, config=config)
    assert "initializer does not fit its configuration" in refused(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "gan/small"}, "unknown variant 'gan/small'"),
        ({"variant": None, "system": "gan"}, "unknown system 'gan'"),
        ({"variant": None, "config": {"size": 28}}, "no variant of ccoopnets takes the configuration"),
        ({"config": {"size": 28}}, "validation error"),
        ({"variant": "ccoopnets/images"}, "models of ccoopnets/images can't do 'generate'"),
        ({"tasks": {"denoise": {}}}, "models of ccoopnets/labels can't do 'denoise'"),
        ({"files": {}}, "the card lacks"),
        ({"classes": ["one"]}, "names 1 classes"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(checkpoint: Path, changes: dict[str, object], message: str) -> None:
    edit(checkpoint, **changes)
    assert message in refused(checkpoint)


@pytest.mark.parametrize("name", ZOO)
def test_a_card_of_an_earlier_version_names_its_system_alone(name: str, tmp_path: Path) -> None:
    card = ZOO[name].card()
    variant = card.pop("variant")
    assert variant_of(card) == variant
    folder = publish(tmp_path, {"name": "m", **card}, ZOO[name].weights())
    assert load_model(folder, torch.device("cpu")).tasks.keys() == card["tasks"].keys()


def test_presets_have_one_variant_in_each_system() -> None:
    for variants in systems().values():
        presets = [preset for variant in variants for preset in VARIANTS[variant].presets]
        assert len(set(presets)) == len(presets)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_card_that_is_not_one_is_refused(checkpoint: Path, text: str) -> None:
    (checkpoint / "card.json").write_text(text)
    assert "card.json" in refused(checkpoint)


def test_the_state_of_a_training_round_trips_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    tensors = {"a.b": torch.arange(3.0), "c": torch.tensor(2)}
    save_state(path, tensors, {"iteration": 7, "lr_scale": 0.5})
    loaded, progress = load_state(path)
    assert progress == {"iteration": 7, "lr_scale": 0.5}
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="can't be read"):
        load_state(path)
