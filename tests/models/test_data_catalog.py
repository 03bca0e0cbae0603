"""Data by name: known sets, paths of one's own, and splits that never overlap."""

import struct
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from models.data.catalog import DATASETS, load
from models.data.images import DataError, ImageData
from models.data.splits import Split, choose

SAMPLE = Path(__file__).parents[1] / "data" / "fashion-sample.npz"
SPLITS: tuple[Split, ...] = get_args(Split)
NOWHERE = Path("/nonexistent")


def numbered(n: int) -> ImageData:
    """n images, each of which shows its own number."""
    numbers = torch.arange(n)
    pixels = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8)
    return ImageData(pixels.view(n, 1, 1, 2), numbers % 2, ("even", "odd"), "numbered")


def save(path: Path, grey: int, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)


def numbers_of(data: ImageData) -> list[int]:
    return [int(a) * 256 + int(b) for a, b in data.images.flatten(1)]


def test_data_in_one_piece_are_split_eight_one_one() -> None:
    parts = {split: choose({"": lambda: numbered(1000)}, split, "n") for split in SPLITS}
    assert {split: len(part) for split, part in parts.items()} == {"train": 800, "valid": 100, "test": 100}
    assert sorted(k for part in parts.values() for k in numbers_of(part)) == list(range(1000))
    # A fixed permutation: these very images are held out, today and with every version.
    assert numbers_of(parts["test"])[:4] == [1, 14, 27, 31]
    assert parts["valid"].name == "n/valid"


def test_data_with_a_test_split_keep_it_and_give_a_tenth_of_train_to_valid() -> None:
    sources = {"train": lambda: numbered(50), "test": lambda: numbered(7)}
    train, valid, test = (choose(sources, split, "n") for split in SPLITS)
    assert (len(train), len(valid), len(test)) == (45, 5, 7)
    assert sorted(numbers_of(train) + numbers_of(valid)) == list(range(50))
    assert numbers_of(choose({**sources, "valid": lambda: numbered(3)}, "valid", "n")) == [0, 1, 2]
    assert len(choose({**sources, "valid": lambda: numbered(3)}, "train", "n")) == 50


def test_data_with_train_alone_give_a_tenth_of_it_to_each_split_that_they_lack() -> None:
    alone = {split: numbers_of(choose({"train": lambda: numbered(50)}, split, "n")) for split in SPLITS}
    assert {split: len(part) for split, part in alone.items()} == {"train": 40, "valid": 5, "test": 5}
    assert sorted(k for part in alone.values() for k in part) == list(range(50))
    sources = {"train": lambda: numbered(50), "valid": lambda: numbered(7)}
    assert [len(choose(sources, split, "n")) for split in SPLITS] == [45, 7, 5]


def test_splits_that_can_not_be_made_are_refused() -> None:
    with pytest.raises(DataError, match="only 2 images"):
        choose({"": lambda: numbered(2)}, "train", "n")
    with pytest.raises(DataError, match="only 2 images"):
        choose({"train": lambda: numbered(2)}, "test", "n")
    with pytest.raises(DataError, match="no train split; it has test"):
        choose({"test": lambda: numbered(9)}, "train", "n")


def test_the_shipped_sample_is_balanced_and_small() -> None:
    train, valid, test = (load(str(SAMPLE), split, NOWHERE) for split in SPLITS)
    assert train.classes == DATASETS["fashion-mnist"].classes
    assert (len(train), len(valid), len(test)) == (270, 30, 100)
    assert test.shape == (1, 28, 28)
    assert train.labels is not None
    assert valid.labels is not None
    assert test.labels is not None
    assert test.labels.bincount().tolist() == [10] * 10
    assert torch.cat([train.labels, valid.labels]).bincount().tolist() == [30] * 10
    assert SAMPLE.stat().st_size < 400_000
    assert "Copyright (c) 2017 Zalando SE" in SAMPLE.with_name("NOTICE").read_text()


def test_image_size_and_channels_are_applied_to_archives_too() -> None:
    assert load(str(SAMPLE), "test", NOWHERE, image_size=32, channels=3).shape == (3, 32, 32)


def test_a_folder_of_idx_files(tmp_path: Path) -> None:
    images = numbered(20).images[:, 0].numpy()
    labels = (np.arange(20) % 5).astype(np.uint8)
    for part, count in (("train", 20), ("t10k", 3)):
        head = struct.pack(">4I", 0x803, count, *images.shape[1:])
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(head + images[:count].tobytes())
        head = struct.pack(">2I", 0x801, count)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(head + labels[:count].tobytes())
    train, valid, test = (load(str(tmp_path), split, NOWHERE) for split in SPLITS)
    assert (len(train), len(valid), len(test)) == (18, 2, 3)
    assert test.classes == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("valid_name", ["valid", "val"])
def test_a_folder_with_split_folders(tmp_path: Path, valid_name: str) -> None:
    for split, colours in (("train", (1, 2, 3)), ("test", (4,)), (valid_name, (5, 6))):
        for colour in colours:
            save(tmp_path / split / "b" / f"{colour}.png", colour)
    save(tmp_path / "train" / "a" / "0.png", 0)
    train, valid, test = (load(str(tmp_path), split, NOWHERE) for split in SPLITS)
    assert train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert valid.images[:, 0, 0, 0].tolist() == [5, 6]
    assert test.images[:, 0, 0, 0].tolist() == [4]
    assert test.classes == ("a", "b")
    assert test.labels is not None
    assert test.labels.tolist() == [1]


def test_one_class_folder_is_split(tmp_path: Path) -> None:
    for k in range(20):
        save(tmp_path / "ab"[k % 2] / f"{k}.png", k, size=(4 + k, 5))
    parts = [load(str(tmp_path), split, NOWHERE, image_size=4, channels=1) for split in SPLITS]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert sorted(int(v) for part in parts for v in part.images[:, 0, 0, 0]) == list(range(20))


def test_data_that_are_not_there_say_what_to_do(tmp_path: Path) -> None:
    for name in DATASETS:
        with pytest.raises(DataError, match=f"run `coopserve data fetch {name}`"):
            load(name, "train", tmp_path)
    for name in ("", "fashion", str(tmp_path / "nowhere")):
        with pytest.raises(DataError, match=f"give one of {', '.join(DATASETS)}, or the path"):
            load(name, "train", tmp_path)
    with pytest.raises(DataError, match="must be one of train, valid, test"):
        load(str(SAMPLE), "training", tmp_path)  # type: ignore[arg-type]
    Image.new("L", (4, 4)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match=r"neither an \.npz archive nor a folder"):
        load(str(tmp_path / "one.png"), "train", tmp_path)


def test_damaged_known_data_say_how_to_get_them_anew(tmp_path: Path) -> None:
    for name in DATASETS:
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match=f"remove .* and run `coopserve data fetch {name}`"):
            load(name, "train", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_every_known_set_says_what_its_licence_asks(name: str) -> None:
    dataset = DATASETS[name]
    assert "Copyright (c)" in dataset.notice
    assert dataset.licence
    assert set(dataset.counts) == set(SPLITS)
    assert len(dataset.classes) in (0, 8, 10)
    assert all(len(value) == 64 for value in dataset.files.values())
    assert dataset.weights_may_ship == (name != "digits")
