"""The picture of colourings: one row for answers, one for their uncertainty, one for the way of the first."""

from __future__ import annotations

from PIL import Image

from benchmarks.colourings import asked, rows, sheet
from coopserve.local import Images
from models.data.images import ImageData
from tests.models.zoo import images


class Painter:
    """A model whose answers are of one colour, and whose stages are grey."""

    def run(self, task: str, *, image: Image.Image, n: int, options: dict[str, int], **fields: object) -> Images:
        assert task == "colorize"
        stages = {f"step_{k}": [Image.new("RGB", image.size, (9 * k,) * 3)] for k in range(2, 21, 2)}
        extras = {"uncertainty": [Image.new("L", image.size, 40)] * n, **stages} if options["trajectory"] else {}
        return Images([Image.new("RGB", image.size, "red")] * n, None, [], [1] * n, extras=extras)


def test_answers_stand_above_their_uncertainty_and_the_way() -> None:
    data: ImageData = images(2, 16, 3)
    given, true = asked("colorize", data, 1)
    assert given.size == true.size == (16, 16)
    found = sheet(rows(Painter(), "colorize", given, true, 3, 1))
    assert found.size == (8 * 84, 3 * 100)
    assert [found.getpixel((84 * k + 40, 50)) for k in (1, 2, 3)] == [(255, 0, 0)] * 3
    assert [found.getpixel((84 * k + 40, 150)) for k in (0, 1, 3)] == [(255,) * 3, (40,) * 3, (40,) * 3]
    assert [found.getpixel((84 * k + 40, 250)) for k in (0, 1, 7)] == [(255, 0, 0), (18,) * 3, (180,) * 3]
