"""An animated picture: scenes one below the other, which play in turn, each with a caption over a row of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from coopserve.tiles import opened

WIDTH = 814
"""About what a README is shown at."""
HOLD_MS, PAUSE_MS = 1000, 2500
_TEXT, _GAP, _MARGIN = 18, 6, 4
_INK, _PAPER, _BLANK = (20, 20, 20), (255, 255, 255), (236, 236, 236)


@dataclass(frozen=True)
class Frame:
    """What a scene shows for a while: a caption, and PNG files of one size; None where nothing is yet."""

    caption: str
    tiles: Sequence[bytes | None]


@dataclass(frozen=True)
class Scene:
    """A scene: its frames, each shown for so many milliseconds, their pictures ``zoom`` times enlarged."""

    frames: Sequence[Frame]
    zoom: int
    milliseconds: int


def play(scenes: Sequence[Scene]) -> Iterator[tuple[Image.Image, int]]:
    """All frames of the film, and for how many milliseconds each is shown; each scene rests on its result."""
    panels = [_panel(scene, 0) for scene in scenes]
    rests = [HOLD_MS] * (len(scenes) - 1) + [PAUSE_MS]
    for place, scene in enumerate(scenes):
        times = [scene.milliseconds] * (len(scene.frames) - 1) + [rests[place]]
        for k, milliseconds in enumerate(times):
            panels[place] = _panel(scene, k)
            yield _stack(panels), milliseconds


def save_film(scenes: Sequence[Scene], path: Path) -> None:
    """Write the film as animated WebP, lossless, which loops without end."""
    frames, durations = zip(*play(scenes), strict=True)
    quick = {"method": 1, "quality": 20}  # a quarter of the usual time for a fifth more bytes; pixels are the same
    rest = {"append_images": frames[1:], "duration": durations, "loop": 0}
    frames[0].save(path, "WEBP", save_all=True, lossless=True, **rest, **quick)


def _panel(scene: Scene, k: int) -> Image.Image:
    frame = scene.frames[k]
    tiles = [None if data is None else opened(data, scene.zoom) for data in frame.tiles]
    size = next(tile.size for one in scene.frames for data in one.tiles if data for tile in [opened(data, scene.zoom)])
    top = _TEXT + 3 * _GAP
    panel = Image.new("RGB", (WIDTH, top + size[1] + 2 * _GAP), _PAPER)
    ImageDraw.Draw(panel).text((_MARGIN, _GAP), frame.caption, _INK, ImageFont.load_default(_TEXT))
    for place, tile in enumerate(tiles):
        shown = tile or Image.new("RGB", size, _BLANK)
        panel.paste(shown, (_MARGIN + place * (size[0] + _GAP), top))
    return panel


def _stack(panels: Sequence[Image.Image]) -> Image.Image:
    film = Image.new("RGB", (WIDTH, sum(panel.height for panel in panels)), _PAPER)
    top = 0
    for panel in panels:
        film.paste(panel, (0, top))
        top += panel.height
    return film
