"""Measuring a checkpoint that answers images: its own task makes the pictures, held-out ones judge them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from models.core.loop import run_together
from models.core.model import LoadedModel
from models.core.noise import mix
from models.data.holes import holes
from models.data.images import ImageData, to_float
from models.evaluation.base import Choice, Evaluation, Run
from models.evaluation.jobs import defaults_for, job_of, trained_steps
from models.evaluation.labels import splits_for
from models.metrics.effnet import Features
from models.metrics.kid import kid
from models.metrics.pictures import psnr
from models.metrics.translation import PictureSampler, evaluate_pictures

PictureTask: TypeAlias = Literal["translate", "inpaint"]

_ROWS = 64
_MASK_SEED = 11
_RESULTS = 4
_CHOICE_SEED = 2


@dataclass(frozen=True, eq=False)
class PictureBench:
    """A checkpoint with the data that it is measured against.

    Args:
        task: ``translate`` or ``inpaint``.
        defaults: of the task, from the card.
        trained_steps: refinement steps of the training.
    """

    model: LoadedModel
    task: PictureTask
    defaults: Mapping[str, Any]
    trained_steps: int
    train: ImageData
    valid: ImageData
    test: ImageData

    def masks(self, data: ImageData) -> Tensor | None:
        """The holes that a set of images is judged with, the same each time; None for a translation."""
        return holes(len(data), data.shape[1], _MASK_SEED) if self.task == "inpaint" else None


def sampler(bench: PictureBench) -> PictureSampler:
    """(conditions, masks, seed, results, refine) -> pictures ``[n, results, C, H, W]``, with the bench's defaults."""

    def sample(conditions: Tensor, masks: Tensor | None, seed: int, results: int, refine: bool) -> Tensor:
        parts = []
        for places in torch.arange(len(conditions)).split(max(_ROWS // results, 1)):
            jobs = [
                job_of(
                    bench.task,
                    bench.defaults,
                    n=results,
                    refine=refine,
                    seed=mix(seed, k) >> 1,
                    image=conditions[k],
                    **({} if masks is None else {"mask": masks[k]}),
                )
                for k in places.tolist()
            ]
            parts += [output.images for output in run_together([bench.model.start(bench.task, job) for job in jobs])]
        return torch.stack([images.cpu() for images in parts if images is not None])

    return sample


def prepare(model: LoadedModel, run: Run, task: PictureTask) -> PictureBench:
    """The model with its data.

    Raises:
        DataError: the data can't be used, or do not fit the model.
    """
    return PictureBench(model, task, defaults_for(model, task), trained_steps(model, task), *splits_for(model, run))


def choose_steps(bench: PictureBench, features: Features, progress: Callable[[str], None]) -> dict[str, Any]:
    """How many refinement steps make pictures nearest to held-out *validation* pictures, by kernel distance (KID).

    Returns:
        ``steps``, the best number of at least one; ``kid`` and ``psnr`` of each number, 0 standing for the proposals.
    """
    data = bench.valid
    truth, masks = to_float(data.images), bench.masks(data)
    conditions = truth if data.conditions is None or masks is not None else to_float(data.conditions)
    target = features(truth)
    distances: dict[str, float] = {}
    fidelity: dict[str, float] = {}
    for steps in range(bench.trained_steps + 1):
        trial = replace(bench, defaults={**bench.defaults, "steps": steps})
        pictures = sampler(trial)(conditions, masks, _CHOICE_SEED, 1, steps > 0)[:, 0]
        distances[str(steps)] = kid(features(pictures), target)
        fidelity[str(steps)] = float(psnr(pictures, truth, masks).mean())
        progress(
            f"{steps} steps: KID {distances[str(steps)]:.5f}, PSNR {fidelity[str(steps)]:.2f} on {len(data)} images"
        )
    best = min(range(1, bench.trained_steps + 1), key=lambda steps: distances[str(steps)])
    return {"steps": best, "kid": distances, "psnr": fidelity}


def evaluate(
    bench: PictureBench,
    features: Features,
    data: ImageData,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Proposals and refined pictures of a set of images: see :func:`models.metrics.translation.evaluate_pictures`."""
    return evaluate_pictures(
        sampler(bench),
        data,
        masks=bench.masks(data),
        results=_RESULTS,
        features=features,
        progress=progress,
        others=bench.train,
    )


def evaluation(task_of: Callable[[Any], PictureTask]) -> Evaluation:
    """Models that answer images: held-out answers judge, and kernel distances.

    Args:
        task_of: kernels -> the task that the model was trained for.
    """

    def choose(bench: PictureBench, run: Run) -> Choice:
        report = choose_steps(bench, run.features(), run.progress)
        better = replace(bench, defaults={**bench.defaults, "steps": report["steps"]})
        return Choice(better, report["steps"], report)

    return Evaluation(
        options={},
        prepare=lambda model, run: prepare(model, run, task_of(model.kernels)),
        evaluate=lambda bench, run: evaluate(bench, run.features(), bench.test, run.progress),
        choose_steps=choose,
    )
