"""Trainings of minutes on a GPU: ``python -m benchmarks.device_training --recipe NAME ... --data FOLDER --out O``.

Cooperative training of the two models that answer images, without a word between host and device: data, augmentation
and noise are made on the device, an iteration is one captured graph, and figures are read now and then. Several
trainings may share the card, each on its own stream or each in its own process. It needs torch, numpy, safetensors and
pydantic alone. The rates follow the time that is left. ``python -m benchmarks.device_data``
makes ``FOLDER``. What the recipes vary is what the objective leaves free: see :class:`Recipe`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from models.data.holes import holes
from models.data.images import to_float, to_uint8
from models.data.line_art import synthesize, transformed
from models.networks.layers import PooledConv2d, channels_last, pooled_kernel
from models.systems.ccoopnets.config import RefinementConfig, pooled
from models.systems.ccoopnets.images.config import IMAGE_PRESETS, ImageConfig, PairSolverConfig
from models.systems.ccoopnets.images.networks import PairSolver, unet

_STATS = ("loss_solver", "gap", "scale", "l1_proposal", "l1_refined", "move", "range", "l1_supervised")
_ALIGNED = 0.3
"""The share of a batch of drawings that are pairs of one hand; the others are synthesized."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, and what may differ from the published objective.

    Args:
        preset: the configuration that it starts from.
        lag: weight of the pull of the proposals to the refined pictures (``l2_weight``; 0.8 is the published objective
            as the shipped models had it). A small one leaves the refinement something to do.
        widths: of the solver's layers, each of which halves the map.
        steps, eta: of the refinement.
        tau: noise of each step but the last one.
        lr_solver: its greatest rate.
        proposals: weight of the proposals among the pictures whose value is lowered, beside the refined ones.
        spectrum: the greatest norm of a layer of the solver; None: free.
        supervised: weight of the distance (l1) of the refined pictures from the true ones, through the last two steps.
    """

    preset: str
    lag: float = 0.8
    widths: tuple[int, ...] = (32, 64, 128)
    steps: int = 10
    eta: float = 4.0
    tau: float = 0.0
    lr_solver: float = 1e-4
    proposals: float = 0.0
    spectrum: float | None = None
    supervised: float = 0.0
    unet: tuple[int, ...] = (64, 128, 208, 224, 224)

    def config(self, batch: int) -> ImageConfig:
        """As a configuration of the house: such a model is loaded and served like any other."""
        base = IMAGE_PRESETS[self.preset]
        return base.model_copy(
            update={
                "initializer": base.initializer.model_copy(update={"widths": self.unet, "finish": 40}),
                "solver": PairSolverConfig(layers=tuple(map(pooled, self.widths)), activation="silu", local=True),
                "refinement": RefinementConfig(steps=self.steps, eta=self.eta, tau=self.tau),
                "training": base.training.model_copy(
                    update={
                        "batch_size": batch, "l2_weight": self.lag, "lr_solver": self.lr_solver, "ema": 0.999,
                        "precision": "bf16", "noise_fraction": float(self.tau > 0),
                    }
                ),
            }
        )  # fmt: skip


_WIDE = (48, 96, 192, 192)
RECIPES: dict[str, Recipe] = {
    "colour-control": Recipe("small-emoji"),
    "colour-lag": Recipe("small-emoji", lag=0.05, widths=_WIDE, lr_solver=2e-4, proposals=0.25),
    "colour-spectral": Recipe(
        "small-emoji", lag=0.05, widths=_WIDE, lr_solver=2e-4, proposals=0.25, spectrum=1.0, tau=0.02
    ),
    "colour-supervised": Recipe(
        "small-emoji", lag=0.05, widths=_WIDE, lr_solver=2e-4, proposals=0.25, supervised=10.0
    ),
    "fill-lag": Recipe("small-inpaint", lag=0.05, widths=_WIDE, lr_solver=2e-4, proposals=0.25),
    "fill-supervised": Recipe(
        "small-inpaint", lag=0.05, widths=_WIDE, lr_solver=2e-4, proposals=0.25, supervised=10.0
    ),
}  # fmt: skip


@dataclass
class Batch:
    """True pictures, conditions and, of an inpainting, where pixels are hidden; [-1, 1]."""

    y: Tensor
    c: Tensor
    mask: Tensor | None = None


# Data, on the device


class Drawings:
    """Line art and colour: aligned pairs of one hand, and pairs synthesized from coloured pictures."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        fluent = np.load(folder / "fluent.npz")
        flat, lines = _channels_first(fluent["images_train"]), fluent["conditions_train"][:, None]
        opaque = ((flat.min(1, keepdims=True) < 250) * 255).astype(np.uint8)
        colour = [np.load(folder / f"{name}.npz")["train"] for name in ("noto", "twemoji")]
        self._pairs = torch.from_numpy(np.concatenate([flat, lines], 1)).to(device)
        self._colour = torch.from_numpy(np.concatenate([*colour, np.concatenate([flat, opaque], 1)])).to(device)
        self._white = torch.ones(4, 1, 1, device=device)
        valid = _channels_first(fluent["images_valid"]), fluent["conditions_valid"][:, None]
        self.valid = Batch(*(to_float(torch.from_numpy(part)).to(device) for part in valid))

    def batch(self, n: int) -> Batch:
        size, aligned = self._pairs.shape[-1], round(_ALIGNED * n)
        pairs = _some(self._pairs, aligned)
        u = torch.rand(aligned, 6, device=pairs.device)
        pairs = transformed(pairs, share=0.5, size=size, mode="bicubic", u=u, ground=self._white)
        picture, drawing = synthesize(_some(self._colour, n - aligned), size)
        y, c = torch.cat([pairs[:, :3], picture]), torch.cat([pairs[:, 3:], drawing])
        return Batch(y * 2 - 1, c * 2 - 1)


