"""Measuring a model with several answers to a condition: the first, all, and the best of them, beside other models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from models.core.loop import run_together
from models.core.model import LoadedModel
from models.core.noise import mix
from models.data.holes import holes
from models.data.images import ImageData, fit, to_float, to_uint8
from models.data.lab import to_lab, to_rgb
from models.evaluation.base import Evaluation, EvaluationError, Run
from models.evaluation.jobs import defaults_for, job_of, pictures
from models.evaluation.labels import splits_for
from models.metrics.effnet import Features
from models.metrics.kid import kid_with_error
from models.metrics.modes import as_answers, greatest_of_several, of_several, sorted_out_diversity
from models.metrics.pictures import diversity, l1, psnr, ssim

AnswerTask: TypeAlias = Literal["translate", "colorize", "inpaint"]

RESULTS = 8
_SORTED, _REPEATS, _SORTED_CONDITIONS = 20, 5, 20
_SEED, _MASK_SEED = 3, 11
_AT_ONCE = 64
_WHITE = 250 / 127.5 - 1

PROTOCOL: Mapping[str, str] = {
    "first, mean, best": f"of the first result, over all {RESULTS} results, and of the best of {RESULTS} for each "
    "condition, averaged over test images",
    "psnr": "in dB, 8-bit images scaled to [0, 1]; in the hole where there is one",
    "psnr_of_average": f"the same of the average of the {RESULTS} results",
    "ssim": "structural similarity, Gaussian window of 11x11 pixels and deviation 1.5",
    "l1": "mean absolute difference, images in [-1, 1]",
    "ab_l1": "colourings: |a - a'| + |b - b'| in units of 110, mean over the pixels that are not white",
    "chroma": "colourings: mean of sqrt(a^2 + b^2) over the same pixels",
    "kid": "KID (EffNet-Lite0) of the first results to the true test images; lower is better",
    "diversity": f"mean absolute difference of all pairs of {RESULTS} results, images in [-1, 1]",
    "sorted_diversity": f"Appendix 3.4 of the cGML paper: 20 samples, 5 times, on {_SORTED_CONDITIONS} test images; 0 "
    "where two modes have equal weight",
    "random_latents": "the same model without the predictor's steps",
    "grey, copy, mean_fill": "the lightness alone, the condition itself, the hole in the mean colour of what is seen",
}


@dataclass(frozen=True, eq=False)
class AnswerBench:
    """A model with the data that it is measured against."""

    model: LoadedModel
    task: AnswerTask
    train: ImageData
    valid: ImageData
    test: ImageData


@dataclass(frozen=True, eq=False)
class Questions:
    """Test conditions with the true images; ``masks`` of holes, and which pixels count as coloured."""

    task: AnswerTask
    given: Tensor
    truth: Tensor
    masks: Tensor | None = None
    foreground: Tensor | None = None

    def fields(self, k: int) -> dict[str, Any]:
        """Of the job of condition k."""
        return {"image": self.given[k], **({} if self.masks is None else {"mask": self.masks[k]})}


def questions(task: AnswerTask, data: ImageData) -> Questions:
    """What a model is asked about a set of images.

    Raises:
        EvaluationError: a translation's data have no conditions.
    """
    truth = to_float(data.images)
    if task == "inpaint":
        masks = holes(len(data), data.shape[1], _MASK_SEED)
        return Questions(task, truth, truth, masks)
    if task == "colorize":
        return Questions(task, grey_of_lightness(truth), truth, None, truth.amin(1, keepdim=True) < _WHITE)
    if data.conditions is None:
        raise EvaluationError(f"{data.name} has no condition images to translate")
    return Questions(task, to_float(data.conditions), truth)


def grey_of_lightness(images: Tensor) -> Tensor:
    """Grey pictures ``[n, 1, H, W]`` of the lightness L* of coloured ones."""
    light = to_lab(images)[:, :1]
    return to_rgb(torch.cat([light, torch.zeros_like(light).expand(-1, 2, -1, -1)], 1))[:, :1]


def asked(model: LoadedModel, q: Questions, results: int, seed: int, **changes: Any) -> Tensor:
    """Answers ``[conditions, results, C, H, W]``; a model that has one answer gives it again and again.

    Args:
        changes: fields of the jobs that are not the card's defaults.
    """
    most = model.card["tasks"][q.task]["limits"]["max_n"]
    n, defaults, parts = min(results, most), defaults_for(model, q.task), []
    for places in torch.arange(len(q.given)).split(max(_AT_ONCE // n, 1)):
        jobs = [
            job_of(q.task, {**defaults, **changes}, n=n, seed=mix(seed, k) >> 1, **q.fields(k)) for k in places.tolist()
        ]
        parts += [pictures(output) for output in run_together([model.start(q.task, job) for job in jobs])]
    found = torch.stack(parts)
    return found if n == results else found[:, :1].expand(-1, results, -1, -1, -1)


def figures(answers: Tensor, q: Questions, features: Features, true_features: Tensor) -> dict[str, Any]:
    """What a set of answers is worth."""
    many, truth = as_answers(answers, q.truth)
    masks = None if q.masks is None else q.masks.repeat_interleave(answers.shape[1], 0)
    shape = answers.shape[:2]
    quality = psnr(many, truth, masks).reshape(shape)
    distance = kid_with_error(features(answers[:, 0].contiguous()), true_features)
    found: dict[str, Any] = {
        **_named("psnr", greatest_of_several(quality)),
        "psnr_of_average": float(psnr(answers.mean(1), q.truth, q.masks).mean()),
        **_named("l1", of_several(l1(many, truth, masks).reshape(shape))),
        "ssim": float(ssim(answers[:, 0].contiguous(), q.truth, q.masks).mean()),
        "kid": distance.value,
        "kid_std_error": distance.std_error,
        "diversity": diversity(answers, q.masks) if answers.shape[1] > 1 else 0.0,
    }
    if q.foreground is not None:
        errors, chroma = _colours(many, truth, q.foreground.repeat_interleave(answers.shape[1], 0))
        found |= {**_named("ab_l1", of_several(errors.reshape(shape))), "chroma": float(chroma.mean())}
    return found


def _named(name: str, of: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_{which}": value for which, value in of.items()}


def _colours(images: Tensor, truth: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Errors of (a, b) and chroma, each averaged over the foreground, ``[n]``."""
    errors, chromas = [], []
    for made, true, counted in zip(images.split(256), truth.split(256), foreground.split(256), strict=True):
        ab, wanted = (to_lab(x)[:, 1:] for x in (made, true))
        weights = counted[:, 0] / counted.sum((1, 2, 3)).clamp(min=1)[:, None, None]
        errors.append((((ab - wanted).abs().sum(1) / 110) * weights).sum((1, 2)))
        chromas.append((ab.norm(dim=1) * weights).sum((1, 2)))
    return torch.cat(errors), torch.cat(chromas)


