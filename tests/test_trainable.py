"""What the service knows of trainings without the models: it is true, and refuses nothing that could be trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.data.catalog import DATASETS, read
from models.data.images import DataError
from models.data.kinds import Data, Kind
from models.systems.registry import VARIANTS, system_of
from models.training.configuration import TrainingError, choose, fit
from models.training.memory import figures_of
from models.training.offer import offer, offered_plans
from service.contract.data_facts import DataFacts, NoDataError, facts_of
from service.contract.trainable import Asked, RefusedError, Trainable
from tests.models.zoo import SHIPPED

FILE = Path(__file__).parent.parent / "service" / "contract" / "trainable.json"
TRAINABLE = Trainable.shipped()
_TRANSLATIONS_HAVE_NONE = ("training.spoiled", "training.matching", "training.outliers")
PRESETS = [(variant, preset) for variant, entry in SHIPPED.items() for preset in entry.presets]
FIRST = {(variant, next(iter(entry.presets))) for variant, entry in SHIPPED.items()}
"""One preset of each variant: what can be set is the variant's, a preset only bounds some of it."""
_VALUES = [-1, 1, 2.5, "fp32", None]
_ALL_VALUES = [*_VALUES, 0, 2, 3, 8, 0.0, 0.5, 1.0, True, "", 10**9]


def test_the_shipped_file_is_what_the_models_offer() -> None:
    assert json.loads(FILE.read_text()) == offer(SHIPPED), "run `make docs`"


def save(path: Path, size: tuple[int, int] = (28, 28), mode: str = "L", n: int = 12) -> None:
    path.mkdir(parents=True)
    for k in range(n):
        Image.new(mode, size, k).save(path / f"{k}.png")


def classes(root: Path) -> None:
    save(root / "a")
    save(root / "b")


def stray_classes(root: Path) -> None:
    classes(root)
    save(root / "__MACOSX" / "a")
    (root / "empty").mkdir()


def mixed_classes(root: Path) -> None:
    save(root / "a", (32, 32), "RGB")
    save(root / "b", (40, 32), "RGB")


def stray_pairs(root: Path) -> None:
    pairs(root)
    save(root / "previews", (64, 64))


def letters(root: Path) -> None:
    for name in "ABC":
        save(root / name)


def split_classes(root: Path) -> None:
    classes(root / "train")
    classes(root / "test")


def colour_classes(root: Path) -> None:
    save(root / "a", (32, 32), "RGB")
    save(root / "b", (32, 32), "L")


def plain(root: Path) -> None:
    save(root, (64, 64), "RGB")


def odd(root: Path) -> None:
    save(root, (27, 27))


def oblong(root: Path) -> None:
    save(root, (64, 80), "RGB")


def pairs(root: Path) -> None:
    save(root / "A", (64, 64))
    save(root / "B", (64, 64), "RGB")


def split_pairs(root: Path) -> None:
    for side in "AB":
        for part in ("train", "test"):
            save(root / side / part, (64, 64), "RGB")


def joined(root: Path) -> None:
    save(root, (128, 64), "RGB")


def domains(root: Path) -> None:
    save(root / "trainA", (32, 32), "RGB")
    save(root / "trainB", (32, 32), "RGB")


def archive(root: Path) -> None:
    np.savez(root.with_suffix(".npz"), images=np.zeros((12, 28, 28), np.uint8), labels=np.arange(12) % 2)


def colour_archive(root: Path) -> None:
    pixels = np.zeros((12, 64, 64, 3), np.uint8)
    np.savez(root.with_suffix(".npz"), x_train=pixels, x_test=pixels)


def archive_of_pairs(root: Path) -> None:
    pixels = np.zeros((12, 3, 64, 64), np.uint8)
    np.savez_compressed(root.with_suffix(".npz"), images=pixels, conditions=pixels[:, :1])


EXPECTED: dict[Callable[[Path], None], DataFacts] = {
    classes: DataFacts(size=(28, 28), labels=True, pairs=False, domains=False),
    stray_classes: DataFacts(size=(28, 28), labels=True, pairs=False, domains=False),
    mixed_classes: DataFacts(channels=3, mixed=True, labels=True, pairs=False, domains=False),
    stray_pairs: DataFacts(channels=3, size=(64, 64), labels=False, pairs=True, domains=False),
    letters: DataFacts(size=(28, 28), labels=True, pairs=False, domains=False),
    split_classes: DataFacts(size=(28, 28), labels=True, pairs=False, domains=False),
    colour_classes: DataFacts(channels=3, size=(32, 32), labels=True, pairs=False, domains=False),
    plain: DataFacts(channels=3, size=(64, 64), labels=False, pairs=False, domains=False),
    odd: DataFacts(size=(27, 27), labels=False, pairs=False, domains=False),
    oblong: DataFacts(channels=3, size=(64, 80), labels=False, pairs=False, domains=False),
    pairs: DataFacts(channels=3, size=(64, 64), labels=False, pairs=True, domains=False),
    split_pairs: DataFacts(channels=3, size=(64, 64), labels=False, pairs=True, domains=False),
    joined: DataFacts(channels=3, size=(64, 64), labels=False, pairs=True, domains=False),
    domains: DataFacts(size=(32, 32), labels=False, pairs=False, domains=True),
    archive: DataFacts(channels=1, size=(28, 28), labels=True, pairs=False, domains=False),
    colour_archive: DataFacts(channels=3, size=(64, 64), labels=False, pairs=False, domains=False),
    archive_of_pairs: DataFacts(channels=3, size=(64, 64), labels=False, pairs=True, domains=False),
}


def made(make: Callable[[Path], None], folder: Path) -> Path:
    make(folder / "mine")
    return next(path for path in (folder / "mine", folder / "mine.npz") if path.exists())