class Holes:
    """Pictures with hidden pixels."""

    def __init__(self, folder: Path, device: torch.device, masks: int = 6000) -> None:
        arrays = [np.load(folder / f"{name}.npz") for name in ("noto", "twemoji")]
        noto, other = (a["train"][:, :3] for a in arrays)
        fluent = _channels_first(np.load(folder / "fluent.npz")["images_train"])
        self._images = torch.from_numpy(np.concatenate([noto, noto, other, fluent])).to(device)
        self._white = torch.ones(3, 1, 1, device=device)
        self._masks = holes(masks, noto.shape[-1], 12345).to(torch.uint8).to(device)
        valid = to_float(torch.from_numpy(arrays[0]["valid"][:, :3].copy())).to(device)
        mask = holes(len(valid), noto.shape[-1], 11).to(device)
        self.valid = _hidden(valid, mask)

    def batch(self, n: int) -> Batch:
        images = _some(self._images, n)
        u = torch.rand(n, 6, device=images.device)
        y = transformed(images, share=0.25, size=images.shape[-1], mode="bicubic", u=u, ground=self._white)
        mask = _some(self._masks, n)
        mask = torch.where(torch.rand(n, 1, 1, 1, device=mask.device) < 0.5, mask, mask.flip(3))
        mask = torch.where(torch.rand(n, 1, 1, 1, device=mask.device) < 0.5, mask, mask.transpose(2, 3))
        return _hidden(y * 2 - 1, mask)


def _channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _some(images: Tensor, n: int) -> Tensor:
    """So many images drawn at random, in [0, 1] (masks: as 0 and 1)."""
    chosen = images[(torch.rand(n, device=images.device) * len(images)).long()].float()
    return chosen if images.shape[1] == 1 else chosen / 255


def _hidden(y: Tensor, mask: Tensor) -> Batch:
    return Batch(y, torch.cat([torch.where(mask > 0, torch.zeros_like(y), y), mask], 1), mask)


# The solver as it is in a chain


def _layers(solver: PairSolver) -> list[PooledConv2d]:
    """Its layers; all recipes have pooled ones."""
    return [layer for layer in solver.layers if isinstance(layer, PooledConv2d)]


