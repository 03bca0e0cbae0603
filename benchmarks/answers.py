"""What a shipped cGML gains from its steps: ``python -m benchmarks.answers --model FOLDER --data SET``.

Errors, likeness and differences of its answers after more and more of the predictor's steps, beside one colour for all
pixels; completions by the size of the hole; answers from one start alone. With ``--probe`` also how well a linear
classifier reads classes from the vectors of ``embed``, beside networks of random weights and the pixels themselves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.checkpoints import load_model
from models.core.model import LoadedModel
from models.core.noise import mix
from models.data.catalog import load
from models.data.images import ImageData, to_float
from models.evaluation.modes import Questions, asked, questions
from models.metrics.modes import as_answers, greatest_of_several, of_several
from models.metrics.pictures import diversity, l1, psnr
from models.systems.cgml.coder import Coder
from models.systems.cgml.images.model import Cgml

STEPS = (0, 1, 2, 3, 5, 10, 20, 40)
AREAS = (0.10, 0.15, 0.25)
"""Of holes, as parts of the picture; each is the middle square."""
_RESULTS, _SEED, _AT_ONCE = 8, 3, 64
_PROBED, _SEEDS, _ROUNDS = 2000, 5, 200


def by_steps(model: LoadedModel, q: Questions, steps: Sequence[int]) -> list[dict[str, float]]:
    """Figures of eight answers to each question after so many steps."""
    return [{"steps": n, **figures(asked(model, q, _RESULTS, _SEED, steps=n), q)} for n in steps]


def figures(answers: Tensor, q: Questions) -> dict[str, float]:
    """PSNR and mean absolute differences of the first, all and the best; and how much answers differ."""
    many, truth = as_answers(answers, q.truth)
    masks = None if q.masks is None else q.masks.repeat_interleave(answers.shape[1], 0)
    shape = answers.shape[:2]
    likeness = greatest_of_several(psnr(many, truth, masks).reshape(shape))
    errors = of_several(l1(many, truth, masks).reshape(shape))
    return {
        **{f"psnr_{name}": value for name, value in likeness.items()},
        "psnr_of_average": float(psnr(answers.mean(1), q.truth, q.masks).mean()),
        **{f"l1_{name}": value for name, value in errors.items()},
        "diversity": diversity(answers, q.masks) if answers.shape[1] > 1 else 0.0,
    }


def one_colour(q: Questions) -> dict[str, float]:
    """The same figures of pictures that are their true mean colour, or a hole in the mean of what is seen."""
    seen = torch.ones_like(q.truth[:, :1]) if q.masks is None else (q.masks == 0).float()
    mean = (q.truth * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)
    return figures(mean.expand_as(q.truth)[:, None].contiguous(), q)


def one_start(model: LoadedModel, q: Questions, n: int = 4) -> float:
    """How much answers differ that begin at one place of the latent: jobs of one result and one seed."""
    count = min(20, len(q.given))
    few = Questions(q.task, q.given[:count], q.truth[:count], None if q.masks is None else q.masks[:count])
    again = torch.cat([asked(model, few, 1, _SEED) for _ in range(n)], 1)
    return diversity(again, few.masks)


def holes_of(q: Questions, area: float) -> Questions:
    """The questions with a square hole of this part of the picture in its middle."""
    size = q.truth.shape[-1]
    side = round(size * area**0.5)
    top = (size - side) // 2
    masks = torch.zeros_like(q.truth[:, :1])
    masks[..., top : top + side, top : top + side] = 1
    return replace(q, masks=masks)


# What the vectors of ``embed`` tell


def probe(model: Cgml, train: ImageData, test: ImageData) -> dict[str, list[float]]:
    """Accuracies of linear classifiers on vectors of this model, of random networks, and on pixels; one a seed."""
    found: dict[str, list[float]] = {"trained": [], "random": [], "pixels": []}
    for seed in range(_SEEDS):
        parts = [_some(data, mix(seed, k)) for k, data in enumerate((train, test))]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            blank = Coder(model.config.network, model.config.channels_in, model.config.channels_out).eval()
        readers: dict[str, Callable[[Tensor], Tensor]] = {
            "trained": lambda x: _vectors(model, model.coder, x),
            "random": lambda x, blank=blank: _vectors(model, blank, x),  # type: ignore[misc]
            "pixels": lambda x: x.flatten(1),
        }
        for name, read in readers.items():
            (a, b), (labels, wanted) = [read(images) for images, _ in parts], [each for _, each in parts]
            found[name].append(linear(a, labels, b, wanted))
    return found


def _some(data: ImageData, seed: int) -> tuple[Tensor, Tensor]:
    assert data.labels is not None
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed % 2**63))[:_PROBED]
    return to_float(data.images[chosen]), data.labels[chosen].long()


def _vectors(model: Cgml, coder: Coder, images: Tensor) -> Tensor:
    """Of grey images of any size, as the model's own are conditioned."""
    channels = 3 if model.config.task == "inpaint" else 1
    size = [model.config.image_size] * 2
    grown = F.interpolate(images, size, mode="bilinear", antialias=True).expand(-1, channels, -1, -1)
    with torch.no_grad():
        parts = [torch.cat([model.condition(x) for x in part]) for part in torch.split(grown, _AT_ONCE)]
        return torch.cat([coder.encode(part).vector for part in parts])


def linear(a: Tensor, labels: Tensor, b: Tensor, wanted: Tensor) -> float:
    """The accuracy on b of a linear classifier fitted to a, with a little weight decay."""
    mean, deviation = a.mean(0), a.std(0).clamp_min(1e-6)
    a, b = (a - mean) / deviation, (b - mean) / deviation
    head = torch.nn.Linear(a.shape[1], int(labels.max()) + 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(head(a), labels) + 1e-3 * head.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return float((head(b).argmax(1) == wanted).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint's folder")
    parser.add_argument("--data", required=True, help="the set that it is measured on")
    parser.add_argument("--root", type=Path, default=Path("var/data"))
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--probe", help="a set with classes")
    a = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    model = load_model(a.model, torch.device("cpu"))
    kernels: Any = model.kernels
    if a.probe:
        found = probe(kernels, *(load(a.probe, split, a.root) for split in ("train", "test")))
        for name, values in found.items():
            each = torch.tensor(values)
            told({"vectors": name, "accuracy": float(each.mean()), "deviation": float(each.std())})
        return
    data = load(a.data, a.split, a.root).fit(kernels.config.image_size, kernels.config.channels)
    q = questions(kernels.config.task, data)
    told({"one colour": one_colour(q)})
    told({"diversity from one start": one_start(model, q)})
    for line in by_steps(model, q, a.steps):
        told(line)
    for area in AREAS if q.masks is not None else ():
        told({"area": area, **by_steps(model, holes_of(q, area), [20])[0]})


def told(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
