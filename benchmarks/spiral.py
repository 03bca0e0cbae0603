"""A flow and an energy that learn a spiral in two dimensions together: ``python -m benchmarks.spiral``.

With noise in the chain the energy p_theta goes to the data as chains get longer (section 5.1 of CoopFlow, Xie et al.,
ICLR 2022): of 100 steps it is wrong, of 10,000 right, while what chains end at is on the spiral throughout. Each length
is trained by itself; the longest, each update of which is so many small steps, goes on from the one before it. Rates
fall linearly to a tenth over the updates of a length. One thread computes: small matrices gain nothing by more.

Reported are the divergence KL(p_data || p_theta) on a grid, whose sum is the normalising constant, and the shares of
chain ends and of the flow's samples that lie near the curve.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from zuko.flows import NSF

from benchmarks.report import machine, show_machine, show_table, write_json
from models.core.loop import Loop, Rows, Task, run
from models.core.noise import mix
from models.samplers.langevin import langevin

DELTA = 0.05
"""Step size and noise; the paper gives none. A chain without noise can't make the energy a density."""
WIDTH = 0.05
"""Standard deviation of the data around the curve."""
RATE = 3e-3, 1e-3
"""Learning rates of the energy, from nothing and where longer chains go on. The paper gives none; 1e-4, which is its
rate for images, takes ten times as many updates."""
FLOW_RATE = 1e-3
NEAR = 0.15
EXTENT, CELLS = 3.0, 400
"""The grid goes from -3 to 3 in both directions; the data have standard deviation 1."""
_TURNS = 3 * math.pi
_POINTS = 2000


def curve(share: Tensor) -> Tensor:
    """Points of the spiral ``[n, 2]``, of shares in [0, 1] that are uniform over the data; standard deviation 1."""
    theta = _TURNS * share.sqrt()
    all_theta = _TURNS * ((torch.arange(_POINTS) + 0.5) / _POINTS).sqrt()
    whole = all_theta[:, None] * torch.stack([all_theta.cos(), all_theta.sin()], 1)
    points = theta[:, None] * torch.stack([theta.cos(), theta.sin()], 1)
    return (points - whole.mean(0)) / whole.std(0)


def midpoints() -> Tensor:
    """Points of the curve that stand for all of it, evenly over the data."""
    return curve((torch.arange(_POINTS) + 0.5) / _POINTS)


def observed(n: int, generator: torch.Generator) -> Tensor:
    """Data ``[n, 2]``."""
    points = curve(torch.rand(n, generator=generator))
    return points + WIDTH * torch.randn(n, 2, generator=generator)


def grid(cells: int = CELLS) -> Tensor:
    """The middles of the cells ``[cells^2, 2]``."""
    middles = ((torch.arange(cells) + 0.5) / cells * 2 - 1) * EXTENT
    return torch.cartesian_prod(middles, middles)