def drift_function(solver: PairSolver, c: Tensor, low: torch.dtype, *, graph: bool) -> Callable[[Tensor], Tensor]:
    """Y -> grad f(Y, C) with the weights cast once; with ``graph`` differentiable by the weights too."""
    split = _layers(solver)[0].weight.shape[1] - c.shape[1]
    layers = [(pooled_kernel(layer.weight).to(low), _bias(layer).to(low)) for layer in _layers(solver)]
    head = solver.head.weight.sum(0)
    if not graph:
        layers, head = [(w.detach(), b.detach()) for w, b in layers], head.detach()
    (first, bias), *others = layers
    given = F.conv2d(c.to(low), first[:, split:], bias, 2, 1)

    def drift(y: Tensor) -> Tensor:
        y = y if graph and y.requires_grad else y.detach().requires_grad_(True)
        with torch.enable_grad():
            h = F.silu(F.conv2d(y.to(low), first[:, :split], None, 2, 1) + given)
            for weight, b in others:
                h = F.silu(F.conv2d(h, weight, b, 2, 1))
            total = (h.sum((2, 3), dtype=torch.float32) * head).sum()
        (gradient,) = torch.autograd.grad(total, y, create_graph=graph)
        return gradient

    return drift


def _bias(layer: PooledConv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _update(y: Tensor, move: Tensor, mask: Tensor | None) -> Tensor:
    return y + move if mask is None else torch.where(mask > 0, y + move, y)


def refine(recipe: Recipe, solver: PairSolver, y: Tensor, batch: Batch, low: torch.dtype, steps: int) -> Tensor:
    """The chain without its gradient."""
    drift = drift_function(solver, batch.c, low, graph=False)
    for k in range(steps):
        move = recipe.eta * drift(y)
        if recipe.tau and k < recipe.steps - 1:
            move = move + recipe.tau * torch.randn_like(y)
        y = _update(y, move, batch.mask).detach()
    return y


# Training


@dataclass
class Trainer:
    """Both networks, their averages and optimizers; ``iterate`` advances them and reads nothing back."""

    recipe: Recipe
    data: Drawings | Holes
    batch_size: int
    device: torch.device
    config: ImageConfig = field(init=False)

    def __post_init__(self) -> None:
        self.config = self.recipe.config(self.batch_size)
        cuda = self.device.type == "cuda"
        self.low = torch.bfloat16 if cuda else torch.float32
        self.unet = channels_last(unet(self.config)).to(self.device)
        self.solver = PairSolver(self.config).to(self.device)
        self.average = copy.deepcopy(self.unet), copy.deepcopy(self.solver)
        for network in self.average:
            network.requires_grad_(False)
        t = self.config.training
        self.rates = [torch.tensor(lr, device=self.device) for lr in (t.lr_initializer, t.lr_solver)]
        self.optimizers = [
            torch.optim.Adam(n.parameters(), lr, betas=t.betas, **({"fused": True, "capturable": True} if cuda else {}))
            for n, lr in zip((self.unet, self.solver), self.rates, strict=True)
        ]
        self.decay = torch.tensor(0.0, device=self.device)
        self.stats = torch.zeros(len(_STATS), device=self.device)
        self._vectors = [F.normalize(torch.randn(layer.weight.shape[0], device=self.device), dim=0)
                         for layer in _layers(self.solver)]  # fmt: skip

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        if self.device.type == "cpu":
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)

    def propose(self, unet: nn.Module, batch: Batch) -> Tensor:
        masks = [torch.rand(len(batch.c), *shape, device=self.device) for shape in self.unet.mask_shapes]
        with self._autocast():
            y: Tensor = unet(batch.c, masks)
        return y if batch.mask is None else torch.where(batch.mask > 0, y, batch.y)

    def iterate(self) -> None:
        """Algorithm 1, as the recipe has it."""
        t, r = self.config.training, self.recipe
        batch = self.data.batch(self.batch_size)
        proposal = self.propose(self.unet, batch)
        start = proposal.detach()
        refined = refine(r, self.solver, start, batch, self.low, r.steps)
        loss_solver, gap, scale, refined_by_weights = self._solver_loss(batch, start, refined)
        self._descend(1, loss_solver)
        if r.spectrum:
            self._limit_spectrum(r.spectrum)
        count = proposal.numel() if batch.mask is None else batch.mask.sum() * proposal.shape[1]
        l2, l1 = (proposal - refined).square().sum() / count, (proposal - batch.y).abs().sum() / count
        self._descend(0, t.l2_weight * l2 / (2 * t.sigma**2) + t.l1_weight * l1)
        with torch.no_grad():
            for average, network in zip(self.average, (self.unet, self.solver), strict=True):
                old: list[Tensor] = list(average.parameters())
                new: list[Tensor] = list(network.parameters())
                torch._foreach_mul_(old, self.decay)
                torch._foreach_add_(old, list(torch._foreach_mul(new, 1 - self.decay)))
            now = torch.stack([
                loss_solver.detach(), gap, scale, l1.detach(), (refined - batch.y).abs().sum() / count,
                (refined - start).abs().sum() / count, refined.abs().amax(), refined_by_weights,
            ])  # fmt: skip
            self.stats.lerp_(now, 0.02)

    def _solver_loss(self, batch: Batch, start: Tensor, refined: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        t, r = self.config.training, self.recipe
        images = [batch.y, refined] + ([start] if r.proposals else [])
        many = torch.cat(images)
        with self._autocast():
            noisy = many + t.instance_noise * torch.randn_like(many)
            f = self.solver(noisy, torch.cat([batch.c] * len(images))).view(len(images), -1)
        f_model = f[1] if len(f) == 2 else (1 - r.proposals) * f[1] + r.proposals * f[2]
        loss = f_model.mean() - f[0].mean() + t.penalty * f[:2].square().sum(0).mean()
        l1_last = torch.zeros_like(loss.detach())
        if r.supervised:
            y = refine(r, self.solver, start, batch, self.low, r.steps - 2)
            drift = drift_function(self.solver, batch.c, self.low, graph=True)
            for _ in range(2):
                y = _update(y, r.eta * drift(y), batch.mask)
            count = y.numel() if batch.mask is None else batch.mask.sum() * y.shape[1]
            l1 = (y - batch.y).abs().sum() / count
            loss, l1_last = loss + r.supervised * l1, l1.detach()
        return loss, (f[0] - f[1]).mean().detach(), f.abs().mean().detach(), l1_last

    def _descend(self, which: int, loss: Tensor) -> None:
        self.optimizers[which].zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[which].step()

    def _limit_spectrum(self, limit: float) -> None:
        """Divide each layer's weights by as much as their norm (one power iteration) is above the limit."""
        with torch.no_grad():
            for layer, u in zip(_layers(self.solver), self._vectors, strict=True):
                matrix = layer.weight.flatten(1)
                v = F.normalize(matrix.t() @ u, dim=0)
                wv = matrix @ v
                u.copy_(F.normalize(wv, dim=0))
                layer.weight.div_((wv.norm() / limit).clamp(min=1))

    def schedule(self, done: float, iteration: int) -> None:
        """The rates and the averages' decay at this share of the time."""
        t = self.config.training
        scale = t.lr_final + (1 - t.lr_final) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        warm = min(1.0, (iteration + 1) / 200)
        for rate, lr in zip(self.rates, (t.lr_initializer, t.lr_solver), strict=True):
            rate.fill_(lr * scale * warm)
        self.decay.fill_(min(t.ema, 1 - 1 / (1 + iteration / 10)))

    def captured(self) -> Callable[[], None]:
        """The iteration as one launch; on a CPU the iteration itself."""
        if self.device.type != "cuda":
            return self.iterate
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(4):
                self.iterate()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.iterate()
        return graph.replay

    # What is kept

    def measure(self) -> dict[str, float]:
        """Held-out figures of the averaged networks: PSNR of proposals and of pictures after some steps."""
        batch, found = self.data.valid, dict[str, float]()
        unet, solver = self.average
        with torch.no_grad():
            y = self.propose(unet, batch)
        found["psnr_0"] = _psnr(y, batch)
        start = y
        quiet = Recipe(self.recipe.preset, eta=self.recipe.eta)
        for k in range(1, 2 * self.recipe.steps + 1):
            y = refine(quiet, solver, y, batch, self.low, 1)
            if k in (1, 2, 4, 6, self.recipe.steps, 15, 2 * self.recipe.steps):
                found[f"psnr_{k}"] = _psnr(y, batch)
                found[f"move_{k}"] = float((y - start).abs().mean() * 127.5)
        return found

    def export(self, path: Path) -> None:
        tensors = {
            f"{name}.{k}": v.detach().to(torch.float16).cpu().contiguous()
            for name, network in zip(("initializer", "solver"), self.average, strict=True)
            for k, v in network.state_dict().items()
        }
        save_file(tensors, path)


def _psnr(y: Tensor, batch: Batch) -> float:
    error = (to_uint8(y).double() - to_uint8(batch.y).double()).div(255).square()
    mask = torch.ones_like(batch.y[:, :1]) if batch.mask is None else batch.mask
    mse = (error * mask).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * y.shape[1])
    return float((-10 * mse.clamp(min=1e-10).log10()).mean())


