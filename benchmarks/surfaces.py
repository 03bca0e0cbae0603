"""A picture of what a model of surfaces does: ``python -m benchmarks.surfaces --out docs/surfaces.png``.

A body a row: as it is, under noise, cleaned; the same with a part of its spectral map unknown; and two results of one
seed. Bodies are of the test seed, which no training has seen.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import coopserve
from models.evaluation.surfaces import corrupted
from models.systems.cgml.spectral.drawing import Drawing
from surfaces.harmonics import Floats, Grid, Transform
from surfaces.maps import DEVIATIONS, MEAN_RADIUS, scales, to_map
from surfaces.primitives import sample
from workers.jobs.pictures import picture_of

KINDS = ("box", "cylinder", "cone", "union")
COLUMNS = ("clean", "noisy", "cleaned", "a part unknown", "cleaned", "another result")
_SEED, _SIZE, _HEAD = 3, 96, 18


def bodies() -> Floats:
    """The coefficients of a body of each kind, ``[kinds, L^2]``."""
    random, grid = np.random.default_rng(_SEED), Grid.gauss(64)
    transform = Transform(len(DEVIATIONS), grid)
    return np.stack([transform.analyse(sample(kind, random, grid)) for kind in KINDS])


def rows(name: str) -> list[list[Image.Image]]:
    """The pictures of each body, as in :data:`COLUMNS`."""
    model, drawing = coopserve.load(name, device="cpu"), Drawing(len(DEVIATIONS), _SIZE)
    clean, scale = bodies(), scales(DEVIATIONS)
    drawn = [[picture_of(picture)] for picture in drawing(_tensor(clean))]
    for n, (noisy, unknown) in zip((1, 2), corrupted(to_map(clean, DEVIATIONS)).values(), strict=True):
        for k, row in enumerate(drawn):
            values = noisy[k].ravel() * scale
            values[0] = MEAN_RADIUS
            row.append(picture_of(drawing(_tensor(values[None]))[0]))
            given = [None if hidden else float(v) for v, hidden in zip(values, unknown[k].ravel(), strict=True)]
            row += model.denoise(surface=given, n=n, seed=_SEED).pictures
    return drawn


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(values).float()


@click.command()
@click.option("--model", default="spectral-cgml", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(model: str, out: Path) -> None:
    """Draw it."""
    found = rows(model)
    sheet = Image.new("L", (len(COLUMNS) * _SIZE, _HEAD + len(found) * _SIZE), "white")
    pen = ImageDraw.Draw(sheet)
    for k, title in enumerate(COLUMNS):
        pen.text((k * _SIZE + _SIZE // 2, _HEAD // 2), title, 0, anchor="mm")
        for r, row in enumerate(found):
            sheet.paste(row[k], (k * _SIZE, _HEAD + r * _SIZE))
    sheet.save(out, optimize=True)
    click.echo(f"{out}: {', '.join(KINDS)}")


if __name__ == "__main__":
    main()