def data_log_density(x: Tensor) -> Tensor:
    """Of the data, ``[n]``: a mixture of Gaussians along the curve."""
    centres = midpoints()
    parts = [
        torch.logsumexp(-torch.cdist(part, centres).square() / (2 * WIDTH**2), 1) - math.log(len(centres))
        for part in x.chunk(-(-len(x) // 4000))
    ]
    return torch.cat(parts) - math.log(2 * math.pi * WIDTH**2)


def divergence(log_p: Tensor, f: Tensor) -> float:
    """KL(p || exp(f) / Z) of densities on one grid; both are normalised by summation over it."""
    log_p, log_q = log_p.double().log_softmax(0), f.double().log_softmax(0)
    return float((log_p.exp() * (log_p - log_q)).sum())


def near(x: Tensor) -> float:
    """The share of points that lie near the curve."""
    return float((torch.cdist(x, midpoints()).amin(1) < NEAR).float().mean())


def make_energy() -> nn.Sequential:
    """f of ``[n, 2]``: ``[n, 1]``."""
    return nn.Sequential(
        nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1)
    )


@dataclass(frozen=True, eq=False)
class Pair:
    """A flow and an energy in two dimensions, in training."""

    flow: Any
    energy: nn.Sequential
    optimizers: tuple[torch.optim.Adam, torch.optim.Adam]
    rates: tuple[float, float]
    steps: int
    seed: int

    @classmethod
    def fresh(cls, steps: int, seed: int) -> Pair:
        """Nothing learned yet."""
        torch.manual_seed(seed)
        flow = NSF(2, transforms=5, hidden_features=(64, 64))
        return cls._of(flow, make_energy(), RATE[0], steps, seed)

    @classmethod
    def _of(cls, flow: Any, energy: nn.Sequential, rate: float, steps: int, seed: int) -> Pair:
        adams = torch.optim.Adam(flow.parameters()), torch.optim.Adam(energy.parameters(), betas=(0.5, 0.5))
        return cls(flow, energy, adams, (FLOW_RATE, rate), steps, seed)

    def longer(self, steps: int) -> Pair:
        """What goes on from here with longer chains."""
        return self._of(copy.deepcopy(self.flow), copy.deepcopy(self.energy), RATE[1], steps, self.seed + 1)

    def ends(self, x: Tensor, key: int) -> Tensor:
        """Where chains from x end, ``[n, 2]``."""
        one = torch.ones(len(x), 1, 1, 1)
        rows = {"y": x.view(-1, 1, 1, 2), "eta": one * DELTA**2 / 2, "rho": one * 0, "tau": one * DELTA}
        kernel = langevin(lambda rows: self.energy(rows["y"].flatten(1))[:, 0])

        def task() -> Task[Rows]:
            return (yield Loop(kernel, rows, self.steps, [mix(self.seed, key, k) >> 11 for k in range(len(x))]))

        self.energy.requires_grad_(False)
        found = run(task())["y"].flatten(1)
        self.energy.requires_grad_(True)
        return found

    def update(self, number: int, batch: int, share: float) -> None:
        """One iteration of Algorithm 1.

        Args:
            number: what its random numbers depend on.
            batch: chains.
            share: of all updates, those that are done.
        """
        generator = torch.Generator().manual_seed(mix(self.seed, number) >> 1)
        torch.manual_seed(mix(self.seed, number, 1) >> 1)
        with torch.no_grad():
            proposal = self.flow().sample((batch,))
        made = self.ends(proposal, number)
        losses = (
            -self.flow().log_prob(made).mean(),
            self.energy(made).mean() - self.energy(observed(batch, generator)).mean(),
        )
        for optimizer, rate, loss in zip(self.optimizers, self.rates, losses, strict=True):
            optimizer.param_groups[0]["lr"] = rate * (1 - 0.9 * share)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def measured(self, samples: int, cells: int = CELLS) -> tuple[dict[str, float], dict[str, Tensor]]:
        """The figures, and what a picture shows: densities on the grid, and chain ends."""
        places = grid(cells)
        with torch.no_grad():
            f = torch.cat([self.energy(part)[:, 0] for part in places.chunk(8)])
            q = torch.cat([self.flow().log_prob(part) for part in places.chunk(8)])
            torch.manual_seed(mix(self.seed, 7) >> 1)
            proposal = self.flow().sample((samples,))
        ends = self.ends(proposal, -1)
        known = data_log_density(places)
        figures = {
            "kl_energy": divergence(known, f),
            "kl_flow": divergence(known, q),
            "near_chain": near(ends),
            "near_flow": near(proposal),
        }
        return figures, {"data": known, "energy": f, "flow": q, "ends": ends}


def draw(found: dict[int, dict[str, Tensor]], path: Path) -> None:
    """A row for each length of the chain: the data, the energy's density, the flow's, and where chains end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(found), 4, figsize=(10, 2.6 * len(found)), squeeze=False, layout="constrained")
    for row, (steps, shown) in zip(axes, found.items(), strict=True):
        titles = ("data", f"energy, T = {steps:,}", "flow", "chain ends")
        for axis, title in zip(row, titles, strict=True):
            axis.set(title=title, xticks=[], yticks=[], xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), aspect="equal")
        for axis, name in zip(row, ("data", "energy", "flow"), strict=False):
            cells = isqrt(len(shown[name]))
            density = shown[name].softmax(0).view(cells, cells).T
            axis.imshow(
                density.sqrt().numpy(), origin="lower", extent=(-EXTENT, EXTENT, -EXTENT, EXTENT), cmap="viridis"
            )
        row[3].scatter(*shown["ends"].T.numpy(), s=1, alpha=0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


@click.command(help=__doc__)
@click.option("--updates", default=1000, show_default=True, type=click.IntRange(1), help="Of each length but the last.")
@click.option("--last", default=40, show_default=True, type=click.IntRange(1), help="Updates of the longest chains.")
@click.option("--batch", default=128, show_default=True, type=click.IntRange(2))
@click.option("--samples", default=1000, show_default=True, type=click.IntRange(2), help="Chains that are measured.")
@click.option("--steps", default=(100, 500, 10_000), multiple=True, type=click.IntRange(1), help="Lengths of chains.")
@click.option("--cells", default=CELLS, show_default=True, type=click.IntRange(2), help="Of the grid, a side.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option("--picture", type=click.Path(path_type=Path), help="A PNG of the densities.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(
    updates: int,
    last: int,
    batch: int,
    samples: int,
    steps: tuple[int, ...],
    cells: int,
    seed: int,
    picture: Path | None,
    path: Path | None,
) -> None:
    torch.set_num_threads(1)
    facts = machine(torch.device("cpu"))
    show_machine(facts)
    pair: Pair | None = None
    figures: dict[str, dict[str, float]] = {}
    shown: dict[int, dict[str, Tensor]] = {}
    for number, length in enumerate(steps):
        longest = pair is not None and number == len(steps) - 1
        pair = pair.longer(length) if pair is not None and longest else Pair.fresh(length, seed)
        count, begun = last if longest else updates, time.process_time()
        for update in range(count):
            pair.update(update, batch, update / count)
        seconds = time.process_time() - begun
        found, shown[length] = pair.measured(samples, cells)
        figures[str(length)] = {**found, "updates": count, "seconds": seconds}
        click.echo(f"T = {length}: {figures[str(length)]}")
        if picture:  # after each length, for the longest takes the most time
            draw(shown, picture)
        if path:
            write_json(path, "spiral", facts, dict(figures), [])
    names = list(next(iter(figures.values())))
    rows = [[length, *(f"{one[name]:.3f}" for name in names)] for length, one in figures.items()]
    show_table("KL in nats; shares of points within 0.15 of the curve", ["T", *names], rows)


if __name__ == "__main__":
    main()