class Run:
    """One training on a stream of its own, so that the device works on several at a time."""

    def __init__(self, name: str, trainer: Trainer) -> None:
        self.name, self.trainer, self.iteration = name, trainer, 0
        self.log: list[dict[str, Any]] = []
        self.valid: dict[str, dict[str, float]] = {}
        self.ended = False
        self._stream = torch.cuda.Stream() if trainer.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._advance = trainer.captured()

    def on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def begin(self, done: float) -> None:
        with self.on_stream():
            self.trainer.schedule(done, self.iteration)

    def advance(self) -> None:
        with self.on_stream():
            self._advance()
        self.iteration += 1

    def look(self, seconds: float) -> None:
        """Read the figures, and write them down now and then; a training that diverged ends."""
        with self.on_stream():
            numbers = self.trainer.stats.tolist()  # waits for the device
        self.ended = not all(map(math.isfinite, numbers))
        if self.ended or not self.log or self.iteration >= self.log[-1]["iteration"] * 1.15:
            stats = dict(zip(_STATS, (round(v, 5) for v in numbers), strict=True))
            self.log.append({"iteration": self.iteration, "seconds": round(seconds, 2), **stats})
            print(self.name, json.dumps(self.log[-1]), flush=True)

    def measure(self, mark: float) -> None:
        with self.on_stream():
            self.valid[f"{mark:g}"] = self.trainer.measure()
        print(self.name, mark, json.dumps(self.valid[f"{mark:g}"]), flush=True)


