"""Trainings that are killed while they write: nothing is lost, nothing half-written is found, nothing is left lying."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.checkpoints import load_model, load_state
from models.training.configuration import TrainingError
from models.training.folder import Folder
from models.training.training import Training
from tests.killing import KilledError, killed
from tests.models.test_training import Until, plan

IDENTITY = {"system": "s", "seed": 1, "config": {}}


def kills(tmp_path: Path, work: Callable[[Path], object]) -> list[Path]:
    """Folders in each of which the work was killed one step later than in the one before; in the last it was not."""
    folders = []
    for step in count(1):
        folders.append(tmp_path / f"killed-{step}")
        folders[-1].mkdir()
        try:
            with killed(folders[-1], step):
                work(folders[-1])
        except KilledError:
            continue
        return folders
    raise AssertionError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(plan("ccoopnets"), tmp_path_factory.mktemp("training") / "run")
    assert training.run()
    return training


def test_a_publication_that_is_killed_anywhere_is_made_up_for(trained: Training, tmp_path: Path) -> None:
    roots = kills(tmp_path, trained.publish)
    assert len(roots) > 8
    for root in roots:
        folder = trained.publish(root)
        assert folder == root / "a-model" / "1"
        assert load_model(folder, torch.device("cpu")).card["version"] == 1
        assert [path.name for path in (root / "a-model").iterdir()] == ["1"]
        assert {path.name for path in folder.iterdir()} == {"card.json", "model.safetensors", "sample.png"}


def test_what_another_training_is_publishing_is_left_alone(trained: Training, tmp_path: Path) -> None:
    staging = tmp_path / "a-model" / ".staging-other-x"
    staging.mkdir(parents=True)
    (staging / "card.json").write_text(json.dumps({"training": {"run": trained.folder.name}}))
    assert trained.publish(tmp_path).name == "1"
    assert staging.exists()


@pytest.mark.parametrize("card", ["", "{", "[]", '{"training": 3}', None])
def test_a_damaged_neighbour_does_not_stop_a_publication(trained: Training, card: str | None, tmp_path: Path) -> None:
    neighbour = tmp_path / "a-model" / "3"
    neighbour.mkdir(parents=True)
    (tmp_path / "a-model" / "notes").mkdir()
    if card is not None:
        (neighbour / "card.json").write_text(card)
    assert [trained.publish(tmp_path).name for _ in range(2)] == ["4", "4"]


def write(root: Path) -> None:
    """What a training does with its folder."""
    folder = Folder(root / "run", IDENTITY)
    for iteration in (1, 2):
        folder.log({"iteration": iteration, "gap": 1.0})
        folder.save_sheet(torch.zeros(1, 2, 1, 4, 4), iteration)
        folder.save({"x": torch.full((3,), float(iteration))}, {"iteration": iteration})


def test_a_folder_whose_writer_is_killed_anywhere_is_read_again(tmp_path: Path) -> None:
    roots = kills(tmp_path, write)
    assert len(roots) > 15
    begun = 0
    for root in roots:
        folder = Folder(root / "run", IDENTITY)
        if folder.begun:
            tensors, progress = folder.load()
            assert tensors["x"].tolist() == [progress["iteration"]] * 3
            folder.cut_log(progress["iteration"])
            begun += 1
        for sheet in root.rglob("*.png"):
            with Image.open(sheet) as picture:
                picture.load()
        assert json.loads((root / "run" / "config.json").read_text()) == IDENTITY
        assert not [path for path in root.rglob(".*") if path.is_file()]
    assert 0 < begun < len(roots)


def test_a_line_that_was_cut_off_does_not_stop_the_figure(tmp_path: Path) -> None:
    folder = Folder(tmp_path, IDENTITY)
    (tmp_path / "metrics.jsonl").write_bytes(b'{"iteration": 1, "gap": 1.0}\n{"iteration": 2, "\xff\n3\n')
    folder.draw_figure()
    assert (tmp_path / "training.png").stat().st_size > 1000
    folder.cut_log(1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"iteration": 1, "gap": 1.0}\n'


@pytest.mark.parametrize("content", ["", '{"system": "cco', "[]", None])
def test_a_training_goes_on_without_a_readable_configuration(content: str | None, tmp_path: Path) -> None:
    first = Training(plan("ccoopnets"), tmp_path)
    assert not first.run(Until(5))
    config = tmp_path / "config.json"
    config.unlink()
    if content is not None:
        config.write_text(content)
    with pytest.raises(TrainingError, match="another training"):
        Training(plan("ccoopnets", seed=2), tmp_path)
    second = Training(plan("ccoopnets"), tmp_path)
    assert second.progress.iteration == 5
    assert json.loads(config.read_text()) == second.plan.identity()


def test_a_configuration_that_nothing_was_saved_for_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    training = Training(plan("ccoopnets"), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == training.plan.identity()


def test_what_names_the_training_in_a_state_stays_with_the_folder(tmp_path: Path) -> None:
    Folder(tmp_path, IDENTITY).save({"x": torch.ones(1)}, {"iteration": 3})
    assert load_state(tmp_path / "state.safetensors")[1].keys() > {"iteration"}
    assert Folder(tmp_path, IDENTITY).load()[1] == {"iteration": 3}
