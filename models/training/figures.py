"""Pictures for people: sheets of samples and curves of a training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from models.core.files import whole
from models.data.images import to_uint8
from models.training.curves import BARE, Curve, Headings, meaning

_FEW = 20
"""Fewer points than this are marked: a line through one of them is not seen. As many and more are smoothed."""
_TEXT, _PAD = 13, 4


def sheet(images: Tensor, headings: Headings = BARE, gap: int = 2, scale: int = 2) -> Image.Image:
    """A grid of ``[rows, columns, C, H, W]`` images in [-1, 1], each pixel enlarged ``scale`` times, on white.

    Args:
        headings: what its columns and rows show, written above and to the left of them.
    """
    rows, columns, channels, height, width = images.shape
    canvas = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 255, dtype=torch.uint8)
    for r in range(rows):
        for c in range(columns):
            top, left = gap + r * (height + gap), gap + c * (width + gap)
            canvas[:, top : top + height, left : left + width] = to_uint8(images[r, c])
    array = canvas.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array.squeeze(-1) if channels == 1 else array)
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    return _headed(picture, headings, (width + gap) * scale, (height + gap) * scale)


def _headed(picture: Image.Image, headings: Headings, step_x: int, step_y: int) -> Image.Image:
    """A grid with its headings; a picture takes so many pixels from one to the next."""
    if headings == BARE:
        return picture
    font = _font()
    margin = round(max((font.getlength(title) for title in headings.rows), default=0)) + 2 * _PAD
    top = _TEXT + 2 * _PAD if headings.columns else 0
    ends = [step_x * sum(count for _, count in headings.columns[:k]) for k in range(len(headings.columns))]
    needed = [end + round(font.getlength(text)) + _PAD for (text, _), end in zip(headings.columns, ends, strict=True)]
    width = margin + max([picture.width, *needed])
    whole_sheet = Image.new(picture.mode, (width, top + picture.height), "white")
    whole_sheet.paste(picture, (margin, top))
    pen = ImageDraw.Draw(whole_sheet)
    for (text, _), end in zip(headings.columns, ends, strict=True):
        pen.text((margin + end + _PAD, _PAD), text, "black", font)
    for r, title in enumerate(headings.rows):
        pen.text((_PAD, top + r * step_y + step_y // 2), title, "black", font, anchor="lm")
    return whole_sheet


def portrait(images: Tensor, headings: Headings) -> Image.Image:
    """What a model makes, for its button on the page: up to four images of a sheet of samples on a square.

    Args:
        images: the sheet, ``[rows, columns, C, H, W]`` in [-1, 1].
        headings: say where on it the results are.
    """
    rows, columns = headings.made
    made = images[rows, columns].flatten(0, 1)
    side = 2 if len(made) >= 4 else 1
    return sheet(
        torch.stack([made[len(made) * k // side**2] for k in range(side**2)]).unflatten(0, (side, side)), BARE, 0, 1
    )


@cache
def _font() -> ImageFont.FreeTypeFont:
    """A font with accents, Greek and Cyrillic, which Pillow's own lacks."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _TEXT)


def save_sheet(images: Tensor, path: Path, headings: Headings = BARE) -> Path:
    """Write :func:`sheet` as PNG."""
    with whole(path) as temporary:
        sheet(images, headings).save(temporary, format="PNG")
    return path


def curves(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """The points (iteration, value) of each metric, in the order in which metrics appear.

    Not every line has every metric: some are measured now and then. Warnings have none.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if "warning" not in line and name not in ("iteration", "seconds"):
                found.setdefault(name, []).append((line["iteration"], value))
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file with one a line. A line that a killed or full machine has cut off is left out."""
    found = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]


def smoothed(values: Sequence[float]) -> NDArray[np.float64]:
    """The running mean over about a tenth of the points around each; at the ends over those that there are."""
    window = np.ones(2 * (len(values) // 20) + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def draw_training(
    metrics_file: Path, samples: Path | None, path: Path, meanings: Mapping[str, Curve] = MappingProxyType({})
) -> bool:
    """The figure of a training: one panel a metric over the iterations, and beside them the latest samples.

    Each panel says what its metric is, in which unit, and which way is good. Where there are many points, they are pale
    and their running mean is strong. Iterations that were undone are marked.

    Args:
        metrics_file: the JSON lines of the training; without a line of metrics nothing is drawn.
        samples: a sheet of samples.
        path: the PNG to write.
        meanings: what the metrics are, by name.

    Returns:
        Whether it was drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = read_lines(metrics_file)
    undone = [line["iteration"] for line in lines if "warning" in line]
    series = curves(lines)
    if not series:
        return False
    columns = 3
    rows = -(-len(series) // columns)
    figure = plt.figure(figsize=(18, 2.9 * rows), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(3, 2)))
    for k, (name, points) in enumerate(series.items()):
        _panel(left.add_subplot(rows, columns, k + 1), name, meaning(meanings, name), points, undone)
    if samples is not None:
        axis = right.add_subplot()
        axis.imshow(plt.imread(samples), cmap="gray", interpolation="nearest")
        axis.set_title(f"samples after {samples.stem.lstrip('0')} iterations", fontsize=10)
        axis.axis("off")
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
    return True


def _panel(axis: Any, name: str, curve: Curve, points: Sequence[tuple[int, float]], undone: Sequence[int]) -> None:
    """The curve of one metric."""
    iterations, values = zip(*points, strict=True)
    many = len(points) >= _FEW
    axis.plot(iterations, values, linewidth=0.8, alpha=0.35 if many else 1.0, marker=None if many else ".")
    if many:
        axis.plot(iterations, smoothed(values), color="C0", linewidth=1.6)
    for iteration in undone:
        axis.axvline(iteration, color="C3", linewidth=0.6, linestyle=":")
    axis.set_title(curve.label, fontsize=9, loc="left", pad=16)
    axis.text(0, 1.03, curve.good, transform=axis.transAxes, fontsize=8, color="0.35")
    axis.set_xlabel("iteration", fontsize=8)
    axis.set_ylabel(f"{name} [{curve.unit}]" if curve.unit else name, fontsize=8)
    axis.tick_params(labelsize=7)