def plain(q: Questions, channels: int) -> tuple[str, Tensor]:
    """The answer that needs no model."""
    if q.task == "colorize":
        return "grey", q.given.expand(-1, 3, -1, -1).contiguous()
    if q.masks is None:
        return "copy", _in_channels(q.given, channels)
    seen = (q.masks == 0).float()
    mean = (q.truth * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1)
    return "mean_fill", torch.where(q.masks > 0, mean, q.truth)


def _in_channels(images: Tensor, channels: int) -> Tensor:
    return to_float(fit(to_uint8(images), channels=channels))


def evaluate(bench: AnswerBench, run: Run) -> dict[str, Any]:
    """A card's ``metrics``: the model, the same without the predictor, the plainest answer, and models ``beside``."""
    q, features = questions(bench.task, bench.test), run.features()
    true_features = features(q.truth)

    def measured(answers: Tensor) -> dict[str, Any]:
        return figures(answers, q, features, true_features)

    run.progress(f"{RESULTS} answers to each of {len(q.given)} test images")
    report: dict[str, Any] = {"images": len(q.given), "protocol": dict(PROTOCOL)}
    report["answers"] = measured(asked(bench.model, q, RESULTS, _SEED))
    report["answers"]["sorted_diversity"] = sorted_diversity(bench.model, q)
    if bench.model.card["tasks"][bench.task]["limits"]["max_steps"]:
        run.progress("the same without the predictor's steps")
        report["random_latents"] = measured(asked(bench.model, q, RESULTS, _SEED, refine=False))
    name, simple = plain(q, bench.test.shape[0])
    report[name] = measured(simple[:, None])
    for name, other in run.beside.items():
        run.progress(f"beside it: {name}")
        report[name] = measured(asked(other, q, RESULTS, _SEED))
    return report


def sorted_diversity(model: LoadedModel, q: Questions) -> float:
    """The mean of :func:`models.metrics.modes.sorted_out_diversity` over some conditions and repetitions."""
    if model.card["tasks"][q.task]["limits"]["max_n"] < _SORTED:
        return 0.0
    count = min(_SORTED_CONDITIONS, len(q.given))
    few = Questions(q.task, q.given[:count], q.truth[:count], None if q.masks is None else q.masks[:count])
    values = []
    for repeat in range(_REPEATS):
        answers = (asked(model, few, _SORTED, mix(_SEED, 1 + repeat) >> 1) + 1) / 2
        values += [sorted_out_diversity(one) for one in answers]
    return sum(values) / len(values)


def evaluation(task_of: Callable[[Any], AnswerTask]) -> Evaluation:
    """Models with several answers to a condition.

    Args:
        task_of: kernels -> the task that the model was trained for.
    """

    def prepare(model: LoadedModel, run: Run) -> AnswerBench:
        task = task_of(model.kernels)
        for name, other in run.beside.items():
            if task not in other.card["tasks"]:
                raise EvaluationError(f"{name} can't {task}, so it can't be measured beside {model.card['name']}")
        return AnswerBench(model, task, *splits_for(model, run))

    return Evaluation(options={}, prepare=prepare, evaluate=evaluate, compares=True)
