"""What a cGML makes of one condition: ``python -m benchmarks.colourings --model NAME --data SET --out FILE``.

For each condition several answers with their uncertainty below them, and the way of the first from its random start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from PIL import Image, ImageDraw

import coopserve
from models.data.catalog import load
from models.data.images import ImageData
from models.evaluation.modes import questions
from workers.jobs.pictures import picture_of

STAGES = (0, 2, 4, 6, 8, 10, 14, 20)
"""Steps whose pictures are shown."""
_PLACES, _SIZE, _GAP, _HEAD = 16, 80, 4, 16

Row = tuple[str, list[Image.Image]]


def rows(model: Any, task: str, given: Image.Image, true: Image.Image, n: int, seed: int) -> list[Row]:
    """The answers, their uncertainty, and the way of the first answer."""
    options = {"uncertainty": _PLACES, "trajectory": 2}
    made = model.run(task, image=given, n=n, seed=seed, steps=STAGES[-1], options=options)
    start = model.run(task, image=given, n=1, seed=seed, refine=False, options={"uncertainty": 0, "trajectory": 0})
    way = [made.extras[f"step_{stage}"][0] for stage in STAGES[1:]]
    return [
        ("given, answers, true", [given, *made.pictures, true]),
        ("uncertainty", [_blank(given), *made.extras["uncertainty"]]),
        (f"steps {', '.join(map(str, STAGES))}", [start.pictures[0], *way]),
    ]


def _blank(like: Image.Image) -> Image.Image:
    return Image.new("RGB", like.size, "white")


def sheet(parts: Sequence[Row]) -> Image.Image:
    """Rows of pictures, a title above each."""
    width = max(len(pictures) for _, pictures in parts) * (_SIZE + _GAP)
    canvas = Image.new("RGB", (width, len(parts) * (_HEAD + _SIZE + _GAP)), "white")
    pen = ImageDraw.Draw(canvas)
    for r, (title, pictures) in enumerate(parts):
        top = r * (_HEAD + _SIZE + _GAP)
        pen.text((2, top + 2), title, "black")
        for k, picture in enumerate(pictures):
            tile = picture.convert("RGB").resize((_SIZE, _SIZE), Image.Resampling.LANCZOS)
            canvas.paste(tile, (k * (_SIZE + _GAP), top + _HEAD))
    return canvas


def asked(task: str, data: ImageData, k: int) -> tuple[Image.Image, Image.Image]:
    """Condition k of a set, and what it was."""
    q = questions("colorize" if task == "colorize" else "translate", data.subset(slice(k, k + 1)))
    return picture_of(q.given[0]), picture_of(q.truth[0])


@click.command()
@click.option("--model", required=True, help="A shipped model's name.")
@click.option("--data", required=True, help="The set whose test pictures are asked about.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("var/data"), show_default=True)
@click.option(
    "--picture", type=int, multiple=True, default=[0], show_default=True, help="Its number; several for more."
)
@click.option("--answers", default=6, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(model: str, data: str, root: Path, picture: Sequence[int], answers: int, seed: int, out: Path) -> None:
    """Draw it."""
    loaded = coopserve.load(model, device="cpu")
    task = next(name for name in loaded.card.tasks if name != "embed")
    found = load(data, "test", root).fit(loaded.card.image.width, loaded.card.image.channels)
    parts = [part for k in picture for part in rows(loaded, task, *asked(task, found, k), answers, seed)]
    sheet(parts).quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)
    click.echo(out)


if __name__ == "__main__":
    main()
