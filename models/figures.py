"""Pictures for people: sheets of samples and curves of a training."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from models.data.images import to_uint8


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
    sheet(images).save(path)
    return path


def draw_curves(metrics_file: Path, path: Path) -> None:
    """One panel a metric over the iterations, from the JSON lines of a training."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    lines = [line for line in lines if "warning" not in line]
    names = [name for name in (lines[-1] if lines else {}) if name not in ("iteration", "seconds")]
    if not names:
        return
    columns = 3
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.4 * rows), squeeze=False, layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot([line["iteration"] for line in lines], [line.get(name) for line in lines], linewidth=0.8)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in list(axes.flat)[len(names) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
