"""An image of one domain to another domain, learned without pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from models.core.jobs import Label, ScoreJob, TranslateJob, needed
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import begin_film, end_film, repeat
from models.systems.cfebm.chain import FREE, chain_numbers
from models.systems.cfebm.translation.model import CFEBMTranslation
from models.systems.judging import judge


def translate(model: CFEBMTranslation, job: TranslateJob) -> Task[Output]:
    r"""The short run under the target domain's energy, started at the source image (section 3.3 of the paper).

    The extras show where the image was changed, as grey pictures, white = most: ``net``, the mean over channels of
    :math:`\lambda |\sum_t \nabla E(y_t)|`, which forgets what was done and undone, and ``path``, that of
    :math:`\sum_t |\lambda \nabla f(y_t)|`, which does not.
    """
    seeds = row_seeds(job.seed, job.n)
    energy = model.energies[domain_of(job.label)]
    rows = chain_numbers(model, job.n, job.noise, job.step_size, 0, job.steps)
    y = repeat(model.padded(job.image.to(model.device)), job.n, model.device)
    rows |= {"y": y, "net": torch.zeros_like(y), "path": torch.zeros_like(y)}
    chain = energy.chain
    if job.animate:
        rows |= begin_film(y, job.steps)
        chain = energy.film
    shown, judge = model.shown, energy.evaluate
    rows = yield Loop(chain, rows, job.steps, seeds, "translate", preview=shown, judge=judge, keep=["y"], bound=FREE)
    rows = yield Loop(energy.evaluate, rows, steps=1, seeds=seeds, name="score")
    maps = {"net": rows["lr"] * rows["net"], "path": rows["path"]}
    return Output(
        images=model.shown(rows),
        energy=-rows["f"],
        seeds=seeds,
        extras={name: model.cropped(shades(value)) for name, value in maps.items()},
        film=model.cropped_film(end_film(rows)) if job.animate else None,
    )


def shades(change: Tensor) -> Tensor:
    """A change of pixels ``[n, C, H, W]`` as grey pictures in [-1, 1]: -1 = none, 1 = by the whole range of 2 or more.

    One scale for all: a scale of its own would make the smallest changes look like the largest.
    """
    return change.abs().mean(1, keepdim=True).clamp(0, 2) - 1


def domain_of(label: Label | None) -> str:
    """The domain of greatest weight: energies of different domains have no common scale, so they aren't mixed."""
    weights = needed(label, "label")
    return max(weights, key=lambda name: weights[name])


def score(model: CFEBMTranslation, job: ScoreJob) -> Task[Output]:
    """f of the image under the energy of a domain, and where it lies among held-out images of that domain."""
    name = domain_of(job.label)
    rows = chain_numbers(model, 1, job.noise, job.step_size, 0, job.steps)
    rows["y"] = repeat(model.padded(job.image.to(model.device)), 1, model.device)
    known = model.calibration.get("conditions", {}).get(name)
    return (yield from judge(model.energies[name], rows, job, known, FREE))
