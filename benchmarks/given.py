"""A picture of pictures: what one decoder makes of one image, given in many ways: ``python -m benchmarks.given``.

A hole, a half, scattered pixels, a small picture, a blurred one and, of a coloured model, a grey one; several chains of
annealed HMC each, and the first image as descent from one start completes it with as many gradients.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.decoders import Subject, subject
from models.core.loop import run_together
from models.core.noise import row_seeds
from models.data.images import to_float, to_uint8
from models.data.npz import read_npz
from models.samplers.observation import Observation, Operator, avg_pool, blur, chain, grayscale, whole, window
from models.systems.aishmc.calibration import piloted
from models.systems.aishmc.settings import Settings
from models.systems.aishmc.solver import solve

_ZOOM, _GAP, _HEAD = 3, 4, 14


def ways(one: Subject, image: Tensor) -> dict[str, tuple[Observation, Tensor]]:
    """What is seen of an image ``[C, H, W]``, by name, and that as a picture of the image's size."""
    side, shape = one.size, (one.channels, one.size, one.size)
    line = torch.arange(side)
    middle = (line >= side // 4) & (line < side - side // 4)
    hole = (middle[:, None] & middle[None]).float()[None]
    half = (line >= side // 2).float()[None, None].expand(1, side, side)
    scattered = (torch.rand(1, side, side, generator=torch.Generator().manual_seed(1)) > 0.15).float()
    found = {}
    for name, hidden in (("a hole", hole), ("a half", half), ("15 % of the pixels", scattered)):
        seen = Observation(whole(one.kernels.decoder.image_shape), one.padded(image), one.padded(1 - hidden))
        found[name] = seen, torch.where(hidden > 0, torch.full_like(image, 0.4), image)
    inner = window(one.kernels.decoder.image_shape, one.margin)
    operators: dict[str, Operator] = {f"{side // k} pixels": avg_pool(shape, k) for k in (2, 4) if side % k == 0}
    operators["blurred"] = blur(shape, 1.5)
    if one.channels == 3:
        operators["in grey"] = grayscale(shape)
    for name, operator in operators.items():
        y = operator(image)
        shown = y.repeat_interleave(side // y.shape[1], 1).repeat_interleave(side // y.shape[2], 2)
        found[name] = Observation(chain(inner, operator), y, torch.ones(1, 1, 1)), shown.expand(shape)
    return found


def completed(one: Subject, seen: Sequence[Observation], how: Settings, chains: int) -> list[Tensor]:
    """Pictures ``[chains, C, H, W]`` for each."""
    tasks = [solve(one.kernels, each, how, row_seeds(7, chains)) for each in seen]
    return [one.cropped(rows["image"]) for rows in run_together(tasks, device=one.kernels.device)]


def sheet(rows: Sequence[tuple[str, Sequence[Tensor]]], heads: Sequence[str]) -> Image.Image:
    """Rows of pictures ``[C, H, W]`` with a name each, and names of the columns."""
    side = rows[0][1][0].shape[-1] * _ZOOM
    left = 110
    canvas = Image.new("RGB", (left + len(heads) * (side + _GAP), _HEAD + len(rows) * (side + _GAP)), "white")
    pen = ImageDraw.Draw(canvas)
    for k, head in enumerate(heads):
        pen.text((left + k * (side + _GAP) + 2, 1), head, fill="black")
    for r, (name, pictures) in enumerate(rows):
        top = _HEAD + r * (side + _GAP)
        pen.text((2, top + side // 2 - 5), name, fill="black")
        for k, picture in enumerate(pictures):
            pixels = to_uint8(picture).expand(3, -1, -1).permute(1, 2, 0).numpy()
            tile = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + k * (side + _GAP), top))
    return canvas


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint's folder, or a file of device_gan")
    parser.add_argument("--mark", default="100", help="of a file of device_gan: 50, 75 or 100")
    parser.add_argument("--data", type=Path, required=True, help="an npz file with images_train and images_test")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument(
        "--image", type=int, nargs="+", default=[0], help="its number in the split; several: a file each"
    )
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--temperatures", type=int, default=200)
    parser.add_argument("--leapfrogs", type=int, default=10)
    parser.add_argument("--sigma", type=float)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args(arguments)
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    one = subject(a.model, a.mark, torch.device(a.device))
    data = read_npz(a.data)[a.split].fit(one.size, one.channels)
    how = Settings(
        sigma=a.sigma or one.calibration.get("sigma", 0.2), temperatures=a.temperatures, leapfrogs=a.leapfrogs
    )
    a.out.parent.mkdir(parents=True, exist_ok=True)
    for k in a.image:
        path = a.out if len(a.image) == 1 else a.out.with_stem(f"{a.out.stem}-{k}")
        drawn(one, to_float(data.images[k]), how, a.chains).save(path, optimize=True)
        print(path, flush=True)


def drawn(one: Subject, image: Tensor, how: Settings, chains: int) -> Image.Image:
    """The picture of pictures of an image ``[C, H, W]``."""
    given = ways(one, image)
    seen = [observation for observation, _ in given.values()]
    known = one.calibration.get("step_sizes", {}).get("reconstruct")
    how = Settings(**{**vars(how), "table": known or piloted(one.kernels, seen, how, [{}] * len(seen))})
    annealed = completed(one, seen, how, chains)
    descent = completed(one, seen, Settings(**{**vars(how), "solver": "gd_single"}), 1)
    rows = [
        (name, [shown, *found, *single, image])
        for (name, (_, shown)), found, single in zip(given.items(), annealed, descent, strict=True)
    ]
    return sheet(rows, ["given", *["annealed", *[""] * (chains - 1)], "descent", "true"])


if __name__ == "__main__":
    main()
