"""A progressive GAN in minutes on a GPU: ``python -m benchmarks.device_gan --preset P --data A.npz --out O``.

The product's trainer, its networks, losses and keyed noise, without a word between host and device: an iteration is one
captured graph for each level and whether it is being faded in, and figures are read now and then. Where a graph can't
be captured the iterations run as they are. The shares of time of the levels are fixed, so that a run takes the seconds
that it is given; what the levels took in thousands of images is written into the configuration.

It leaves ``NAME.safetensors``: the averaged generator at 50, 75 and 100 % of the time (``50.generator.*`` ...), a sheet
of each, and under ``facts`` in its header the configuration and the log.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.data.images import ImageData, to_uint8
from models.data.npz import read_npz
from models.systems.aishmc.config import Config, NetworkConfig, fit_to, growth_iterations
from models.systems.aishmc.growth import Growth, decay, rate
from models.systems.aishmc.presets import PRESETS
from models.systems.aishmc.training import Trainer

MARKS = (0.5, 0.75, 1.0)
_SHARES: dict[int, tuple[tuple[float, float], ...]] = {
    3: ((0.0, 0.06), (0.06, 0.12), (0.18, 0.4)),
    4: ((0.0, 0.04), (0.04, 0.08), (0.09, 0.14), (0.18, 0.5)),
    5: ((0.0, 0.03), (0.03, 0.06), (0.08, 0.12), (0.16, 0.24), (0.32, 0.5)),
}
"""Of the time, by the number of levels: where each begins and where it is all faded in."""
_STATS = ("distance", "real", "fake", "penalty", "critic_gradient", "diversity", "generator_gradient")
_WARM = 4


class Run:
    """A training and its iteration, captured anew where the graph changes."""

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device, final_rate: float) -> None:
        self.trainer, self.device, self.final = Trainer(config, data, seed, device), device, final_rate
        self.cuda = device.type == "cuda"
        self.iteration, self.images, self.lr_scale = 0, 0, 1.0
        self.lr, self.keep = torch.zeros((), device=device), torch.zeros((), device=device)
        self.stats = torch.zeros(len(_STATS), device=device)
        self.entered: list[int] = []
        self.whole: list[int] = []
        self.captures = self.failures = 0
        self._mode: tuple[int, bool] | None = None
        self._begin_level()

    def _begin_level(self) -> None:
        """Fresh moments."""
        how: dict[str, Any] = {"lr": self.lr, "fused": True, "capturable": True} if self.cuda else {}
        betas = self.trainer.config.training.betas
        self.optimizers = [
            torch.optim.Adam(learner.network.parameters(), betas=betas, **how)
            for learner in (self.trainer.critic, self.trainer.generator)
        ]

    def iterate(self) -> None:
        """An update of each network and of the average; nothing is read."""
        trainer = self.trainer
        real = trainer.observed(self.batch)
        told = trainer.judge(real)
        self.optimizers[0].step()
        told |= trainer.improve(real)
        self.optimizers[1].step()
        with torch.no_grad():
            average: list[Tensor] = list(trainer.generator.served.parameters())
            now: list[Tensor] = list(trainer.generator.network.parameters())
            torch._foreach_mul_(average, self.keep)
            torch._foreach_add_(average, list(torch._foreach_mul(now, 1 - self.keep)))
            self.stats.lerp_(torch.stack([told[name].detach() for name in _STATS]), 0.02)

    @property
    def batch(self) -> int:
        return self.trainer.config.levels[self.trainer.stage].batch_size

    def place(self, done: float) -> None:
        """The growth and the rates at this share of the time."""
        trainer, shares = self.trainer, _SHARES[len(self.trainer.config.levels)]
        level = max(k for k, (begin, _) in enumerate(shares) if done >= begin)
        begin, end = shares[level]
        alpha = 1.0 if level == 0 else min(1.0, (done - begin) / (end - begin))
        if level != trainer.stage:
            self._begin_level()
        fade, whole = 1000 * trainer.config.levels[level].fade, alpha == 1
        # One graph for the whole of a level, but for the last one: to capture one takes seconds beside other work.
        blended = level > 0 and (not whole or level + 1 < len(shares))
        seen = min(int(alpha * fade), math.ceil(fade) - 1) if blended else math.ceil(fade)
        while len(self.entered) <= level:
            self.entered.append(self.images)
        while whole and len(self.whole) <= level:
            self.whole.append(self.images)
        trainer.growth = Growth(level, seen, self.images - seen)
        trainer.fade.fill_(alpha)
        late = max(0.0, (done - 0.6) / 0.4)
        lr = self.lr_scale * rate(trainer.config, self.images / 1000) * (1 - (1 - self.final) * late)
        self.lr.fill_(lr)
        if not self.cuda:
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = lr
        self.keep.fill_(decay(trainer.config, self.images / 1000))
        self._prepare((level, blended))

    def _prepare(self, mode: tuple[int, bool]) -> None:
        if mode == self._mode:
            return
        self._mode, self._advance = mode, self.iterate
        if not self.cuda:
            return
        began = time.monotonic()
        try:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM):
                    self._count(self.iterate)
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            for learner in (self.trainer.critic, self.trainer.generator):
                learner.optimizer.zero_grad()
            with torch.cuda.graph(graph):
                self.iterate()
            self._advance = graph.replay
            self.captures += 1
            print("captured", mode, f"{time.monotonic() - began:.1f} s", flush=True)
        except Exception:  # whatever it is, the training goes on
            traceback.print_exc()
            torch.cuda.synchronize()
            self.failures += 1

    def _count(self, iterate: Callable[[], None]) -> None:
        self.trainer.clock.fill_(self.iteration)
        iterate()
        self.iteration += 1
        self.images += self.batch

    def advance(self, n: int) -> None:
        for _ in range(n):
            self._count(self._advance)

    def numbers(self) -> dict[str, float]:
        return {name: round(value, 5) for name, value in zip(_STATS, self.stats.tolist(), strict=True)}

    def networks(self) -> list[nn.Module]:
        return [self.trainer.critic.network, self.trainer.generator.network, self.trainer.generator.served]

    def copy(self) -> list[Tensor]:
        return [p.detach().clone() for network in self.networks() for p in network.parameters()]

    def restore(self, saved: list[Tensor]) -> None:
        """Back to what :meth:`copy` gave, with fresh moments and half the rate."""
        now = [p for network in self.networks() for p in network.parameters()]
        with torch.no_grad():
            for p, old in zip(now, saved, strict=True):
                p.copy_(old)
            self.stats.zero_()
            for optimizer in self.optimizers:
                for state in optimizer.state.values():
                    for value in state.values():
                        value.zero_()
        self.lr_scale /= 2

    def config(self) -> dict[str, Any]:
        """The configuration with what the levels took."""
        levels, last = [], len(self.trainer.config.levels)
        entered, whole = (marks + [self.images] * (last - len(marks)) for marks in (self.entered, self.whole))
        for k, (begin, full, end) in enumerate(zip(entered, whole, [*entered[1:], self.images], strict=True)):
            fade = 0.0 if k == 0 else (min(full, end) - begin) / 1000
            took = {"fade": fade, "stable": (end - begin) / 1000 - fade}
            levels.append(self.trainer.config.levels[k].model_copy(update={k: round(v, 3) for k, v in took.items()}))
        found = self.trainer.config.model_dump(mode="json")
        # A run of a second may not come to its last level.
        training = {**found["training"], "iterations": max(self.iteration, growth_iterations(tuple(levels)))}
        return {**found, "levels": [level.model_dump() for level in levels], "training": training}


def configuration(a: argparse.Namespace, data: ImageData) -> Config:
    base = PRESETS[a.preset]
    levels = tuple(
        level.model_copy(update={"batch_size": a.batch if level.size == base.size else a.coarse_batch})
        for level in base.levels
    )
    network = NetworkConfig(latent=a.latent, base=a.base, most=a.most)
    least = {"iterations": max(base.training.iterations, growth_iterations(levels))}
    training = base.training.model_copy(update={"learning_rate": a.rate, **least})
    return fit_to(base.model_copy(update={"levels": levels, "network": network, "training": training}), data)


def read(a: argparse.Namespace) -> ImageData:
    """The images to train on; with ``--both`` what they are drawn from besides."""
    data = read_npz(a.data)["train"]
    images = data.images
    if a.both and data.conditions is not None:
        images = torch.cat([images, data.conditions])
    return ImageData(images, None, (), data.name)


def train(run: Run, a: argparse.Namespace, facts: dict[str, Any]) -> None:
    started, marks = time.monotonic(), list(MARKS)
    tensors: dict[str, Tensor] = {}
    log: list[dict[str, Any]] = []
    healthy, copied, every, looked = run.copy(), started, 10, started
    run.place(0.0)
    while marks:
        run.advance(every)
        passed = time.monotonic() - started
        numbers = run.numbers()  # waits for the device
        now = time.monotonic()
        every = max(2, min(200, round(every * 0.25 / max(now - looked, 1e-3))))
        looked = now
        if not all(map(math.isfinite, numbers.values())) or numbers["penalty"] > 10 or abs(numbers["real"]) > 200:
            print(a.name, "diverged, back", json.dumps(numbers), flush=True)
            run.restore(healthy)
        elif now - copied > 8:
            healthy, copied = run.copy(), now
        last = marks[0] == 1 and passed >= a.seconds
        if last or not log or passed > log[-1]["seconds"] + a.seconds / 60:
            place = {"size": run.trainer.size, "alpha": round(run.trainer.alpha, 3), "kimg": run.images / 1000}
            log.append({"iteration": run.iteration, "seconds": round(passed, 2), **place, **numbers})
            print(a.name, json.dumps(log[-1]), flush=True)
        while marks and passed >= marks[0] * a.seconds:
            mark = f"{100 * marks.pop(0):.0f}"
            tensors |= {f"{mark}.{name}": value for name, value in run.trainer.export().items()}
            tensors[f"{mark}.sheet"] = to_uint8(run.trainer.samples()).flatten(0, 1).contiguous()
            facts |= {"config": run.config(), "log": log, "captures": run.captures, "failures": run.failures}
            save_file(tensors, a.out / f"{a.name}.safetensors", {"facts": json.dumps(facts)})
            print(a.name, "saved", mark, f"{time.monotonic() - started:.1f} s", flush=True)
        if marks:
            run.place(min((time.monotonic() - started) / a.seconds, 1.0))


class Result(NamedTuple):
    """What a run left: the tensors of a model, its sheet ``[64, C, H, W]`` uint8, and the facts."""

    tensors: dict[str, Tensor]
    sheet: Tensor
    facts: dict[str, Any]


def result(path: Path, mark: str) -> Result:
    """Of a file of :func:`train`, at ``50``, ``75`` or ``100`` % of the time."""
    with safe_open(path, "pt") as file:
        own = [name for name in file.keys() if name.startswith(f"{mark}.generator.")]  # noqa: SIM118
        tensors = {name.removeprefix(f"{mark}."): file.get_tensor(name) for name in own}
        return Result(tensors, file.get_tensor(f"{mark}.sheet"), json.loads(file.metadata()["facts"]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--data", type=Path, required=True, help="an npz file with images_train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="gan")
    parser.add_argument("--seconds", type=float, default=170.0)
    parser.add_argument("--batch", type=int, default=32, help="at the last level")
    parser.add_argument("--coarse-batch", type=int, default=64, help="at the others")
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--base", type=int, default=512)
    parser.add_argument("--most", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--final-rate", type=float, default=0.2, help="the rate falls to this part of it at the end")
    parser.add_argument("--both", action="store_true", help="train on the conditions of the data, too")
    parser.add_argument("--tf32", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    a = parser.parse_args(arguments)
    began, device = time.monotonic(), torch.device(a.device)
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.tf32
    a.out.mkdir(parents=True, exist_ok=True)
    data = read(a)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    run = Run(configuration(a, data), data, a.seed, device, a.final_rate)
    print(a.name, f"{len(data)} images, ready after {time.monotonic() - began:.1f} s on {name}", flush=True)
    asked = {k: str(v) for k, v in vars(a).items()}
    train(run, a, {"device": name, "torch": torch.__version__, "arguments": asked, "images": len(data)})


if __name__ == "__main__":
    main()
