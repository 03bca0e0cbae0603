"""Pictures for people: sheets of samples and curves of a training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.core.files import whole
from models.data.images import to_uint8

_FEW = 20
"""Fewer points than this are marked: a line through one of them is not seen."""


def sheet(images: Tensor, gap: int = 2, scale: int = 2) -> Image.Image:
    """A grid of ``[rows, columns, C, H, W]`` images in [-1, 1], each pixel enlarged ``scale`` times, on white."""
    rows, columns, channels, height, width = images.shape
    canvas = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 255, dtype=torch.uint8)
    for r in range(rows):
        for c in range(columns):
            top, left = gap + r * (height + gap), gap + c * (width + gap)
            canvas[:, top : top + height, left : left + width] = to_uint8(images[r, c])
    array = canvas.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array.squeeze(-1) if channels == 1 else array)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def save_sheet(images: Tensor, path: Path) -> Path:
    """Write :func:`sheet` as PNG."""
    with whole(path) as temporary:
        sheet(images).save(temporary, format="PNG")
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


def draw_training(metrics_file: Path, samples: Path | None, path: Path) -> bool:
    """The figure of a training: one panel a metric over the iterations, and beside them the latest samples.

    Args:
        metrics_file: the JSON lines of the training; without a line of metrics nothing is drawn.
        samples: a sheet of samples.
        path: the PNG to write.

    Returns:
        Whether it was drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    series = curves(read_lines(metrics_file))
    if not series:
        return False
    columns = 3
    rows = -(-len(series) // columns)
    figure = plt.figure(figsize=(16, 2.4 * rows), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(3, 2)))
    for k, (name, points) in enumerate(series.items()):
        axis = left.add_subplot(rows, columns, k + 1)
        axis.plot(*zip(*points, strict=True), linewidth=0.8, marker="." if len(points) < _FEW else None)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    if samples is not None:
        axis = right.add_subplot()
        axis.imshow(plt.imread(samples), cmap="gray", interpolation="nearest")
        axis.set_title(f"samples: {samples.stem.lstrip('0')} iterations", fontsize=9)
        axis.axis("off")
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
    return True
