"""A checkpoint that answers images is measured with its own task, and its steps are chosen on validation images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.evaluation import pictures as picture_evaluation
from models.evaluation.base import Run
from models.evaluation.pictures import PictureBench
from models.systems.registry import VARIANTS
from tests.models.zoo import pairs, tiny_model


def features(images: Tensor) -> Tensor:
    """Means of small blocks, in place of a network."""
    return torch.nn.functional.avg_pool2d(images.clamp(-1, 1), 16).flatten(1)


def prepared(name: str, root: Path) -> PictureBench:
    bench = VARIANTS["ccoopnets/images"].evaluation.prepare(tiny_model(name), Run(archive(root), root))
    assert isinstance(bench, PictureBench)
    return bench


def archive(root: Path) -> str:
    data = pairs()
    assert data.conditions is not None
    arrays = {}
    for part, offset in (("train", 0), ("valid", 1), ("test", 2)):
        arrays[f"images_{part}"] = np.roll(data.images.permute(0, 2, 3, 1).numpy(), offset, 1).repeat(2, 0)
        arrays[f"conditions_{part}"] = np.roll(data.conditions.permute(0, 2, 3, 1).numpy(), offset, 1).repeat(2, 0)
    np.savez(root / "pairs.npz", **arrays)
    return str(root / "pairs.npz")


def test_steps_are_chosen_and_figures_given_for_a_translation(tmp_path: Path) -> None:
    bench = prepared("ccoopnets-translate", tmp_path)
    assert bench.task == "translate"
    chosen = picture_evaluation.choose_steps(bench, features, lambda message: None)
    assert list(chosen["kid"]) == ["0", "1", "2", "3"]
    assert chosen["kid"][str(chosen["steps"])] == min(chosen["kid"][k] for k in ("1", "2", "3"))
    report = picture_evaluation.evaluate(bench, features, bench.test)
    assert report["proposal"]["psnr"] != report["refined"]["psnr"]
    assert report["refined"]["diversity"] > 0


def test_the_holes_of_an_inpainting_are_the_same_each_time(tmp_path: Path) -> None:
    bench = prepared("ccoopnets-inpaint", tmp_path)
    assert bench.task == "inpaint"
    masks = bench.masks(bench.test)
    assert masks is not None
    assert torch.equal(masks, bench.masks(bench.test))  # type: ignore[arg-type]
    report = picture_evaluation.evaluate(bench, features, bench.test)
    assert "mean_fill" in report
    assert report["proposal"]["psnr"] > 0
