"""Aligned pairs and plain images of a user's own: every layout, both directions, and what is refused."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from models.data.catalog import load
from models.data.images import DataError
from models.data.own import find_parts, left_out
from models.data.pairs import Direction
from models.data.splits import SPLITS

NOWHERE = Path("/nonexistent")


def save(path: Path, grey: int, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)


def save_colour(path: Path, red: int, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 0, 0)).save(path)


def save_joined(path: Path, a: int, b: int, side: int = 4) -> None:
    """A plain picture of grey ``a`` with one of grey ``b`` on its right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    both = Image.new("L", (2 * side, side), a)
    both.paste(b, (side, 0, 2 * side, side))
    both.save(path)


def layout(root: Path, name: str) -> None:
    """Pairs k -> 100 + k in one of the layouts: 12 for training and 2 for the test."""
    for k in range(14):
        split = "train" if k < 12 else "test"
        if name == "joined":
            save_joined(root / split / f"{k}.png", k, 100 + k)
        elif name == "splits-above":
            save(root / split / "A" / f"{k}.png", k)
            save_colour(root / split / "B" / f"{k}.png", 100 + k)
        else:
            save(root / "A" / split / f"{k}.png", k)
            save_colour(root / "B" / split / f"{k}.jpg", 100 + k)


def conditions_of(root: Path, split: str, direction: Direction = "AtoB") -> list[int]:
    """The grey of each condition, once it is sure that the image belongs to it."""
    data = load(str(root), split, NOWHERE, direction=direction)  # type: ignore[arg-type]
    assert data.conditions is not None
    assert data.labels is None
    of, made = data.conditions[:, 0, 1, 1].int(), data.images[:, 0, 1, 1].int()
    shift = 100 if direction == "AtoB" else -100
    assert (made - of - shift).abs().max() <= 2  # JPEG is not exact
    return of.tolist()


@pytest.mark.parametrize("name", ["splits-above", "splits-below", "joined"])
def test_pairs_in_split_folders(tmp_path: Path, name: str) -> None:
    layout(tmp_path, name)
    assert conditions_of(tmp_path, "test") == [12, 13]
    train, valid = conditions_of(tmp_path, "train"), conditions_of(tmp_path, "valid")
    assert (len(train), len(valid)) == (11, 1)
    assert sorted(train + valid) == list(range(12))
    backwards = conditions_of(tmp_path, "test", "BtoA")
    assert backwards == pytest.approx([112, 113], abs=2)


@pytest.mark.parametrize("name", ["splits-above", "splits-below"])
def test_each_side_keeps_its_own_channels(tmp_path: Path, name: str) -> None:
    layout(tmp_path, name)
    there = load(str(tmp_path), "test", NOWHERE, image_size=2)
    back = load(str(tmp_path), "test", NOWHERE, direction="BtoA", channels=3)
    assert there.conditions is not None
    assert back.conditions is not None
    assert (there.shape, there.conditions.shape) == ((3, 2, 2), (2, 1, 2, 2))
    assert (back.shape, back.conditions.shape) == ((3, 4, 4), (2, 3, 4, 4))
    assert torch.equal(back.images[:, 0], load(str(tmp_path), "test", NOWHERE).conditions[:, 0])  # type: ignore[index]
    assert (there.name, back.name) == (f"{tmp_path.name}/test", f"{tmp_path.name}/test/BtoA")


def test_pairs_in_one_piece_are_split(tmp_path: Path) -> None:
    for k in range(20):
        save(tmp_path / "two" / "A" / f"{k}.png", k)
        save(tmp_path / "two" / "B" / f"{k}.png", 100 + k)
        save_joined(tmp_path / "one" / f"{k}.png", k, 100 + k)
        save_joined(tmp_path / "train-only" / "train" / f"{k}.png", k, 100 + k)
    for folder in ("two", "one", "train-only"):
        parts = [conditions_of(tmp_path / folder, split) for split in SPLITS]
        assert [len(part) for part in parts] == [16, 2, 2]
        assert sorted(k for part in parts for k in part) == list(range(20))


def test_valid_folders_of_pairs_are_found_under_both_names(tmp_path: Path) -> None:
    for name, k in (("train", 1), ("val", 2), ("test", 3)):
        save_joined(tmp_path / name / "x.png", k, 100 + k)
    assert [conditions_of(tmp_path, split) for split in SPLITS] == [[1], [2], [3]]


def test_plain_folders_are_images_without_labels(tmp_path: Path) -> None:
    for k in range(20):
        save(tmp_path / "loose" / f"{k}.png", k, (6, 4))
        save(tmp_path / "split" / "train" / f"{k}.png", k)
    save(tmp_path / "split" / "test" / "x.png", 99)
    save(tmp_path / "loose" / ".hidden.png", 99)
    (tmp_path / "loose" / "notes.txt").write_text("no image")
    loose = [load(str(tmp_path / "loose"), split, NOWHERE) for split in SPLITS]
    assert sorted(int(v) for part in loose for v in part.images[:, 0, 0, 0]) == list(range(20))
    assert all(part.labels is None and part.conditions is None and part.classes == () for part in loose)
    assert loose[0].shape == (1, 4, 6)
    assert load(str(tmp_path / "split"), "test", NOWHERE).images.unique().tolist() == [99]
    assert len(load(str(tmp_path / "split"), "train", NOWHERE, image_size=2, channels=3)) == 18


def test_one_panorama_among_photos_makes_no_pairs(tmp_path: Path) -> None:
    for k in range(11):
        save(tmp_path / f"{k}.png", k, (4, 4))
    save(tmp_path / "panorama.png", 11, (8, 4))
    data = load(str(tmp_path), "train", NOWHERE, image_size=4)
    assert data.conditions is None