def train(runs: Sequence[Run], seconds: float, every: int, save: Callable[[Run, float], None]) -> None:
    """Until the time is over, an iteration of each in turn."""
    started, marks = time.monotonic(), [0.5, 0.75]
    while (passed := time.monotonic() - started) < seconds and (going := [run for run in runs if not run.ended]):
        for run in going:
            run.begin(passed / seconds)
        for _ in range(every):
            for run in going:
                run.advance()
        passed = time.monotonic() - started
        for run in going:
            run.look(passed)
        if marks and passed > marks[0] * seconds:
            mark = marks.pop(0)
            for run in going:
                run.measure(mark)
                save(run, mark)
    for run in runs:
        run.measure(1.0)
        save(run, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, required=True, nargs="+", help="trained at the same time")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=360.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--every", type=int, default=50, help="iterations between looks at the clock")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    a = parser.parse_args()
    began, device = time.monotonic(), torch.device(a.device)
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    presets = {RECIPES[recipe].preset for recipe in a.recipe}
    data: dict[str, Drawings | Holes] = {
        preset: Drawings(a.data, device) if preset == "small-emoji" else Holes(a.data, device) for preset in presets
    }
    a.out.mkdir(parents=True, exist_ok=True)
    runs = []
    for recipe in a.recipe:
        try:
            runs.append(Run(recipe, Trainer(RECIPES[recipe], data[RECIPES[recipe].preset], a.batch, device)))
        except RuntimeError:
            traceback.print_exc()
        print(recipe, f"ready after {time.monotonic() - began:.1f} s", flush=True)

    def save(run: Run, mark: float) -> None:
        run.trainer.export(a.out / f"{run.name}.safetensors")
        facts = {"device": name, "torch": torch.__version__, "config": run.trainer.config.model_dump(mode="json")}
        figures = {"iterations": run.iteration, "share_of_time": mark, "valid": run.valid, "log": run.log}
        (a.out / f"{run.name}.json").write_text(json.dumps({"recipe": run.name, **facts, **figures}))

    train(runs, a.seconds, a.every, save)


if __name__ == "__main__":
    main()
