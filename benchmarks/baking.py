"""What serving plain kernels brings: chain steps a second of an energy network as it is trained, and as it is served.

python -m benchmarks.baking --model fashion-cfebm
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import workload
from benchmarks.loops import synchronize
from benchmarks.report import Claim, machine, show_claims, show_machine, show_table, write_json
from coopserve.configured import settings_from
from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.shortrun import shortrun
from models.systems.cfebm.config import Config
from models.systems.cfebm.networks import ACTIVATIONS, BASE, Energy, Kernels, fold, fuse, value
from workers.device import prepare_torch


def as_printed(kernels: Kernels, images: Tensor, activation: str) -> Tensor:
    """f as the paper prints its blocks: the convolution, then the pooling; the 1x1 convolution, then the pooling.

    Args:
        kernels: what :meth:`Energy.effective` gave, not fused.
        images: ``[n, C, R, R]``.
        activation: a name of ``ACTIVATIONS``.
    """
    act, size = ACTIVATIONS[activation], images.shape[-1]

    def conv(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, kernels[f"{name}.weight"], kernels[f"{name}.bias"], padding=padding)

    h = conv(f"rgb{size}", images)
    while size > BASE:
        main = act(F.avg_pool2d(conv(f"second{size}", act(conv(f"first{size}", h, 1)), 1), 2))
        skip = f"skip{size}"
        h = (F.avg_pool2d(conv(skip, h), 2) + main) / math.sqrt(2) if f"{skip}.weight" in kernels else main
        size //= 2
    h = act(conv("top_second", act(conv("top_first", h, 1))))
    return conv("head", h).flatten()


def variants(config: Config) -> dict[str, Kernel]:
    """The chain of the finest energy, four times; the weights are random ones, which cost what trained ones do."""
    net = (
        Energy(config.network, config.channels, config.entries_of(len(config.stages) - 1)).eval().requires_grad_(False)
    )
    activation = config.network.activation
    baked = net.effective()
    fused = fuse(baked)
    folded = fold(fused, config.size)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "as trained": lambda y: as_printed(net.effective(), y, activation),
        "plain kernels": lambda y: as_printed(baked, y, activation),
        "pooling fused": lambda y: value(fused, y, activation=activation),
        "as served: 1x1 folded too": lambda y: value(folded, y, activation=activation),
    }
    return {name: _chain(f) for name, f in functions.items()}


def _chain(f: Callable[[Tensor], Tensor]) -> Kernel:
    return shortrun(lambda rows: f(rows["y"]))


def measure(config: Config, rows: int, steps: int, repetitions: int, device: torch.device) -> dict[str, list[float]]:
    """Image steps a second of each variant, one entry a repetition, in turns."""
    kernels = variants(config)
    one = torch.ones(rows, 1, 1, 1, device=device)
    start: Rows = {"y": torch.rand(rows, config.channels, config.size, config.size, device=device) * 2 - 1}
    start |= {"lr": one, "s0": one * 0, "s1": one * 0, "k0": one * 0, "total": one * steps}
    index = torch.zeros(rows, dtype=torch.int64, device=device)
    rates: dict[str, list[float]] = {name: [] for name in kernels}
    for repetition in range(repetitions + 1):
        for name, kernel in kernels.items():
            seconds = _timed(kernel, start, index, steps, device)
            if repetition:  # the first one warms up
                rates[name].append(rows * steps / seconds)
    return rates


def _timed(kernel: Kernel, rows: Rows, index: Tensor, steps: int, device: torch.device) -> float:
    started = time.perf_counter()
    noise = Noise([], device)
    for _ in range(steps):
        rows = kernel(rows, index, noise)
    synchronize(device)
    return time.perf_counter() - started


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="fashion-cfebm", help="A shipped CF-EBM, by name or name@version.")
@click.option("--rows", default=32, type=click.IntRange(1))
@click.option("--steps", default=30, type=click.IntRange(1))
@click.option("--repetitions", default=5, type=click.IntRange(1))
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--device", help="auto, cpu, cuda or cuda:N. [default: COOPSERVE_DEVICE, or auto]")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    name: str, rows: int, steps: int, repetitions: int, threads: int | None, device: str | None, path: Path | None
) -> None:
    """Compare a CF-EBM's chain as it is trained with the chain as it is served, in one process."""
    settings = settings_from(torch_threads=threads, device=device)
    place = prepare_torch(settings)
    card = workload.find_model(name, settings).card
    if card.system != "cfebm":
        raise click.ClickException(f"{card.ref} is a {card.system}; this measures a cfebm")
    facts = machine(place)
    show_machine(facts)
    rates = measure(Config.model_validate(card.config), rows, steps, repetitions, place)
    middle = {variant: median(values) for variant, values in rates.items()}
    table = [[variant, f"{rate:.0f}", f"{rate / middle['as trained']:.2f}x"] for variant, rate in middle.items()]
    show_table(f"Chain steps of {card.ref}, {rows} rows", ["", "image steps/s", "gain"], table)
    *_, served = middle.values()
    claims = [Claim("speed: as served / as trained", served / middle["as trained"], 1.0, unit="x")]
    show_claims(claims)
    if path:
        write_json(path, "baking", facts, {"model": card.ref, "rows": rows, "steps_per_second": rates}, claims)


if __name__ == "__main__":
    main()
