"""The readers: IDX, npz and class folders, with good and bad files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from layouts.idx import find_idx
from models.data.catalog import load
from models.data.idx import read_idx, read_idx_pair
from models.data.images import DataError, ImageData
from models.data.npz import read_npz, unused_classes
from models.data.own import find_parts, left_out
from models.data.summary import summary

PIXELS: NDArray[np.uint8] = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
LABELS: NDArray[np.uint8] = np.array([0, 2, 1, 2], np.uint8)


def read_folders(root: Path, *, size: int | None = None, channels: int | None = None) -> ImageData:
    return find_parts(root, size=size, channels=channels)[""]()


def read_idx_of(folder: Path) -> ImageData:
    return find_parts(folder, size=None, channels=None)["train"]()


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_pairs_are_read_plain_and_gzipped(tmp_path: Path, suffix: str) -> None:
    pack = gzip.compress if suffix else bytes
    (tmp_path / f"train-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(PIXELS)))
    (tmp_path / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(LABELS)))
    data = read_idx_of(tmp_path)
    assert torch.equal(data.images, torch.from_numpy(PIXELS)[:, None])
    assert data.labels is not None
    assert data.labels.tolist() == [0, 2, 1, 2]
    assert data.classes == ("0", "1", "2")
    files = find_idx(tmp_path)["train"]
    assert read_idx_pair(files, "mine", torch.arange(4), ["w", "x", "y", "z"]).classes == ("w", "x", "y", "z")


@pytest.mark.parametrize(
    "names",
    [
        "{part}-{what}.idx{n}-ubyte",
        "{part}-{what}-idx{n}-ubyte",
        "emnist-letters-{part}-{what}-idx{n}-ubyte.gz",
        "{part}-{what}-IDX{n}-UBYTE",
    ],
)
def test_idx_files_are_found_by_all_their_names_and_labels_may_begin_at_1(tmp_path: Path, names: str) -> None:
    pack = gzip.compress if names.endswith(".gz") else bytes
    for part, labels in (("train", LABELS + 1), ("t10k" if "emnist" not in names else "test", LABELS[1:3] + 1)):
        for what, n, array in (("images", 3, PIXELS[: len(labels)]), ("labels", 1, labels)):
            (tmp_path / names.format(part=part, what=what, n=n)).write_bytes(pack(idx_bytes(array)))
    parts = find_parts(tmp_path, size=None, channels=None)
    train, test = parts["train"](), parts["test"]()
    assert train.classes == test.classes == ("1", "2", "3")  # no class 0, which nobody ever saw
    assert train.labels is not None
    assert test.labels is not None
    assert train.labels.tolist() == [0, 2, 1, 2]
    assert test.labels.tolist() == [2, 1]


def test_labels_of_the_test_that_training_never_saw_and_two_sets_of_idx_files_are_refused(tmp_path: Path) -> None:
    for part, labels in (("train", LABELS), ("t10k", LABELS + 7)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(PIXELS))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    with pytest.raises(DataError, match="labels that the training images have not: 7, 8, 9"):
        find_parts(tmp_path, size=None, channels=None)["test"]()
    (tmp_path / "emnist-letters-train-images-idx3-ubyte").write_bytes(idx_bytes(PIXELS))
    with pytest.raises(DataError, match=r"several sets of IDX files \(one without a name, emnist-letters\)"):
        find_parts(tmp_path, size=None, channels=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "two zero bytes"),
        (b"PNG, perhaps", "two zero bytes"),
        (b"\0\0\x0d\x01" + bytes(8), "type 0x0d"),
        (b"\0\0\x08\x03\0\0", "within its header"),
        (idx_bytes(PIXELS)[:-1], "fewer bytes"),
        (idx_bytes(PIXELS) + b"x", "more bytes"),
    ],
)
def test_bad_idx_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


@pytest.mark.parametrize("content", [gzip.compress(idx_bytes(PIXELS), mtime=0)[:-9], b"not gzip at all", b""])
def test_damaged_gzip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"file\.gz"):
        read_idx(path)


def test_idx_files_that_do_not_match_or_miss_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        read_idx(tmp_path / "nowhere")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(PIXELS))
    with pytest.raises(DataError, match="add the file of the labels"):
        read_idx_of(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:3]))
    with pytest.raises(DataError, match="don't match"):
        read_idx_of(tmp_path)


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y")])
def test_npz_with_one_set(tmp_path: Path, keys: tuple[str, str]) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **{keys[0]: PIXELS, keys[1]: LABELS}, classes=np.array(["a", "b", "c"]))  # type: ignore[arg-type]
    data = read_npz(path)[""]
    assert torch.equal(data.images, torch.from_numpy(PIXELS)[:, None])
    assert data.labels is not None
    assert data.labels.tolist() == [0, 2, 1, 2]
    assert data.classes == ("a", "b", "c")
    assert data.name == "mine"


def test_npz_with_splits_shares_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:1], y_test=LABELS[:1])
    parts = read_npz(path)
    assert set(parts) == {"train", "test"}
    assert parts["train"].classes == parts["test"].classes == ("0", "1", "2")


def test_npz_images_may_be_colour_in_either_order_and_without_labels(tmp_path: Path) -> None:
    colour = np.random.RandomState(0).randint(0, 256, (5, 6, 7, 3)).astype(np.uint8)
    np.savez(tmp_path / "last.npz", images=colour)
    np.savez(tmp_path / "first.npz", images=colour.transpose(0, 3, 1, 2))
    last, first = (read_npz(tmp_path / name)[""] for name in ("last.npz", "first.npz"))
    assert last.shape == (3, 6, 7)
    assert torch.equal(last.images, first.images)
    assert last.labels is None
    assert last.classes == ()


def test_npz_with_conditions(tmp_path: Path) -> None:
    colour = np.random.RandomState(0).randint(0, 256, (4, 3, 3, 2)).astype(np.uint8)
    np.savez(tmp_path / "pairs.npz", images_train=PIXELS, conditions_train=colour, names_train=np.array(list("abcd")))
    data = read_npz(tmp_path / "pairs.npz")["train"]
    assert data.conditions is not None
    assert torch.equal(data.conditions, torch.from_numpy(colour))
    assert data.labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": PIXELS}, "must hold images"),
        ({"images": PIXELS.astype(np.float32)}, "must be uint8"),
        ({"images": PIXELS[0]}, r"must be \[N"),
        ({"images": PIXELS, "labels": LABELS[:2]}, "one an image"),
        ({"images": PIXELS, "labels": LABELS.astype(np.float32)}, "whole numbers"),
        ({"images": PIXELS, "labels": LABELS, "classes": np.array(["a"])}, r"found 0\.\.2"),
        ({"images_train": PIXELS, "labels_train": LABELS, "images_test": PIXELS}, "in pairs"),
        ({"images": PIXELS, "labels": np.array([{}, 1, 2, 3], dtype=object)}, "without pickled objects"),
        (
            {"images_train": PIXELS, "labels_train": LABELS, "images_test": PIXELS, "labels_test": LABELS + 1},
            "labels that the training images have not: 3",
        ),
        ({"images_train": PIXELS, "images_test": PIXELS, "conditions_train": PIXELS}, "images and conditions"),
        ({"images": PIXELS, "conditions": PIXELS[:2]}, "must match"),
        ({"images": PIXELS, "conditions": PIXELS.astype(np.float32)}, "conditions must be uint8"),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, "not empty"),
    ],
)
def test_bad_npz_arrays_are_refused(tmp_path: Path, arrays: dict[str, NDArray[np.uint8]], message: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        read_npz(path)


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, images=PIXELS)
    whole = path.read_bytes()
    lone = tmp_path / "lone.npy"
    np.save(lone, PIXELS)
    for content in (b"", b"words", whole[: len(whole) // 2], whole[:60] + b"\xff" * 30 + whole[90:], lone.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.npz"):
            read_npz(path)
    with pytest.raises(DataError, match="missing"):
        read_npz(tmp_path / "nowhere.npz")


def save(path: Path, colour: object, size: tuple[int, int] = (4, 4), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)  # type: ignore[arg-type]


def test_class_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    save(tmp_path / "shoe" / "1.png", 10)
    save(tmp_path / "bag" / "2.png", 20)
    save(tmp_path / "bag" / "1.PNG", 30)
    save(tmp_path / ".hidden" / "1.png", 40)
    (tmp_path / "bag" / "notes.txt").write_text("no image")
    (tmp_path / "readme.md").write_text("no class")
    data = read_folders(tmp_path)
    assert data.classes == ("bag", "shoe")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]
    assert data.images[:, 0, 0, 0].tolist() == [30, 20, 10]
    assert data.shape == (1, 4, 4)


def test_one_colour_file_makes_the_set_colour_and_transparent_pixels_white(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", 10)
    save(tmp_path / "a" / "2.webp", (255, 0, 0), mode="RGB")
    save(tmp_path / "a" / "3.png", (9, 9, 9, 0), mode="RGBA")
    save(tmp_path / "a" / "4.png", (9, 0), mode="LA")
    data = read_folders(tmp_path)
    assert data.shape == (3, 4, 4)
    assert data.images[0, :, 0, 0].tolist() == [10, 10, 10]
    assert data.images[1, :, 0, 0].tolist() == pytest.approx([255, 0, 0], abs=2)
    assert data.images[2:].min() == 255
    assert read_folders(tmp_path, channels=1).shape == (1, 4, 4)


def test_several_sizes_need_to_be_resized(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", 50)
    save(tmp_path / "a" / "2.jpg", 50, size=(9, 6))
    with pytest.raises(DataError, match=r"4x4 and 9x6 pixels .*2\.jpg.*--image-size"):
        read_folders(tmp_path)
    data = read_folders(tmp_path, size=8)
    assert data.shape == (1, 8, 8)
    assert (data.images == 50).all()


def test_bad_image_files_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", 50)
    whole = (tmp_path / "a" / "1.png").read_bytes()
    bad = tmp_path / "a" / "2.png"
    for content in (b"", b"words", whole[:50], whole[:45] + b"\0" + whole[46:]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"2\.png can't be used"):
            read_folders(tmp_path)


def test_folders_without_images_are_refused_with_what_is_there_instead(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one folder a class"):
        read_folders(tmp_path)
    with pytest.raises(DataError, match="no data called"):
        load(str(tmp_path / "nowhere"), "train", tmp_path)
    save(tmp_path / "a" / "deeper" / "1.png", 50)
    save(tmp_path / "b" / "1.bmp", 50)
    with pytest.raises(DataError, match=r"holds no images; .*other formats.*: b/1\.bmp.*move their pictures up: a"):
        read_folders(tmp_path)


def test_a_class_that_the_training_images_lack_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a" / "1.png", 50)
    save(tmp_path / "test" / "a" / "1.png", 50)
    save(tmp_path / "test" / "b" / "1.png", 50)
    with pytest.raises(DataError, match="training split has not: b"):
        load(str(tmp_path), "test", tmp_path)


def test_a_class_whose_images_are_all_held_out_is_refused_and_never_served(tmp_path: Path) -> None:
    for name in "abcdefghij":
        save(tmp_path / name / "1.png", 200)
    with pytest.raises(DataError, match=r"no image to learn from of the classes [a-j], [a-j], as some .*; add images"):
        load(str(tmp_path), "train", tmp_path)


def test_empty_classes_are_no_classes_and_everything_left_out_is_told(tmp_path: Path) -> None:
    for name in ("cat", "été"):
        for k in range(10):
            save(tmp_path / name / f"{k}.png", k)
    save(tmp_path / "cat" / "11.JPG", 1)
    save(tmp_path / "cat" / "old.bmp", 1)
    save(tmp_path / "cat" / "more" / "1.png", 1)
    save(tmp_path / "bird" / "scan.tif", 1)
    save(tmp_path / "loose.png", 1)
    save(tmp_path / "__MACOSX" / "cat" / "._1.png", 1)
    save(tmp_path / "@eaDir" / "1.png", 1)
    save(tmp_path / "cat" / ".hidden.png", 1)
    (tmp_path / "fish").mkdir()
    (tmp_path / "cat" / "README").write_text("no ending")
    (tmp_path / "cat" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    data = load(str(tmp_path), "train", tmp_path)
    assert data.classes == ("cat", "été")
    assert left_out(tmp_path) == [
        "left out: 2 of pictures in other formats; convert them to PNG, JPEG or WebP: bird/scan.tif, cat/old.bmp",
        "left out: 1 of files that are no pictures by their ending: cat/README",
        "left out: 2 of folders without pictures: bird, fish",
        "left out: 1 of folders below those that are read; move their pictures up: cat/more",
        "left out: 1 of what lies beside the folders that are read: loose.png",
        "left out: 1 of hidden files and folders: cat/.hidden.png",
        "left out: 2 of files and folders that belong to other programs: @eaDir, __MACOSX",
        "left out: 1 of links that lead nowhere: cat/lost.png",
    ]
    assert summary(data).startswith(f"{tmp_path.name}/train: 17 images to learn from, 4x4 pixels, grey; 2 classes: cat")


def test_links_that_lead_back_are_not_followed_for_ever(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name / "1.png", 1)
        for link in ("one", "two", "three"):
            (tmp_path / "empty").mkdir(exist_ok=True)
            (tmp_path / "empty" / f"{link}-{name}").symlink_to(tmp_path / "empty")
    assert read_folders(tmp_path).classes == ("a", "b")
    assert left_out(tmp_path) == ["left out: 1 of folders without pictures: empty"]


def test_a_class_of_an_archive_without_images_is_none_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    names = np.array(["zero", "one", "two", "three"])
    np.savez(path, images=PIXELS, labels=LABELS + 1, classes=names)
    data = read_npz(path)[""]
    assert data.classes == ("one", "two", "three")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 2, 1, 2]
    assert unused_classes(path) == ["zero"]
    assert left_out(path) == ["left out: classes without an image to learn from: zero"]


def test_names_of_classes_are_written_in_one_way(tmp_path: Path) -> None:
    save(tmp_path / "e\u0301te\u0301" / "1.png", 1)  # as an archive of macOS has it
    save(tmp_path / "b" / "1.png", 1)
    assert read_folders(tmp_path).classes == ("b", "été")
