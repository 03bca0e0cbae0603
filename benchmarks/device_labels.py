"""Images by class in minutes on a GPU: ``python -m benchmarks.device_labels --data FILE --out FOLDER --seconds 130``.

Cooperative training with labels (Algorithm 1 of the CCoopNets paper), in bfloat16 and without a word between host and
device: data and noise are on the device, an iteration is one captured graph. ``FILE`` is an npz archive with
``images_train`` and ``labels_train``, 28 x 28 in grey. The result is the averaged networks as a checkpoint of
``ccoopnets`` has them, in half precision, with their configuration.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from models.systems.ccoopnets.config import conv
from models.systems.ccoopnets.labels.config import PRESETS, Config
from models.systems.ccoopnets.labels.networks import Initializer, Solver

_WIDTHS = (160, 160, 80, 48)
"""Of the initializer's layers but the last one; the preset has 128, 128, 64 and 32."""
_SOLVER = (48, 96, 192)
_NORM = 20.0
"""Gradients are scaled down to this norm."""
_STATS = ("gap", "scale", "label", "move", "loss_initializer", "skipped")


def wide(batch: int) -> Config:
    """The preset ``small`` with wider networks, larger batches, a slower average and rates that fall to a tenth."""
    base = PRESETS["small"]
    layers = tuple(
        layer.model_copy(update={"out": width})
        for layer, width in zip(base.initializer.layers, (*_WIDTHS, base.channels), strict=True)
    )
    solver = (conv(_SOLVER[0], 4, 2, 1), conv(_SOLVER[1], 4, 2, 1), conv(_SOLVER[2], 3, 1, 1))
    training = {"batch_size": batch, "lr_final": 0.1, "ema": 0.999, "precision": "bf16"}
    return base.model_copy(
        update={
            "initializer": base.initializer.model_copy(update={"layers": layers}),
            "solver": base.solver.model_copy(update={"layers": solver}),
            "training": base.training.model_copy(update=training),
        }
    )


