"""An energy in minutes on a GPU: ``python -m benchmarks.device_energy --data FILE --out FOLDER --seconds 220``.

Energy matching, then a contrastive phase in which the mismatch stays, in bfloat16, without a word between host and
device: data, noise, outliers and chains are made on the device, an iteration is one captured graph, and figures are
read now and then. ``FILE`` is an npz archive with ``images_train``, 28 x 28 in grey. The result is the averaged weights
as a checkpoint of ``cfebm`` has them, with its configuration. It needs torch, numpy, safetensors and pydantic alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from models.systems.cfebm.config import GenerationConfig
from models.systems.cfebm.matching import mismatch, misranking
from models.systems.cfebm.networks import BASE, Energy, fold, fuse
from models.systems.cfebm.presets import GENERATION_PRESETS

_SWISH, _ROOT = 1.1, math.sqrt(2)
_MATCHED = 128
"""Images of a matching update; half as many in the contrastive phase."""
_NORM = 1.0
"""Gradients are scaled down to this norm."""
_GAP = 500.0
"""An update whose chains are farther from the data than this changes nothing."""
_MARKS = (0.5, 0.75)
_STATS = ("f_data", "f_chain", "loss", "gradient", "chain_std", "data_std", "skipped")

Kernels = Mapping[str, Tensor]


# The energy with its poolings, 1x1 convolutions and constant factors inside its convolutions


def lean(plain: Mapping[str, Tensor], size: int, low: torch.dtype) -> dict[str, Tensor]:
    """Kernels for :func:`lean_value` from plain ones, which may carry gradients."""
    folded = fold(fuse(plain), size)
    made: dict[str, Tensor] = {}
    before, at = 1.0, size
    while at > BASE:
        for part, factor in (("first", before), ("second", 1 / _SWISH), ("skip", before * _SWISH)):
            weight, bias = folded[f"{part}{at}.weight"] * factor, folded[f"{part}{at}.bias"]
            if part == "skip":
                weight = weight if weight.shape[-1] == 2 else (weight / 4).expand(-1, -1, 2, 2)
                bias = bias * _SWISH
            made[f"{part}{at}.weight"], made[f"{part}{at}.bias"] = weight, bias
        before, at = 1 / (_SWISH * _ROOT), at // 2
    made["top_first.weight"], made["top_first.bias"] = folded["top_first.weight"] * before, folded["top_first.bias"]
    made["top_second.weight"] = folded["top_second.weight"] / _SWISH
    made["top_second.bias"] = folded["top_second.bias"]
    # The channel of ones carries the 1x1 bias to the border; its answer is the same for all images.
    weight = made[f"first{size}.weight"]
    ones = torch.ones(1, 1, size, size, device=weight.device, dtype=weight.dtype)
    made["given"] = F.conv2d(ones, weight[:, -1:], made[f"first{size}.bias"], 1, 1)
    made[f"first{size}.weight"] = weight[:, :-1]
    cast = {name: value.to(low) for name, value in made.items()}
    kernels = {
        name: value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
        for name, value in cast.items()
    }
    return kernels | {"head": folded["head.weight"].flatten() / _SWISH, "head.bias": folded["head.bias"]}


def lean_value(kernels: Kernels, y: Tensor, size: int) -> Tensor:
    """f of images ``[n, C, size, size]``: ``[n]``, as ``models.systems.cfebm.networks.value`` gives it with swish."""

    def conv(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, kernels[f"{name}.weight"], kernels[f"{name}.bias"], stride, padding)

    x = y.to(kernels["given"].dtype)
    h = F.silu(F.conv2d(x, kernels[f"first{size}.weight"], None, 1, 1) + kernels["given"])
    at = size
    while True:
        h = F.silu(conv(f"second{at}", h, 2, 1)) + conv(f"skip{at}", x, 2)
        at //= 2
        if at == BASE:
            break
        x = h
        h = F.silu(conv(f"first{at}", x, 1, 1))
    h = F.silu(conv("top_second", F.silu(conv("top_first", h, 1, 1))))
    return (h.flatten(1).float() * kernels["head"]).sum(1) + kernels["head.bias"]


# What no chain has made


def _uniform(n: int, *shape: int, device: torch.device) -> Tensor:
    return torch.rand(n, *shape, device=device)


def _square(side: Tensor, size: int) -> Tensor:
    """True in a square of each side ``[n, 1, 1]`` at any place: ``[n, 1, size, size]``."""
    at = torch.arange(size, device=side.device)
    corner = (_uniform(len(side), 2, 1, device=side.device) * (size - side + 1)).floor()
    inside = (at >= corner) & (at < corner + side)
    return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]


def _outlines(images: Tensor, *, thick: Tensor | None = None) -> Tensor:
    n, size, device = len(images), images.shape[-1], images.device
    edges = F.max_pool2d(images, 3, 1, 1) + F.max_pool2d(-images, 3, 1, 1)
    edges = (edges * (1 + _uniform(n, 1, 1, 1, device=device)) - 1).clamp(-1, 1)
    if thick is not None:
        edges = torch.where(thick, F.max_pool2d(edges, 3, 1, 1), edges)
    side = (size * (0.4 + 0.6 * _uniform(n, 1, 1, device=device))).ceil()
    return torch.where(_square(side, size), edges, torch.full_like(edges, -1.0))


def corrupted(images: Tensor, std: float, *, outlined: bool) -> Tensor:
    """As :func:`models.systems.cfebm.generation.corruption.corrupted`, with the device's own numbers."""
    n, _, size, _ = images.shape
    kind = torch.arange(n, device=images.device)[:, None, None, None] % 4
    stds = std * _uniform(n, 1, 1, 1, device=images.device)
    if outlined:
        images = torch.where(kind == 2, _outlines(images), images)
        stds = torch.where(kind == 2, stds * 0.1, stds)
    noisy = images + stds * torch.randn_like(images)
    side = torch.full((n, 1, 1), float(size // 2), device=images.device)
    return torch.where(_square(side, size) & (kind % 2 == 1), torch.rand_like(images) * 2 - 1, noisy).clamp(-1, 1)


def outliers(images: Tensor) -> Tensor:
    """Half outlines, thin and thick; the others means of two images, and plain ones."""
    n = len(images)
    kind = torch.arange(n, device=images.device)[:, None, None, None] % 8
    edges = _outlines(images, thick=kind % 2 == 0)
    plain = (_uniform(n, 1, 1, 1, device=images.device) * 2 - 1).expand_as(images)
    made = torch.where(kind < 4, edges, torch.where(kind < 6, (images + images.flip(0)) / 2, plain))
    return (made + 0.1 * _uniform(n, 1, 1, 1, device=images.device) * torch.randn_like(images)).clamp(-1, 1)


class Trainer:
    """One energy, its average and its optimizer; ``match`` and ``contrast`` advance them and read nothing back.

    Args:
        config: of one stage.
        images: uint8 ``[N, 1, H, W]``, on the device.
    """

    def __init__(self, config: GenerationConfig, images: Tensor) -> None:
        self.config, self.images, self.device = config, images, images.device
        (self.stage,) = config.stages
        self._shape = (config.channels, config.size, config.size)
        cuda = self.device.type == "cuda"
        self.low = torch.bfloat16 if cuda else torch.float32
        self.net = Energy(config.network, config.channels, config.entries_of(0)).to(self.device)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.rate, self.decay = (torch.tensor(0.0, device=self.device) for _ in range(2))
        self.stats = torch.zeros(len(_STATS), device=self.device)
        fast: dict[str, Any] = {"fused": True, "capturable": True} if cuda else {}
        rate = self.rate if cuda else 1e-3
        self.optimizer = torch.optim.Adam(self.net.parameters(), rate, betas=config.training.betas, **fast)

    def _observed(self, n: int) -> Tensor:
        index = (_uniform(n, device=self.device) * len(self.images)).long()
        margin = (self.config.size - self.config.image_size) // 2
        x = F.pad(self.images[index].float() / 127.5 - 1, (margin,) * 4, value=self.config.border)
        return (x + self.config.training.data_noise * torch.randn_like(x)).clamp(-1, 1)

    def _f(self, kernels: Kernels, y: Tensor) -> Tensor:
        return lean_value(kernels, y, self.config.size)

    def _kernels(self) -> dict[str, Tensor]:
        return lean(self.net.effective(), self.config.size, self.low)

    def chain(self) -> Tensor:
        """Chain ends: some begin with noise, some with corrupted images."""
        t, sampler, steps, n = self.config.training, self.config.sampler, self.stage.steps, self.stage.batch_size
        m, size = int(t.spoiled * n), self.config.size
        y = _uniform(n - m, self.config.channels, size, size, device=self.device) * 2 - 1
        y = torch.cat([y, corrupted(self._observed(m), t.spoiled_std, outlined=t.outlined)])
        with torch.no_grad():
            kernels = self._kernels()
        for k in range(steps):
            y = y.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._f(kernels, y).sum(), y)
            sigma = sampler.s1 + (sampler.s0 - sampler.s1) * (1 - k / steps)
            y = y.detach() + sampler.lr * gradient.float() + sigma * torch.randn_like(y)
        return y.detach().clamp(-1, 1)

    def _matching(self, kernels: Kernels, n: int) -> Tensor:
        x = self._observed(n)
        t = _uniform(n, 1, 1, 1, device=self.device)
        return mismatch(lambda y: self._f(kernels, y), x, torch.rand_like(x) * 2 - 1, t)

    def _ranking(self, kernels: Kernels, n: int) -> Tensor:
        t = self.config.training
        data, others, spoiled = self._observed(3 * n).view(3, n, *self._shape)
        quarter = n // 4
        none = torch.cat([outliers(others[: n - quarter]), corrupted(spoiled[:quarter], t.spoiled_std, outlined=False)])
        f_data, f_none = self._f(kernels, torch.cat([data, none])).view(2, n)
        return t.outliers * misranking(f_none, f_data, data[0].numel())

    def match(self) -> None:
        kernels = self._kernels()
        loss = self._matching(kernels, _MATCHED) + self._ranking(kernels, _MATCHED // 4)
        zero = torch.zeros_like(loss.detach())
        self._descend(loss, zero, zero, zero, zero)

    def contrast(self) -> None:
        n = self.stage.batch_size
        data, chain = self._observed(n), self.chain()
        kernels = self._kernels()
        f_data, f_chain = self._f(kernels, torch.cat([data, chain])).view(2, n).mean(1)
        loss = self.config.training.contrast * (f_chain - f_data)
        loss = loss + self._matching(kernels, _MATCHED // 2) + self._ranking(kernels, n // 2)
        self._descend(loss, f_data.detach(), f_chain.detach(), chain.std(), data.std())

    def _descend(self, loss: Tensor, f_data: Tensor, f_chain: Tensor, chain_std: Tensor, data_std: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            healthy = norm.isfinite() & ((f_data - f_chain).abs() < _GAP)
            scale = (_NORM / norm.clamp(min=1e-9)).clamp(max=1.0)
            for g in gradients:
                g.copy_(torch.where(healthy, g * scale, torch.zeros_like(g)))
        if self.device.type == "cpu":
            for group in self.optimizer.param_groups:
                group["lr"] = float(self.rate)
        self.optimizer.step()
        with torch.no_grad():
            for old, new in zip(self.average.parameters(), self.net.parameters(), strict=True):
                old.mul_(self.decay).add_(new * (1 - self.decay))
            now = torch.stack([f_data, f_chain, loss.detach(), norm, chain_std, data_std, 1 - healthy.float()])
            self.stats.lerp_(now.nan_to_num(1e9), 0.02)

    def forget(self) -> None:
        """A fresh Adam, for another phase."""
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def captured(self, iterate: Callable[[], None]) -> Callable[[], None]:
        """An iteration as one launch; the iteration itself on a CPU, or where it can't be captured.

        The rate is 0 meanwhile, so nothing moves.
        """
        if self.device.type == "cpu":
            return iterate
        try:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                iterate()
                iterate()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                iterate()
        except RuntimeError as error:
            print(f"not captured: {error}", flush=True)
            return iterate
        return graph.replay

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """The averaged weights as a checkpoint has them, and how they came about."""
        with torch.no_grad():
            plain = self.average.effective()
        unused = tuple(f"rgb{entry}." for entry in self.net.sizes[:-1])
        place = f"net{self.config.size}"
        tensors = {f"{place}.{k}": v.cpu().contiguous() for k, v in plain.items() if not k.startswith(unused)}
        save_file(tensors, folder / "model.safetensors")
        config = self.config.model_dump(mode="json")
        (folder / "training.json").write_text(json.dumps({"config": config, **facts}, indent=1))


def train(trainer: Trainer, seconds: float, every: int, save: Callable[[int], None]) -> int:
    """Both phases, until the time is over; the number of iterations."""
    t, steps = trainer.config.training, [trainer.captured(trainer.match), trainer.captured(trainer.contrast)]
    trainer.forget()
    trainer.stats.zero_()
    began, iterations, since, phase, marks = time.monotonic(), 0, 0, 0, list(_MARKS)
    while (done := (time.monotonic() - began) / seconds) < 1:
        if done >= t.matching and phase == 0:
            phase, since = 1, 0
            trainer.forget()
        part = (done - t.matching) / (1 - t.matching) if phase else done / t.matching
        top = trainer.stage.learning_rate if phase else t.matching_rate
        fallen = t.lr_final + (1 - t.lr_final) * (1 + math.cos(math.pi * part)) / 2
        trainer.rate.fill_(top * fallen * min(1.0, (since + 1) / 100))
        trainer.decay.fill_(min(t.ema, 1 - 1 / (1 + since / 10)))
        for _ in range(every):
            steps[phase]()
        iterations, since = iterations + every, since + every
        figures = dict(zip(_STATS, (round(v, 4) for v in trainer.stats.tolist()), strict=True))
        if since % (10 * every) == 0:
            print(f"{time.monotonic() - began:.1f} s, {iterations} iterations: {json.dumps(figures)}", flush=True)
        if marks and done >= marks[0]:
            marks.pop(0)
            save(iterations)
    save(iterations)
    return iterations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=220.0)
    parser.add_argument("--every", type=int, default=20, help="iterations between looks at the clock")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    a = parser.parse_args()
    device, out = torch.device(a.device), a.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    with np.load(a.data) as archive:
        images = torch.from_numpy(archive["images_train"].reshape(-1, 1, 28, 28).copy()).to(device)
    trainer = Trainer(GENERATION_PRESETS["small-matched"], images)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts = {"device": name, "torch": torch.__version__, "seconds": a.seconds, "seed": a.seed, "images": len(images)}
    train(trainer, a.seconds, a.every, lambda iterations: trainer.save(out, {**facts, "iterations": iterations}))


if __name__ == "__main__":
    main()
