"""The sets that are made from packages: rendering, conversion and what is held out, on packages made up here."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data.catalog import DATASETS, load
from models.data.sets import fluent, noto
from models.data.splits import SPLITS

SQUARE = '<path fill="{}" d="M8 8h16v16H8z"/>'
COLOURS = {"man-cook": "#ff0000", "egg": "#00ff00", "crab": "#0000ff"}


def write_icons(path: Path, fills: Mapping[str, str], **of_one: object) -> None:
    path.parent.mkdir(parents=True)
    icons = {name: {"body": SQUARE.format(fill)} for name, fill in fills.items()}
    icons["tall"] = {"body": SQUARE.format("#000"), **of_one}
    path.write_text(json.dumps({"width": 32, "height": 32, "icons": icons}))


@pytest.fixture
def fluent_root(tmp_path: Path) -> Path:
    package, root = tmp_path / "package", tmp_path / "data"
    write_icons(package / "flat" / "icons.json", {**COLOURS, "only-flat": "#123456"}, height=40)
    write_icons(package / "high-contrast" / "icons.json", dict.fromkeys(COLOURS, "currentColor"), height=40)
    (root / "fluent").mkdir(parents=True)
    DATASETS["fluent"].prepare(package, root / "fluent")
    return root


def test_fluent_renders_line_art_and_colour_on_white(fluent_root: Path) -> None:
    assert (DATASETS["fluent"].shape, DATASETS["fluent"].pairs) == ((3, 64, 64), True)
    for split, name, colour in (("test", "egg", [0, 255, 0]), ("valid", "crab", [0, 0, 255])):
        data = load("fluent", split, fluent_root)  # type: ignore[arg-type]
        assert fluent.split_of(name) == split
        assert data.conditions is not None
        assert (data.labels, data.classes, len(data)) == (None, (), 1)
        assert (data.shape, data.conditions.shape) == ((3, 64, 64), (1, 1, 64, 64))
        assert data.images[0, :, 32, 32].tolist() == colour
        assert data.images[0, :, 2, 2].tolist() == [255, 255, 255]
        assert data.conditions[0, 0, 32, 32] == 0
        assert data.conditions[0, 0, 2, 2] == 255
        # 16 of 32 units are 32 of 64 pixels.
        assert (data.conditions < 128).sum() == 32 * 32


def test_fluent_keeps_the_names_and_fits_icons_of_other_shapes(fluent_root: Path) -> None:
    with np.load(fluent_root / "fluent" / "fluent.npz") as archive:
        assert archive["names_train"].tolist() == ["man-cook", "tall"]
    tall = load("fluent", "train", fluent_root).images[1]
    assert (tall[0] < 128).sum() == pytest.approx((16 * 64 / 40) ** 2, rel=0.1)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("cook", ["cook", "man-cook", "woman-cook"]),
        ("heart", ["heart-suit", "red-heart", "black-heart"]),
        ("oclock", ["one-oclock", "twelve-oclock"]),
        ("place", ["1st-place-medal", "3rd-place-medal"]),
        ("square", ["white-small-square", "black-large-square", "blue-square"]),
        ("man", ["man"]),
    ],
)
def test_variants_of_a_drawing_are_one_family(family: str, names: list[str]) -> None:
    assert {fluent.family(name) for name in names} == {family}
    assert len({fluent.split_of(name) for name in names}) == 1


def glyph(name: str, subcategory: str, order: int, *, tones: int = 0, there: bool = True) -> dict[str, object]:
    forms = {f"1F3F{k}": {"image": f"{name}-{k}.png", "has_img_google": k != 4} for k in range(tones)}
    fields = {"image": f"{name}.png", "subcategory": subcategory, "sort_order": order, "has_img_google": there}
    return {**fields, "skin_variations": forms} if tones else fields


def test_noto_holds_out_base_glyphs_of_whole_subcategories(tmp_path: Path) -> None:
    pictures = tmp_path / "package" / "img" / "google" / "64"
    pictures.mkdir(parents=True)
    glyphs = [
        glyph("wave", "hand-fingers-open", 3, tones=5),
        glyph("clap", "hands", 2, tones=5),
        glyph("ok", "hand-fingers-partial", 1, tones=5),
        glyph("smile", "face-hat", 0),
        glyph("gone", "face-hat", 4, there=False),
    ]
    for name in ("wave", "clap", "ok", "smile"):
        for form in (name, *(f"{name}-{k}" for k in range(5))):
            Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(pictures / f"{form}.png")
    Image.new("LA", (64, 64), (40, 255)).save(pictures / "ok.png")
    Image.new("P", (64, 64)).save(pictures / "smile.png")
    (tmp_path / "package" / "emoji.json").write_text(json.dumps(glyphs))
    (tmp_path / "noto").mkdir()
    DATASETS["noto"].prepare(tmp_path / "package", tmp_path / "noto")

    with np.load(tmp_path / "noto" / "noto.npz") as archive:
        names = {split: archive[f"names_{split}"].tolist() for split in SPLITS}
    assert names == {
        "train": ["smile", "wave", "wave-0", "wave-1", "wave-2", "wave-3"],
        "valid": ["clap"],
        "test": ["ok"],
    }
    parts = {split: load("noto", split, tmp_path) for split in SPLITS}
    assert all(part.shape == (3, 64, 64) and part.labels is None for part in parts.values())
    assert parts["test"].images.unique().tolist() == [40]
    assert parts["valid"].images.unique().tolist() == [255]  # transparent
    assert [len(part) for part in parts.values()] == [6, 1, 1]


def test_no_subcategory_of_noto_is_held_out_twice() -> None:
    valid, test = (noto.HELD_OUT[split] for split in ("valid", "test"))
    assert not valid & test
    assert noto.split_of("hands") == "valid"
    assert noto.split_of("drink") == "test"
    assert noto.split_of("country-flag") == "train"