@pytest.mark.parametrize("make", EXPECTED, ids=lambda make: make.__name__)
def test_a_look_from_outside_tells_what_data_are(make: Callable[[Path], None], tmp_path: Path) -> None:
    assert facts_of(made(make, tmp_path)) == EXPECTED[make]


_GREY = ("1x", "needs images in colour")
"""Words of a trainer that refuses grey images."""


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
@pytest.mark.parametrize("make", EXPECTED, ids=lambda make: make.__name__)
def test_the_same_data_are_refused_as_the_models_refuse(
    make: Callable[[Path], None], direction: Any, tmp_path: Path
) -> None:
    """Both ways: what the service lets pass can be trained on, what it refuses can't."""
    path = made(make, tmp_path)
    facts = facts_of(path)

    @cache
    def data(kind: Kind) -> Data | DataError:
        try:
            return read(kind, str(path), "train", tmp_path, direction=direction)
        except DataError as error:
            return error

    found: dict[tuple[str, str], str | None] = {}
    expected: dict[tuple[str, str], str | None] = {}
    for variant, preset in PRESETS:
        key, entry = (variant, preset), VARIANTS[variant]
        given = data(entry.data)
        try:
            expected[key] = str(given) if isinstance(given, DataError) else None
            if not isinstance(given, DataError):
                fit(variant, entry.presets[preset], given)
        except (TrainingError, DataError) as error:
            expected[key] = str(error)
        try:
            TRAINABLE.check_data(system_of(variant), preset, [], "mine", facts, direction)
            found[key] = None
        except RefusedError as error:
            found[key] = str(error)
    wrong = {p: (found[p], expected[p]) for p in found if (found[p] is None) != (expected[p] is None)}
    # Only a trainer, which reads all pictures, knows that all of them are grey, and what the conditions of pairs are.
    if EXPECTED[make].channels is None or direction == "BtoA":
        wrong = {p: why for p, why in wrong.items() if not any(words in str(why[1]) for words in _GREY)}
    assert wrong == {}


@pytest.mark.parametrize(("variant", "preset"), PRESETS)
def test_settings_are_checked_as_the_configuration_checks_them(variant: str, preset: str) -> None:
    system = system_of(variant)
    known = TRAINABLE.systems[system].settings[variant]
    values = _ALL_VALUES if (variant, preset) in FIRST else _VALUES
    for path in known:
        if "." not in path:
            continue  # what a model is made for: its parts must fit together
        for value in values:
            try:
                choose(variant, preset, {path: value})
                expected = None
            except TrainingError as error:
                expected = str(error)
            try:
                TRAINABLE.check_settings(system, preset, [Asked(("overrides", path), path, value)])
                found = None
            except RefusedError as error:
                found = str(error)
            if path in _TRANSLATIONS_HAVE_NONE and preset in ("small-translate", "paper-i2i-256") and found is None:
                continue  # a number that one preset bounds more than its schema does: only whole ones are looked for
            assert found == expected, (path, value)


def test_every_preset_has_figures_of_its_memory() -> None:
    found = {system: set(presets) for system, presets in TRAINABLE.memory.items()}
    assert found == {system: set(entry.presets) for system, entry in TRAINABLE.systems.items()}, "run `make memory`"
    for system, preset, plan in offered_plans(SHIPPED):
        if preset in ("small", "small-translate"):
            assert TRAINABLE.memory[system][preset].model_dump() == figures_of(plan), "run `make memory`"


def test_memory_is_checked_with_the_batch_that_is_asked_for() -> None:
    need = TRAINABLE.memory["ccoopnets"]["small"]
    enough = need.fixed + need.row * 100
    for rows, asked in ((need.batch, []), (100, [100])):
        settings = [Asked(("batch_size",), "training.batch_size", value) for value in asked]
        TRAINABLE.check_memory("ccoopnets", "small", settings, enough)
        with pytest.raises(RefusedError, match=f"with {rows} images a batch .* may take 0.1 GiB"):
            TRAINABLE.check_memory("ccoopnets", "small", settings, need.fixed)


def test_known_data_are_as_their_readers_say(tmp_path: Path) -> None:
    assert TRAINABLE.data.keys() == DATASETS.keys()
    assert {name for name, known in TRAINABLE.data.items() if known.labels} == {"fashion-mnist", "digits", "primitives"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_what_can_not_be_read_is_unknown(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(content)
    assert facts_of(tmp_path / "mine.npz") == DataFacts()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.png").write_bytes(content)
    assert facts_of(tmp_path / "one") == DataFacts()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="holds no images"):
        facts_of(tmp_path)


@pytest.mark.parametrize(
    ("facts", "preset", "ways"),
    [
        (DataFacts(channels=1, size=(27, 27), labels=True, pairs=False), "small", [{"image_size": 28}]),
        (
            DataFacts(channels=3, size=(80, 70), labels=False, pairs=False),
            "small",
            [{"preset": "small-inpaint", "image_size": 64}],
        ),
        (DataFacts(channels=3, size=(64, 64), labels=True, pairs=False), "small-inpaint", []),
        (
            DataFacts(channels=3, mixed=True, labels=True, pairs=False),
            "small",
            [{"image_size": 28, "channels": 1}, {"preset": "small-colour", "image_size": 32}],
        ),
    ],
)
def test_a_refusal_names_what_would_make_the_data_fit(facts: DataFacts, preset: str, ways: list[Any]) -> None:
    found: list[Any] = []
    try:
        TRAINABLE.check_data("ccoopnets", preset, [], "mine", facts, "AtoB")
    except RefusedError as error:
        found = [*error.ways_out]
    assert found == ways
