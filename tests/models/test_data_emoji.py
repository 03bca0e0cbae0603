"""Emoji in two styles: what is a family, what is held out, and how the packages' pictures become aligned arrays."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.data.catalog import DATASETS, load, load_domains
from models.data.images import DataError
from models.data.sets.emoji import HELD_OUT, Picture, draw, family, pictures_of
from models.data.splits import SPLITS


def glyph(codes: str, subcategory: str = "tool", *, order: int = 0, tones: int = 0, **there: bool) -> dict[str, Any]:
    known = {"has_img_google": True, "has_img_twitter": True, **there}

    def form(codes: str) -> dict[str, Any]:
        return {"unified": codes, "image": f"{codes.lower()}.png", **known}

    skins = {f"1F3F{end}": form(f"{codes}-1F3F{end}") for end in "BCDEF"[:tones]}
    fields = {**form(codes), "short_name": f"name-{codes}", "subcategory": subcategory, "sort_order": order}
    return {**fields, "skin_variations": skins} if tones else fields


@pytest.mark.parametrize(
    ("name", "subgroup", "codes"),
    [
        ("person-1F373", "person-role", ["1F9D1-200D-1F373", "1F468-200D-1F373", "1F469-200D-1F373"]),
        ("1F575", "person-role", ["1F575-FE0F", "1F575-FE0F-200D-2642-FE0F", "1F575-FE0F-200D-2640-FE0F"]),
        ("1F6B6", "person-activity", ["1F6B6", "1F6B6-200D-2640-FE0F-200D-27A1-FE0F"]),
        ("person", "person", ["1F468", "1F469-200D-1F9B0", "1F9D4-200D-2642-FE0F"]),
        ("family", "family", ["1F468-200D-1F466", "1F491", "1F46D"]),
        ("time", "time", ["1F550", "1F567", "231A"]),
        ("1F1F3-1F1F4", "country-flag", ["1F1F3-1F1F4", "1F1E7-1F1FB", "1F1F8-1F1EF"]),
        ("2640-FE0F", "gender", ["2640-FE0F"]),  # a sign that tells variants is a drawing when it is alone
    ],
)
def test_variants_of_a_drawing_are_one_family(name: str, subgroup: str, codes: list[str]) -> None:
    assert {family(code, subgroup) for code in codes} == {name}


def test_other_drawings_are_other_families() -> None:
    codes = ["1F9D1-200D-1F373", "1F9D1-200D-1F33E", "1F44B", "1F44F", "1F1F3-1F1F1", "1F1F3-1F1F4"]
    assert len({family(code, "any") for code in codes}) == len(codes)


def test_pictures_come_in_order_with_their_skin_tones_where_both_styles_have_them() -> None:
    glyphs = [
        glyph("1F44F", "hands", order=2, tones=2),
        glyph("1F40D", "animal-reptile", order=1),
        glyph("1F40E", order=0, has_img_twitter=False),
        glyph("1F40F", order=3, has_img_google=False),
    ]
    assert pictures_of(glyphs) == [
        Picture("1F40D", "name-1F40D", "animal-reptile", "1F40D", "1f40d.png"),
        Picture("1F44F", "name-1F44F", "hands", "1F44F", "1f44f.png"),
        Picture("1F44F-1F3FB", "name-1F44F", "hands", "1F44F", "1f44f-1f3fb.png"),
        Picture("1F44F-1F3FC", "name-1F44F", "hands", "1F44F", "1f44f-1f3fc.png"),
    ]


def many(sizes: list[int]) -> list[Picture]:
    """Families of these sizes."""
    return [Picture(f"{k}-{i}", "", "", f"family-{k:04}", "") for k, size in enumerate(sizes) for i in range(size)]


def test_whole_families_are_held_out_in_exact_numbers() -> None:
    pictures = many([1] * 1_000 + [6] * 150 + [18] * 50 + [19] * 10)
    splits = draw(pictures)
    assert {split: splits.count(split) for split in HELD_OUT} == {"test": 378, "valid": 341} == HELD_OUT
    homes: dict[str, set[str]] = {}
    for picture, split in zip(pictures, splits, strict=True):
        homes.setdefault(picture.family, set()).add(split)
    assert all(len(home) == 1 for home in homes.values())
    large = [split for picture, split in zip(pictures, splits, strict=True) if picture.family >= "family-1200"]
    assert set(large) == {"train"}
    assert len(large) == 190


def test_the_draw_is_fixed_and_does_not_depend_on_the_order() -> None:
    pictures = many([1, 2, 3] * 400)
    splits = dict(zip(pictures, draw(pictures), strict=True))
    assert draw(pictures[::-1]) == [splits[picture] for picture in pictures[::-1]]
    held_out = sorted({picture.family for picture, split in splits.items() if split == "test"})
    assert held_out[:3] == ["family-0001", "family-0005", "family-0008"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight hundred emoji as the packages have them: Twemoji in grey k, Noto in colour k on a transparent ground."""
    top = tmp_path_factory.mktemp("emoji")
    glyphs = [glyph(f"{0x20000 + k:X}", order=k) for k in range(800)]
    for side in ("twitter", "google"):
        folder = top / "packages" / side / "img" / side / "64"
        folder.mkdir(parents=True)
        (top / "packages" / side / "emoji.json").write_text(json.dumps(glyphs))
        for k in range(800):
            pixels = [(k // 4, k % 4, 0, 255), (9, 9, 9, 0)] if side == "google" else [(k // 4, k % 4), (0, 255)]
            picture = Image.new("RGBA" if side == "google" else "RGB", (2, 1))
            picture.putdata([pixel if side == "google" else (*pixel, 7) for pixel in pixels])  # type: ignore[arg-type]
            picture.save(folder / f"{0x20000 + k:x}.png")
    (top / "emoji").mkdir()
    DATASETS["emoji"].prepare(top / "packages", top / "emoji")
    return top


def numbers(pixels: torch.Tensor) -> list[int]:
    """Which emoji each picture shows."""
    return (pixels[:, 0, 0, 0].int() * 4 + pixels[:, 1, 0, 0].int()).tolist()


def test_the_packages_become_aligned_arrays_on_white(root: Path) -> None:
    parts = {split: load("emoji", split, root) for split in SPLITS}
    assert {split: len(part) for split, part in parts.items()} == {"train": 81, "valid": 341, "test": 378}
    shown = []
    for part in parts.values():
        assert part.conditions is not None
        assert part.shape == (3, 1, 2)
        assert part.conditions[0, 2, 0, 0] == 7  # A is Twemoji
        assert part.images[:, :, 0, 1].unique().tolist() == [255]  # what is transparent in B, Noto
        assert numbers(part.conditions) == numbers(part.images) == sorted(numbers(part.images))
        shown += numbers(part.images)
    assert sorted(shown) == list(range(800))


def test_names_are_kept_beside_the_pictures(root: Path) -> None:
    with np.load(root / "emoji" / "emoji.npz") as archive:
        for split in SPLITS:
            at = numbers(load("emoji", split, root).images)
            assert archive[f"id_{split}"].tolist() == [f"{0x20000 + k:X}" for k in at]
            assert archive[f"name_{split}"].tolist() == [f"name-{0x20000 + k:X}" for k in at]
            assert set(archive[f"subgroup_{split}"]) == {"tool"}
            assert archive[f"family_{split}"].tolist() == archive[f"id_{split}"].tolist()


def test_domains_lose_their_pairing_but_for_the_held_out_pairs(root: Path) -> None:
    train, test = (load_domains("emoji", split, root) for split in ("train", "test"))  # type: ignore[arg-type]
    source, target = numbers(train.source.images), numbers(train.target.images)
    assert sorted(source) == sorted(target) == numbers(load("emoji", "train", root).images)
    assert sum(a == b for a, b in zip(source, target, strict=True)) < 8  # 1 is expected of two random orders
    assert not train.paired
    with pytest.raises(DataError, match="no true pairs"):
        train.pairs()
    assert test.pairs().sha256() == load("emoji", "test", root).sha256()


def test_disjoint_domains_share_no_emoji(root: Path) -> None:
    data = load_domains("emoji", "train", root, disjoint=True)
    source, target = set(numbers(data.source.images)), set(numbers(data.target.images))
    assert (len(source), len(target)) == (40, 41)
    assert not source & target
    assert data.name == "emoji/train/disjoint"
    assert len(load_domains("emoji", "test", root, disjoint=True).pairs()) == 378


def test_the_way_back_is_the_same_data_turned_round(root: Path) -> None:
    for split in SPLITS:
        there = load_domains("emoji", split, root, image_size=1)
        back = load_domains("emoji", split, root, image_size=1, direction="BtoA")
        assert back.sha256() == there.reversed().sha256() != there.sha256()
        assert (there.shape, back.name) == ((3, 1, 1), f"emoji/{split}/BtoA")
