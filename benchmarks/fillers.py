"""Filling holes against classical fillers: ``python -m benchmarks.fillers --model NAME --data DATA``.

A model that inpaints, the mean of the visible pixels, and the two fillers of OpenCV, Telea's and Navier-Stokes, get the
same pictures with the same holes. ``--data`` is a data set, of which the test part counts, or an npz file of pictures
that the model has not seen (``benchmarks.openmoji`` makes one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks import workload
from benchmarks.report import Claim, machine, show_claims, show_machine, show_table, write_json
from coopserve.configured import settings_from
from models.checkpoints import load_model
from models.data.catalog import load
from models.data.holes import holes
from models.data.images import ImageData, to_float, to_uint8
from models.evaluation.jobs import defaults_for, trained_steps
from models.evaluation.pictures import PictureBench, sampler
from models.metrics.effnet import EffNetFeatures, Features
from models.metrics.kid import kid_with_error
from models.metrics.pictures import psnr, ssim
from workers.device import prepare_torch

Filler = Callable[[Tensor, Tensor], Tensor]
"""Pictures ``[n, 3, H, W]`` in [-1, 1] and masks ``[n, 1, H, W]``, 1 = hidden -> completed pictures."""

_MASK_SEED = 11
_RADIUS = 3.0
"""Pixels around each point that OpenCV's fillers look at, as in its own example."""
_RIM = 1.5
"""At most so many times the jump of real pictures is no visible rim."""
_COLUMNS = ("psnr", "ssim", "kid", "kid_std_error", "rim")


def mean_fill(pictures: Tensor, masks: Tensor) -> Tensor:
    """The hole in the mean colour of the visible pixels of its picture."""
    shown = 1 - masks
    mean = (pictures * shown).sum((2, 3), keepdim=True) / shown.sum((2, 3), keepdim=True)
    return torch.where(masks > 0, mean, pictures)


def opencv(flag: int) -> Filler:
    """A filler of OpenCV, on 8-bit pictures as it wants them."""

    def fill(pictures: Tensor, masks: Tensor) -> Tensor:
        images = to_uint8(pictures).permute(0, 2, 3, 1).contiguous().numpy()
        hidden = (masks[:, 0] > 0).to(torch.uint8).numpy() * 255
        filled = [cv2.inpaint(image, mask, _RADIUS, flag) for image, mask in zip(images, hidden, strict=True)]
        return to_float(torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2))

    return fill


def rim(pictures: Tensor, masks: Tensor) -> float:
    """The mean jump from a visible pixel to a hidden neighbour, over channels; pictures in [-1, 1]."""
    total = torch.zeros((), dtype=torch.float64)
    count = torch.zeros((), dtype=torch.float64)
    for axis in (2, 3):
        jump = pictures.diff(dim=axis).abs().mean(1)
        edge = masks.diff(dim=axis)[:, 0] != 0
        total += jump[edge].sum()
        count += edge.sum()
    return float(total / count)


def measure(
    fillers: Mapping[str, Filler], truth: Tensor, masks: Tensor, features: Features
) -> dict[str, dict[str, float]]:
    """Figures of each filler: PSNR and SSIM in the hole, KID of whole pictures, rim over that of the true pictures."""
    given = torch.where(masks > 0, torch.zeros(()), truth)
    target, real = features(truth), rim(truth, masks)
    rows: dict[str, dict[str, float]] = {}
    for name, fill in fillers.items():
        pictures = fill(given, masks)
        distance = kid_with_error(features(pictures), target)
        rows[name] = {
            "psnr": float(psnr(pictures, truth, masks).mean()),
            "ssim": float(ssim(pictures, truth, masks).mean()),
            "kid": distance.value,
            "kid_std_error": distance.std_error,
            "rim": rim(pictures, masks) / real,
        }
    return rows


def model_fillers(folder: Path, data: ImageData) -> dict[str, Filler]:
    """Proposals and refined pictures of a checkpoint, the latter with the steps that its card gives."""
    model = load_model(folder, torch.device("cpu"))
    if "inpaint" not in model.tasks:
        raise click.ClickException(f"{model.card['name']} does not inpaint")
    bench = PictureBench(model, "inpaint", defaults_for(model, "inpaint"), trained_steps(model, "inpaint"), *[data] * 3)
    sample = sampler(replace(bench))

    def answer(refine: bool) -> Filler:
        return lambda pictures, masks: sample(pictures, masks, 1, 1, refine)[:, 0].clamp(-1, 1)

    return {"proposal": answer(False), f"refined, {bench.defaults['steps']} steps": answer(True)}


def claims_of(rows: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """The model's refined pictures against the best classical filler in each figure, and its rim."""
    classical = [rows[name] for name in ("mean of visible pixels", "Telea", "Navier-Stokes")]
    refined = next(row for name, row in rows.items() if name.startswith("refined"))
    return [
        Claim(
            "PSNR over the best classical filler", refined["psnr"] - max(r["psnr"] for r in classical), 0.0, unit=" dB"
        ),
        Claim("SSIM over the best classical filler", refined["ssim"] - max(r["ssim"] for r in classical), 0.0),
        Claim("KID x 1000 below it", 1000 * (min(r["kid"] for r in classical) - refined["kid"]), 0.0),
        Claim("rim, of that of real pictures", refined["rim"], _RIM, at_least=False),
    ]


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="noto-ccoopnets", help="A shipped model that inpaints.")
@click.option("--data", default="noto", help="A data set, or an npz file of pictures.")
@click.option("--most", default=450, type=click.IntRange(10), help="Pictures.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(name: str, data: str, most: int, threads: int | None, path: Path | None) -> None:
    """Compare a model that fills holes with fillers that need no model."""
    settings = settings_from(torch_threads=threads, device="cpu")
    facts = machine(prepare_torch(settings))
    show_machine(facts)
    subject = workload.find_model(name, settings)
    pictures = load(data, "test", settings.datasets_dir, image_size=subject.card.image.width, channels=3)
    truth = to_float(pictures.images[:most])
    masks = holes(len(truth), truth.shape[-1], _MASK_SEED)
    fillers: dict[str, Filler] = {
        "mean of visible pixels": mean_fill,
        "Telea": opencv(cv2.INPAINT_TELEA),
        "Navier-Stokes": opencv(cv2.INPAINT_NS),
        **model_fillers(subject.folder, pictures),
    }
    rows = measure(fillers, truth, masks, EffNetFeatures())
    table = [
        [name, *(f"{row[c]:.{2 if c in ('psnr', 'rim') else 4}f}" for c in _COLUMNS)] for name, row in rows.items()
    ]
    show_table(f"{subject.card.ref} on {len(truth)} pictures of {data}, in the hole", ["", *_COLUMNS], table)
    claims = claims_of(rows)
    show_claims(claims)
    if path:
        write_json(path, "fillers", facts, {"model": subject.card.ref, "data": data, "rows": rows}, claims)


if __name__ == "__main__":
    main()
