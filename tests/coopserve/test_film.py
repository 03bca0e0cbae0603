"""The film of the demonstration: scenes in turn, pixels as they are, and differences on their scale."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageSequence

from coopserve.film import HOLD_MS, PAUSE_MS, WIDTH, Frame, Scene, play, save_film
from coopserve.tiles import cells, changes, opened
from pictures.png import png_of

RED, BLUE = (200, 30, 10), (10, 30, 200)


def plain(colour: tuple[int, int, int], size: int = 4) -> bytes:
    return png_of(Image.new("RGB", (size, size), colour))


def colours(picture: Image.Image) -> set[object]:
    return {colour for _, colour in picture.getcolors(WIDTH * picture.height) or []}


SCENES = [
    Scene([Frame("one", [plain(RED), None]), Frame("two", [plain(RED), plain(BLUE)])], 3, 100),
    Scene([Frame("three", [None]), Frame("four", [plain((0, 99, 0), 8)])], 2, 200),
]


def test_scenes_play_in_turn_and_each_rests_on_its_result() -> None:
    frames = list(play(SCENES))
    assert [milliseconds for _, milliseconds in frames] == [100, HOLD_MS, 200, PAUSE_MS]
    pictures = [picture for picture, _ in frames]
    assert {picture.size[0] for picture in pictures} == {WIDTH}
    assert [BLUE in colours(picture) for picture in pictures] == [False, True, True, True]
    assert [(0, 99, 0) in colours(picture) for picture in pictures] == [False, False, False, True]


def test_the_file_loops_and_holds_every_pixel_as_it_is(tmp_path: Path) -> None:
    save_film(SCENES, tmp_path / "film.webp")
    with Image.open(tmp_path / "film.webp") as film:
        assert (film.n_frames, film.info["loop"]) == (3, 0)  # the encoder joins frames that are equal
        shown = [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(film)]
    played = [picture.tobytes() for picture, _ in play(SCENES)]
    assert shown[-1] == played[-1]
    assert set(shown) == set(played)


def test_a_difference_is_that_of_the_colour_that_changed_most() -> None:
    assert opened(changes(plain((100, 100, 100)), plain((100, 90, 105)), 8), 1).getpixel((0, 0)) == (80, 80, 80)
    assert opened(changes(plain(RED), plain(BLUE), 2), 1).getpixel((0, 0)) == (255, 255, 255)
    assert opened(changes(plain(RED), plain(RED), 8), 1).getpixel((0, 0)) == (0, 0, 0)


def test_a_strip_is_cut_into_its_pictures() -> None:
    strip = Image.new("RGB", (8, 4), RED)
    strip.paste(BLUE, (4, 0, 8, 4))
    assert cells(png_of(strip), 2) == [plain(RED), plain(BLUE)]
