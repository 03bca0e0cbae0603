"""Two domains without pairs: from pairs, from the folders trainA and trainB, and what is refused."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from models.data.catalog import load, load_domains
from models.data.images import DataError, ImageData
from models.data.splits import SPLITS, Split
from models.data.unpaired import UnpairedData, drop_pairs, keep_pairs

NOWHERE = Path("/nonexistent")


def images(*levels: int, channels: int = 1, side: int = 2, name: str = "made") -> ImageData:
    pixels = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, channels, side, side)
    return ImageData(pixels.contiguous(), None, (), name)


def pairs(n: int) -> ImageData:
    """Pairs k -> 100 + k."""
    there, here = images(*range(n)), images(*range(100, 100 + n))
    return ImageData(here.images, None, (), "made/train", there.images)


def levels(data: ImageData) -> list[int]:
    return data.images[:, 0, 0, 0].tolist()


def save(path: Path, *greys: int, mode: str = "L", size: tuple[int, int] = (4, 4)) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for grey in greys:
        Image.new("L", size, grey).convert(mode).save(path / f"{grey}.png")


@pytest.fixture
def horses(tmp_path: Path) -> Path:
    save(tmp_path / "horses" / "trainA", *range(20))
    save(tmp_path / "horses" / "trainB", *range(100, 130), mode="RGB")
    save(tmp_path / "horses" / "testA", 30, 31)
    save(tmp_path / "horses" / "testB", 140, 141, 142)
    return tmp_path / "horses"


def test_reversed_swaps_the_domains_and_back_again() -> None:
    data = UnpairedData(images(1, 2), images(3, 4, 5), "made")
    back = data.reversed()
    assert (levels(back.source), levels(back.target), back.name) == ([3, 4, 5], [1, 2], "made/BtoA")
    assert (len(data), len(back)) == (3, 2)
    again = back.reversed()
    assert (again.name, again.sha256()) == ("made", data.sha256())
    assert data.sha256() != back.sha256()


def test_shape_and_fit_are_those_of_both_domains() -> None:
    data = UnpairedData(images(1, side=4), images(2, side=4), "made").fit(2, 3)
    assert data.shape == data.source.shape == data.target.shape == (3, 2, 2)
    assert (levels(data.source), levels(data.target), data.classes) == ([1], [2], ())


def test_domains_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(DataError, match="2x2 pixels in 1 channels and 3x3 pixels in 1 channels; pass --image-size"):
        UnpairedData(images(1), images(2, side=3), "made")
    with pytest.raises(DataError, match="1 and 2 images can't be pairs"):
        UnpairedData(images(1), images(2, 3), "made", paired=True)
    with pytest.raises(DataError, match="give aligned pairs, or a folder with the folders trainA and trainB"):
        keep_pairs(images(1))


def test_kept_pairs_stay_pairs_in_both_directions() -> None:
    data = keep_pairs(pairs(5))
    assert data.pairs().sha256() == pairs(5).sha256()
    back = data.reversed().pairs()
    assert back.conditions is not None
    assert (back.conditions[:, 0, 0, 0].tolist(), levels(back)) == ([100, 101, 102, 103, 104], [0, 1, 2, 3, 4])
    assert back.name == "made/train/BtoA"


def test_dropped_pairs_are_in_two_fixed_orders() -> None:
    data = drop_pairs(pairs(80))
    assert sorted(levels(data.source)) == list(range(80))
    assert sorted(levels(data.target)) == list(range(100, 180))
    assert sum(b == a + 100 for a, b in zip(levels(data.source), levels(data.target), strict=True)) < 8
    assert data.sha256() == drop_pairs(pairs(80)).sha256()
    assert not data.paired


def test_disjoint_halves_have_no_pair_between_them() -> None:
    data = drop_pairs(pairs(81), disjoint=True)
    there, here = levels(data.source), [level - 100 for level in levels(data.target)]
    assert (len(there), len(here)) == (40, 41)
    assert sorted(there + here) == list(range(81))
    with pytest.raises(DataError, match="only 1 pair"):
        drop_pairs(pairs(1), disjoint=True)


def test_folders_of_two_domains(horses: Path) -> None:
    parts = {split: load_domains(str(horses), split, NOWHERE) for split in SPLITS}
    sizes = {split: (len(part.source), len(part.target)) for split, part in parts.items()}
    assert sizes == {"train": (18, 27), "valid": (2, 3), "test": (2, 3)}
    assert levels(parts["test"].source) == [30, 31]
    assert sorted(levels(parts["train"].source) + levels(parts["valid"].source)) == list(range(20))
    assert sorted(levels(parts["train"].target) + levels(parts["valid"].target)) == list(range(100, 130))
    assert not any(part.paired for part in parts.values())
    assert parts["train"].shape == (3, 4, 4)  # grey A beside B in colour
    back = load_domains(str(horses), "test", NOWHERE, direction="BtoA", image_size=2, channels=1)
    assert (levels(back.target), back.shape, back.name) == ([30, 31], (1, 2, 2), "horses/test/BtoA")


@pytest.mark.parametrize("valid", ["valid", "val"])
def test_folders_for_validation_are_taken(horses: Path, valid: str) -> None:
    save(horses / f"{valid}A", 50)
    save(horses / f"{valid}B", 150, 151)
    assert levels(load_domains(str(horses), "valid", NOWHERE).target) == [150, 151]
    assert len(load_domains(str(horses), "train", NOWHERE)) == 30


def test_training_folders_alone_hold_a_tenth_out(tmp_path: Path) -> None:
    save(tmp_path / "trainA", *range(20))
    save(tmp_path / "trainB", *range(30))
    parts = [load_domains(str(tmp_path), split, NOWHERE) for split in SPLITS]
    assert [(len(part.source), len(part.target)) for part in parts] == [(16, 24), (2, 3), (2, 3)]


def test_test_folders_alone_can_only_be_tested_on(tmp_path: Path) -> None:
    save(tmp_path / "testA", 1)
    save(tmp_path / "testB", 2)
    assert levels(load_domains(str(tmp_path), "test", NOWHERE).target) == [2]
    with pytest.raises(DataError, match="no train split; it has test"):
        load_domains(str(tmp_path), "train", NOWHERE)


@pytest.mark.parametrize("name", ["trainA", "trainB", "testA", "testB"])
def test_a_missing_folder_is_named(horses: Path, name: str) -> None:
    for file in (horses / name).iterdir():
        file.unlink()
    with pytest.raises(DataError, match=f"{name} holds no images"):
        load_domains(str(horses), name[:-1], NOWHERE)  # type: ignore[arg-type]
    (horses / name).rmdir()
    with pytest.raises(
        DataError, match=f"{name} is missing; the pictures of the other domain go there, beside {name[:-1]}"
    ):
        load_domains(str(horses), "train", NOWHERE)


def test_pictures_of_several_sizes_need_to_be_resized(horses: Path) -> None:
    save(horses / "testA", 32, size=(5, 4))
    with pytest.raises(DataError, match=r"differ in size .*--image-size"):
        load_domains(str(horses), "test", NOWHERE)
    assert len(load_domains(str(horses), "test", NOWHERE, image_size=4).source) == 3
    save(horses / "other" / "trainA", *range(10))
    save(horses / "other" / "trainB", *range(10), size=(6, 6))
    with pytest.raises(DataError, match=r"must agree in size and channels, got 4x4 .* and 6x6 .*pass --image-size"):
        load_domains(str(horses / "other"), "train", NOWHERE)


def test_such_folders_are_no_classes_and_no_pairs(horses: Path) -> None:
    with pytest.raises(DataError, match=r"holds two domains without pairs .*folders A and B"):
        load(str(horses), "train", NOWHERE)


def test_a_users_own_pairs_give_domains_too(tmp_path: Path) -> None:
    for k in range(20):
        save(tmp_path / "A", k, size=(4 + k, 4 + k))
        save(tmp_path / "B", k, mode="RGB", size=(4 + k, 4 + k))
    train, test = (load_domains(str(tmp_path), split, NOWHERE, image_size=4) for split in ("train", "test"))  # type: ignore[arg-type]
    assert (len(train.source), len(train.target), train.shape, train.paired) == (16, 16, (3, 4, 4), False)
    assert torch.equal(test.source.images, test.target.images)
    assert test.paired


def test_what_has_no_two_domains_is_refused(tmp_path: Path) -> None:
    save(tmp_path, *range(20))
    refusals: list[tuple[str, Split, dict[str, str], str]] = [
        (str(tmp_path), "train", {}, "has no two domains; give aligned pairs"),
        (str(tmp_path), "train", {"direction": "both"}, "must be one of AtoB, BtoA, got 'both'"),
        ("horse", "train", {}, "no data called 'horse'"),
        ("", "train", {}, "no data called ''"),
        ("emoji", "train", {}, "run `coopserve data fetch emoji`"),
    ]
    for name, split, options, message in refusals:
        with pytest.raises(DataError, match=message):
            load_domains(name, split, NOWHERE, **options)  # type: ignore[arg-type]
    save(tmp_path / "trainA", 1)
    with pytest.raises(DataError, match="the split must be one of train, valid, test"):
        load_domains(str(tmp_path), "training", NOWHERE)  # type: ignore[arg-type]