def test_other_folders_beside_a_and_b_make_classes(tmp_path: Path) -> None:
    for letter in "ABC":
        save(tmp_path / letter / "1.png", 1)
        save(tmp_path / letter / "2.png", 2)
    assert load(str(tmp_path), "train", NOWHERE).classes == ("A", "B", "C")


def test_stray_folders_beside_a_and_b_do_not_turn_pairs_into_classes(tmp_path: Path) -> None:
    layout(tmp_path / "above", "splits-above")
    layout(tmp_path / "below", "splits-below")
    for root in (tmp_path / "above" / "train", tmp_path / "below"):
        save(root / "__MACOSX" / "A" / "1.png", 1)
        save(root / "previews" / "1.png", 1)
        (root / "notes").mkdir()
    for root in (tmp_path / "above", tmp_path / "below"):
        assert conditions_of(root, "test") == [12, 13]
        said = " ".join(left_out(root))
        assert all(name in said for name in ("__MACOSX", "previews", "notes"))


def refused(root: Path, message: str, **arguments: object) -> None:
    with pytest.raises(DataError, match=message):
        load(str(root), "train", NOWHERE, **arguments)  # type: ignore[arg-type]


def test_pictures_without_a_partner_are_named(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / "A" / f"{k}.png", k)
        save(tmp_path / "B" / f"{k}.png", k)
    for k in range(5):
        save(tmp_path / "B" / f"lone{k}.png", k)
    refused(tmp_path, r"/B have no partner .* in A: lone0\.png, lone1\.png, lone2\.png, \.\.\.; add or remove")
    for k in range(5):
        (tmp_path / "B" / f"lone{k}.png").rename(tmp_path / "A" / f"lone{k}.png")
    refused(tmp_path, r"/A have no partner .* in B: lone0\.png")


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("A/1.png", "A/1.jpg", "B/1.png"):
        save(tmp_path / name, 1)
    refused(tmp_path, "have the same name; remove or rename")


def test_pairs_that_do_not_lie_on_each_other_are_refused(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / "A" / f"{k}.png", k, (4, 6))
        save(tmp_path / "B" / f"{k}.png", k, (4, 4))
    refused(tmp_path, r"0\.png and .*0\.png are of 4x6 and 4x4 pixels: resize one", image_size=4)


def test_pairs_of_several_sizes_need_to_be_resized(tmp_path: Path) -> None:
    for k in range(12):
        for side in "AB":
            save(tmp_path / "two" / side / f"{k}.png", k, (4 + k, 4 + k))
        save_joined(tmp_path / "one" / f"{k}.png", k, k, side=4 + k)
    for folder in ("two", "one"):
        refused(tmp_path / folder, "differ in size .*--image-size")
        data = load(str(tmp_path / folder), "train", NOWHERE, image_size=4)
        assert data.conditions is not None
        assert torch.equal(data.conditions, data.images)


def test_a_side_by_side_file_of_another_shape_is_named(tmp_path: Path) -> None:
    for k in range(3):
        save_joined(tmp_path / f"{k}.png", k, k)
    save(tmp_path / "odd.png", 9, (7, 4))
    refused(tmp_path, r"odd\.png is of 7x4 pixels, .* twice as wide as high; crop or remove", image_size=4)


def test_folders_of_pairs_without_pictures_are_refused(tmp_path: Path) -> None:
    for side in "AB":
        (tmp_path / "empty" / side).mkdir(parents=True)
        save(tmp_path / "half" / "train" / side / "1.png", 1)
    save(tmp_path / "half" / "test" / "A" / "1.png", 1)
    save(tmp_path / "below" / "A" / "train" / "1.png", 1)
    save(tmp_path / "below" / "A" / "test" / "1.png", 1)
    save(tmp_path / "below" / "B" / "train" / "1.png", 1)
    refused(tmp_path / "empty", "hold no images; put the two pictures of each pair there")
    for folder in ("half", "below"):
        with pytest.raises(DataError, match=r"B.* is missing"):
            load(str(tmp_path / folder), "test", NOWHERE)
    save_joined(tmp_path / "joined" / "train" / "1.png", 1, 1)
    save(tmp_path / "plain" / "train" / "1.png", 1)
    for folder in ("joined", "plain"):
        (tmp_path / folder / "test").mkdir()
        with pytest.raises(DataError, match="test holds no images"):
            load(str(tmp_path / folder), "test", NOWHERE)


def test_damaged_files_are_named_in_every_layout(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / "two" / "A" / f"{k}.png", k)
        save(tmp_path / "two" / "B" / f"{k}.png", k)
        save_joined(tmp_path / "one" / f"{k}.png", k, k)
    for path in ("two/B/1.png", "one/1.png"):
        (tmp_path / path).write_bytes((tmp_path / path).read_bytes()[:50])
        refused((tmp_path / path).parents[path.count("/") - 1], r"1\.png can't be used")


def test_only_pairs_can_be_turned_round(tmp_path: Path) -> None:
    for k in range(12):
        save(tmp_path / f"{k}.png", k)
    refused(tmp_path, "has no pairs that BtoA could turn round", direction="BtoA")
    refused(tmp_path, "must be one of AtoB, BtoA, got 'AB'", direction="AB")


def test_parts_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    save_joined(tmp_path / "train" / "1.png", 1, 2)
    save(tmp_path / "test" / "1.png", 1)  # no pair: only whoever asks for it hears of it
    parts = find_parts(tmp_path, size=None, channels=None)
    assert set(parts) == {"train", "test"}
    assert len(parts["train"]()) == 1
    with pytest.raises(DataError, match="twice as wide"):
        parts["test"]()
