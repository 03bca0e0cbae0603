"""Measuring the likelihood of held-out images under a model with a density."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from models.core.noise import Key, Noise, mix, row_seeds
from models.evaluation.likelihood import LikelihoodError, Mean, Settings, Value, effective_size, measure_log_z
from models.samplers.spaces import Box

PROTOCOL: dict[str, str] = {
    "value": "mean of f / tau over the test images",
    "log_z": "logarithm of the integral of exp(f / tau) over the box [-1, 1]^D, in nats: 'lower' is the mean log "
    "weight of annealed importance sampling from noise, 'estimate' the logarithm of the mean weight, on average too "
    "low as well, 'upper' the mean log weight of annealing back from the ends of these chains, a bound only as far as "
    "the ends are samples of the model; 'se' are standard errors",
    "log_likelihood": "value minus log_z, in nats an image of D = 'dimensions' pixels: the lower has the upper log_z. "
    "With pixels on the scale [0, 1] it is D log 2 greater than on [-1, 1]",
    "images": "number of test images; each of the 256 levels of a pixel is spread by uniform noise over its 256th of "
    "the range",
    "acceptance": "mean acceptance probability of the moves, over stretches of inverse temperature from 0 to 1",
    "effective_chains": "(sum of weights)^2 / sum of squared weights, of the chains from noise",
}

_CHUNK = 64
_SHOWN = 10


def dequantised(images: Tensor, seeds: Sequence[int]) -> Tensor:
    """uint8 ``[n, C, H, W]`` -> float32 in [-1, 1]: level p becomes uniform on [p, p + 1] / 256 of the range.

    Without it a density could be raised without bound by putting spikes on the 256 levels.
    """
    noise = Noise([Key(seed, 0, 0) for seed in seeds])
    return (images + noise.uniform(*images.shape[1:])) / 128 - 1


def evaluate_likelihood(
    f: Value, images: Tensor, settings: Settings, progress: Callable[[str], None] = lambda message: None
) -> dict[str, Any]:
    """What goes on a card as ``metrics.likelihood``: plain numbers that JSON can hold, and sentences that explain them.

    Args:
        f: see :data:`Value`; of pixels in [-1, 1].
        images: held-out, uint8 ``[n, C, H, W]``.
        settings: see :class:`Settings`.
        progress: is told what begins.

    Raises:
        LikelihoodError: f is not finite on the box or on the images.
    """
    progress(f"values of {len(images)} images")
    value = _mean_value(f, images, settings)
    box = Box()
    shape = images.shape[1:]
    log_z = measure_log_z(f, box, shape, settings, progress)
    lower, upper = log_z.bound(value)
    stretches = log_z.forward.acceptance.tensor_split(min(_SHOWN, settings.temperatures))
    return {
        "dimensions": shape.numel(),
        "value": asdict(value),
        "log_z": {"lower": asdict(log_z.lower), "estimate": log_z.estimate, "upper": asdict(log_z.upper)},
        "log_likelihood": {
            scale: {
                "lower": asdict(lower.plus(shift)),
                "estimate": value.value - log_z.estimate + shift,
                "upper": asdict(upper.plus(shift)),
            }
            for scale, shift in (("[-1, 1]", 0.0), ("[0, 1]", box.log_volume(shape.numel())))
        },
        "effective_chains": effective_size(log_z.forward.log_weights),
        "acceptance": [part.mean().item() for part in stretches],
        "divergent_moves": log_z.forward.divergent + log_z.reverse.divergent,
        "images": len(images),
        "settings": asdict(settings),
        "protocol": PROTOCOL,
    }


def _mean_value(f: Value, images: Tensor, settings: Settings) -> Mean:
    """Of f / tau."""
    if len(images) < 2:
        raise LikelihoodError("a standard error needs at least 2 test images")
    seeds, values = row_seeds(mix(settings.seed, 3), len(images)), []
    with torch.no_grad():
        for start in range(0, len(images), _CHUNK):
            part = slice(start, start + _CHUNK)
            values.append(f(dequantised(images[part], seeds[part])).double() / settings.tau)
    mean = Mean.of(torch.cat(values))
    if not math.isfinite(mean.value):
        raise LikelihoodError("f is not finite on the images: the model is damaged or has diverged")
    return mean
