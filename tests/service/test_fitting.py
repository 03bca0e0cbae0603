"""Pictures of a request fitted to its model before its job is accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pictures.framing import Frame
from service.contract.cards import ModelCard
from service.contract.errors import UnprocessableError
from service.contract.jobs import TASKS
from service.pictures.fitting import BASE, HIDDEN, Fitted, fit
from tests.hostile.corpus import noise
from tests.service.fakes import cards

CARDS = {content["name"]: ModelCard.model_validate(content) for content in cards()}
WIDE = (60, 20)
SIDES = st.integers(1, 80)


def fitted(task: str, model: str, given: dict[str, Image.Image], **fields: Any) -> Fitted:
    refs = {name: name for name in given}
    request, _ = TASKS[task].model_validate({"model": model, "seed": 1, **refs, **fields}).resolve(CARDS[model])
    return fit(request, CARDS[model], given, 10**6)


def hole(*box: int, size: tuple[int, int] = WIDE) -> Image.Image:
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


def inpainted(mask: Image.Image, **fields: Any) -> Fitted:
    return fitted("inpaint", "toy-holes", {"image": noise(*mask.size), "mask": mask}, **fields)


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((25, 5, 35, 15), (20, 40)),  # in the middle: nothing moves
        ((21, 0, 39, 20), (20, 40)),
        ((0, 5, 10, 15), (0, 20)),
        ((50, 5, 60, 15), (40, 60)),
        ((38, 5, 45, 15), (25, 45)),  # no further than it must
        ((0, 0, 20, 20), (0, 20)),
    ],
)
@pytest.mark.parametrize("restore", [False, True])
def test_the_window_of_cover_goes_to_the_hole(box: tuple[int, ...], window: tuple[int, int], restore: bool) -> None:
    mask = hole(*box)
    found = inpainted(mask, restore=restore)
    left, right = window
    cut = Frame.of((20, 20), (8, 8), "cover")
    assert found.pictures["mask"].tobytes() == cut.apply_mask(mask.crop((left, 0, right, 20))).tobytes()
    assert found.warnings == []
    if restore:
        back = found.restored(Image.new("RGB", (8, 8), "red"))
        expected = noise(*WIDE)
        expected.paste("red", mask=mask)
        assert back.tobytes() == expected.tobytes()  # all of it is filled


def test_a_hole_that_no_window_holds_is_refused_or_told() -> None:
    mask = hole(5, 5, 30, 15)
    with pytest.raises(UnprocessableError, match=r"fit: `cover` .* 20x20 .* 25x10; send `contain`"):
        inpainted(mask, restore=True)
    (warning,) = inpainted(mask).warnings
    assert "a part of it is left out" in warning
    for how in ("contain", "stretch"):
        found = inpainted(mask, restore=True, fit=how)
        assert found.warnings == []
        assert (
            np.asarray(found.restored(Image.new("RGB", (8, 8), "red")))[5:15, 5:30].tolist()
            == [[[255, 0, 0]] * 25] * 10
        )


@given(SIDES, SIDES, SIDES, SIDES, st.data())
def test_a_window_stays_inside_and_holds_what_it_can(w: int, h: int, width: int, height: int, chance: Any) -> None:
    left, top = chance.draw(st.integers(0, w - 1)), chance.draw(st.integers(0, h - 1))
    box = (left, top, chance.draw(st.integers(left + 1, w)), chance.draw(st.integers(top + 1, h)))
    frame, plain = (Frame.of((w, h), (width, height), "cover", given) for given in (box, None))
    width, height = (frame.window[k + 2] - frame.window[k] for k in (0, 1))
    assert (width, height) == tuple(plain.window[k + 2] - plain.window[k] for k in (0, 1))
    assert 0 <= frame.window[0] < frame.window[2] <= w
    assert 0 <= frame.window[1] < frame.window[3] <= h
    fits = box[2] - box[0] <= width and box[3] - box[1] <= height
    assert frame.holds(box) == fits


def test_masks_that_hide_nothing_are_told_and_named() -> None:
    (warning,) = inpainted(hole(0, 0, 60, 20).point([0] * 255 + [1])).warnings
    assert warning.startswith("mask: it hides nothing")
    (warning,) = inpainted(hole(0, 0, 30, 20).point([0] * 255 + [1])).warnings
    assert warning.startswith("mask: its two values, 0 and 1, are both below 128")
    opaque = noise(8, 8).convert("RGBA")
    opaque.putalpha(255)
    (warning,) = fitted("inpaint", "toy-holes", {"image": opaque}).warnings
    assert warning == "image: nothing of it is transparent, so nothing is filled in"


def test_strokes_and_erased_copies_reach_the_model() -> None:
    strokes = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    strokes.paste("white", (2, 2, 5, 5))
    erased = noise(8, 8).convert("RGBA")
    erased.putalpha(255)
    erased.paste((0, 0, 0, 0), (2, 2, 5, 5))
    expected = hole(2, 2, 5, 5, size=(8, 8)).tobytes()
    for mask in (strokes, erased):
        found = fitted("inpaint", "toy-holes", {"image": noise(8, 8), "mask": mask})
        assert found.pictures["mask"].tobytes() == expected


def test_what_restore_needs_is_kept_and_nothing_else() -> None:
    picture = noise(30, 20, "RGBA")
    assert fitted("translate", "toy-pairs", {"image": picture}).restore == {}
    kept = fitted("translate", "toy-pairs", {"image": picture}, restore=True)
    assert {name: one.mode for name, one in kept.restore.items()} == {BASE: "RGB"}
    masked = inpainted(hole(25, 5, 35, 15), restore=True)
    assert {name: one.mode for name, one in masked.restore.items()} == {BASE: "RGB", HIDDEN: "1"}
    assert kept.pictures["image"].size == masked.pictures["image"].size == (8, 8)
