"""Pictures whose modes are known: clothes with one of two tints, and digits with a box or of which some are spoiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.data.catalog import load
from models.data.images import ImageData, to_float, to_uint8
from models.metrics.modes import nearest, shares
from models.systems.cgml.batch import Batch
from models.systems.cgml.images.presets import PRESETS
from models.systems.cgml.trainer import CgmlTrainer
from models.systems.frame import Frame

_TINT, _INK, _KEY = 0.5, 25, 5
_BOX = (slice(8, 10), slice(10, 20))
"""Rows and columns of the white box."""
_HIDDEN = (slice(4, 13), slice(8, 22))
"""What is hidden of digits: the box with a rim around it, in their upper halves."""
_GREY = 128


@dataclass(frozen=True)
class Task:
    """Data, and how answers are judged: (trainer, answers a condition) -> errors and shares of modes."""

    preset: str
    data: ImageData
    judge: Callable[[CgmlTrainer, int], dict[str, Any]]


def asked(c: Tensor) -> Batch:
    """Conditions alone, as a trainer answers them; what else a batch has is not looked at."""
    return Batch(c, c, torch.ones_like(c[:, :1]), c)


def answered(trainer: CgmlTrainer, conditions: Tensor, n: int, steps: int) -> Tensor:
    """n answers to uint8 conditions of 28 pixels, ``[len, n, C, 28, 28]``."""
    frame = Frame(PRESETS["small-32"].model_copy(update={"image_size": 28}))
    parts = torch.split(frame.padded(to_float(conditions)), max(1, 2048 // n))
    return torch.cat(
        [frame.cropped_film(trainer.answers(asked(c), n, _KEY, k, steps=steps)) for k, c in enumerate(parts)]
    )


def judged(modes: Tensor, where: Tensor, made: Tensor) -> dict[str, Any]:
    """The mean absolute error of answers to the nearest mode, and the share of each mode.

    Args:
        modes: ``[modes, n, C, H, W]``, in [-1, 1].
        where: which pixels count, ``[n, 1, H, W]``.
        made: ``[n, answers, C, H, W]``.
    """
    weights = where[:, None].expand(-1, -1, made.shape[2], -1, -1)
    each = [((made - mode[:, None]).abs() * weights).sum((2, 3, 4)) / weights.sum((2, 3, 4)) for mode in modes]
    found, mode = nearest(torch.stack(each))
    return {"error": float(found.mean()), "shares": shares(mode, len(modes))}


def _judging(conditions: Tensor, modes: Tensor, where: Tensor) -> Callable[[CgmlTrainer, int], dict[str, Any]]:
    def judge(trainer: CgmlTrainer, n: int) -> dict[str, Any]:
        start = judged(modes, where, answered(trainer, conditions, n, 0))
        return judged(modes, where, answered(trainer, conditions, n, 20)) | {"error_at_start": start["error"]}

    return judge


def _chance(n: int, p: float, seed: int) -> Tensor:
    return torch.rand(n, 1, 1, 1, generator=torch.Generator().manual_seed(seed)) < p


def tint(root: Path, p: float, pictures: int = 20_000, tested: int = 50) -> Task:
    """Clothes with a tint; a share p has the positive one."""
    train, test = (load("fashion-mnist", split, root) for split in ("train", "test"))
    clothes, judged_by = train.images[:pictures], test.images[:tested]
    tints = torch.where(_chance(len(clothes), p, 0), _TINT, -_TINT) * (clothes > _INK)
    data = ImageData(to_uint8(tints), None, (), "tints", clothes)
    where = (judged_by > _INK).float()
    return Task("small-32", data, _judging(judged_by, torch.stack([_TINT * where, -_TINT * where]), where))


def _digits(root: Path) -> tuple[Tensor, Tensor]:
    train, test = (load("digits", split, root) for split in ("train", "test"))
    return train.images, test.images[:50]


def _without(digits: Tensor) -> Tensor:
    """Digits with their hidden part in grey."""
    seen = digits.clone()
    seen[:, :, _HIDDEN[0], _HIDDEN[1]] = _GREY
    return seen


def _with_box(digits: Tensor) -> Tensor:
    boxed = digits.clone()
    boxed[:, :, _BOX[0], _BOX[1]] = 255
    return boxed


def _at(where: tuple[slice, slice], like: Tensor) -> Tensor:
    mask = torch.zeros_like(like, dtype=torch.float32)
    mask[:, :, where[0], where[1]] = 1
    return mask


def box(root: Path, p: float) -> Task:
    """Digits without a part, which for a share p has a white box that nothing else tells of (section 5.1)."""
    train, test = _digits(root)
    images = torch.where(_chance(len(train), p, 0), _with_box(train), train)
    modes = torch.stack([to_float(_with_box(test)), to_float(test)])
    data = ImageData(images, None, (), "digits with boxes", _without(train))
    return Task("small-32", data, _judging(_without(test), modes, _at(_BOX, test)))


def spoiled(digits: Tensor, p: float, seed: int) -> Tensor:
    """Digits of which a share p has the upper half of another one over its own."""
    other = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))]
    both = digits.clone()
    both[:, :, :14] = torch.maximum(
        digits[:, :, :14], (digits[:, :, :14].int() + other[:, :, :14]).clamp(max=255).byte()
    )
    return torch.where(_chance(len(digits), p, seed), both, digits)


def corrupted(root: Path, p: float) -> Task:
    """Digits without a part, of which a share p is spoiled, as are those of the paper; judged by clean ones.

    The paper spoils other digits in each epoch; here are five copies of each.
    """
    train, test = _digits(root)
    images = torch.cat([spoiled(train, p, seed) for seed in range(5)])
    data = ImageData(images, None, (), "spoiled digits", _without(images))
    return Task("small-32", data, _judging(_without(test), to_float(test)[None], _at(_HIDDEN, test)))