class Trainer:
    """Both networks, their averages and optimizers; ``iterate`` advances them and reads nothing back.

    Args:
        config: without noise in the chain.
        images, labels: uint8 ``[N, 1, H, W]`` and int64 ``[N]``, on the device.
    """

    def __init__(self, config: Config, images: Tensor, labels: Tensor) -> None:
        self.config, self.images, self.labels, self.device = config, images, labels, images.device
        cuda, t = self.device.type == "cuda", config.training
        self.initializer, self.solver = Initializer(config).to(self.device), Solver(config).to(self.device)
        self.average = copy.deepcopy(self.initializer), copy.deepcopy(self.solver)
        for network in self.average:
            network.requires_grad_(False)
        self.rates = [torch.tensor(0.0, device=self.device) for _ in range(2)]
        fast: dict[str, Any] = {"fused": True, "capturable": True} if cuda else {}
        self.optimizers = [
            torch.optim.Adam(network.parameters(), rate if cuda else 1e-3, betas=t.betas, **fast)
            for network, rate in zip((self.initializer, self.solver), self.rates, strict=True)
        ]
        self.decay = torch.tensor(0.0, device=self.device)
        self.stats = torch.zeros(len(_STATS), device=self.device)

    def _cast(self) -> AbstractContextManager[Any]:
        cuda = self.device.type == "cuda"
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False) if cuda else nullcontext()

    def _observed(self, n: int) -> tuple[Tensor, Tensor]:
        index = (torch.rand(n, device=self.device) * len(self.images)).long()
        c = (self.labels[index][:, None] == torch.arange(self.config.classes, device=self.device)).float()
        return self.images[index].float() / 127.5 - 1, c

    def _latent(self, n: int) -> Tensor:
        return torch.randn(n, self.config.initializer.latent, device=self.device)

    def refine(self, y: Tensor, c: Tensor) -> Tensor:
        """The chain that is served, without noise."""
        self.solver.requires_grad_(False)
        for _ in range(self.config.refinement.steps):
            y = y.detach().requires_grad_(True)
            with self._cast():
                f = self.solver(y, c)
            (gradient,) = torch.autograd.grad(f.sum(), y)
            y = y.detach() + self.config.refinement.eta * gradient
        self.solver.requires_grad_(True)
        return y.detach()

    def iterate(self) -> None:
        """Propose, refine, update the solver, then the initializer."""
        t, n = self.config.training, self.config.training.batch_size
        y, c = self._observed(n)
        with self._cast():
            proposal = self.initializer(self._latent(n), c).float()
        start = proposal.detach()
        refined = self.refine(start, c)
        rows = max(1, n // 4)
        with self._cast():
            f = self.solver(torch.cat([y, refined]), torch.cat([c, c])).float().view(2, n)
            label = F.cross_entropy(self.solver.of_every_label(y[:rows]).float(), c[:rows])
        loss = f[1].mean() - f[0].mean() + t.penalty * f.square().sum(0).mean() + t.label_likelihood * label
        skipped = self._descend(1, loss)
        regression = F.mse_loss(proposal, refined) / (2 * t.sigma**2)
        self._descend(0, regression)
        with torch.no_grad():
            for average, network in zip(self.average, (self.initializer, self.solver), strict=True):
                for old, new in zip(average.parameters(), network.parameters(), strict=True):
                    old.mul_(self.decay).add_(new * (1 - self.decay))
            gap, scale, move = (f[0] - f[1]).mean(), f.abs().mean(), (refined - start).abs().mean()
            now = torch.stack([gap, scale, label, move, regression, skipped])
            self.stats.lerp_(now.nan_to_num(1e9), 0.02)

    def _descend(self, which: int, loss: Tensor) -> Tensor:
        network = (self.initializer, self.solver)[which]
        self.optimizers[which].zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            scale = (_NORM / norm.clamp(min=1e-9)).clamp(max=1.0)
            for g in gradients:
                g.copy_(torch.where(norm.isfinite(), g * scale, torch.zeros_like(g)))
        if self.device.type == "cpu":
            for group in self.optimizers[which].param_groups:
                group["lr"] = float(self.rates[which])
        self.optimizers[which].step()
        return (~norm.isfinite()).float()

    def schedule(self, done: float, iteration: int) -> None:
        """The rates and the averages' decay at this share of the time."""
        t = self.config.training
        fallen = t.lr_final + (1 - t.lr_final) * (1 + math.cos(math.pi * min(1.0, done))) / 2
        for rate, top in zip(self.rates, (t.lr_initializer, t.lr_solver), strict=True):
            rate.fill_(top * fallen * min(1.0, (iteration + 1) / 200))
        self.decay.fill_(min(t.ema, 1 - 1 / (1 + iteration / 10)))

    def captured(self) -> Callable[[], None]:
        """The iteration as one launch; itself on a CPU. The rates are 0 meanwhile, so no weight moves."""
        if self.device.type == "cpu":
            return self.iterate
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.iterate()
            self.iterate()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.iterate()
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()
        self.stats.zero_()
        return graph.replay

    def served(self) -> Initializer:
        """The averaged initializer with the cumulative batch statistics of 50 fresh batches."""
        network = copy.deepcopy(self.average[0]).train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        with torch.no_grad():
            for _ in range(50):
                _, c = self._observed(self.config.training.batch_size)
                network(self._latent(len(c)), c)
        return network.eval()

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Both averages in half precision; the solver's head, of which only the sum counts, as one row."""
        tensors = {
            f"{name}.{key}": value.detach().half().cpu().contiguous()
            for name, network in (("initializer", self.served()), ("solver", self.average[1]))
            for key, value in network.state_dict().items()
            if not key.endswith("num_batches_tracked")
        }
        for part, whole in self.average[1].head.state_dict().items():
            tensors[f"solver.head.{part}"] = whole.sum(0, keepdim=True).cpu().contiguous()
        save_file(tensors, folder / "model.safetensors")
        config = self.config.model_copy(update={"solver": self.config.solver.model_copy(update={"head": 1})})
        (folder / "training.json").write_text(json.dumps({"config": config.model_dump(mode="json"), **facts}, indent=1))


def train(trainer: Trainer, seconds: float, every: int) -> int:
    """Until the time is over; the number of iterations."""
    advance, began, iterations = trainer.captured(), time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        trainer.schedule(passed / seconds, iterations)
        for _ in range(every):
            advance()
        iterations += every
        figures = dict(zip(_STATS, (round(v, 4) for v in trainer.stats.tolist()), strict=True))
        if iterations % (20 * every) == 0:
            print(f"{passed:.1f} s, {iterations} iterations: {json.dumps(figures)}", flush=True)
    return iterations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=130.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--every", type=int, default=20, help="iterations between looks at the clock")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    a = parser.parse_args()
    device = torch.device(a.device)
    a.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    with np.load(a.data) as archive:
        images = torch.from_numpy(archive["images_train"].reshape(-1, 1, 28, 28).copy()).to(device)
        labels = torch.from_numpy(archive["labels_train"].astype(np.int64)).to(device)
    trainer = Trainer(wide(a.batch), images, labels)
    iterations = train(trainer, a.seconds, a.every)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts = {"device": name, "torch": torch.__version__, "seconds": a.seconds, "seed": a.seed, "images": len(images)}
    trainer.save(a.out, {**facts, "iterations": iterations})


if __name__ == "__main__":
    main()
