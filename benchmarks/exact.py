"""Latents of decoders whose posteriors are known, at the sizes of the specification: ``python -m benchmarks.exact``.

- One pixel, x = w . z: the evidence, mean and covariance are those of a linear Gaussian observation.
- A folded ring: x2 = 0 of x = (cos h, sin h) has two modes, whose masses are found by quadrature. Chains freeze in a
  mode before they know its mass, and their weights make up for it; descent stays where it starts.

Each is run with the step sizes of a table, of each row and of the job (see ``models.systems.aishmc.settings``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks.report import Claim, machine, show_claims, show_machine, show_table, write_json
from models.core.loop import Rows, run
from models.core.noise import row_seeds
from models.samplers.cogeneration import Cogeneration
from models.samplers.observation import Observation, whole
from models.systems.aishmc.settings import Scope, Settings
from models.systems.aishmc.solver import log_evidence, solve

CPU = torch.device("cpu")
SCOPES: tuple[Scope, ...] = ("table", "job", "row")
MEAN, COVARIANCE, LOG_Z = (0.1329, -0.5316), ((0.9430, 0.2278), (0.2278, 0.0886)), -1.3027
"""Of z given w . z + noise = .7, w = (.3, -1.2) and a variance of .05; log Z = log N(.7; 0, 1.58)."""


@dataclass
class Line:
    """x = w . z, one pixel."""

    w: Tensor = field(default_factory=lambda: torch.tensor([0.3, -1.2]))
    image_shape = (1, 1, 1)
    scale_invariant = False
    calls: int = 0

    @property
    def latent_shape(self) -> tuple[int]:
        return (len(self.w),)

    @property
    def condition(self) -> Rows:
        return {}

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        del rows
        return (z @ self.w)[:, None, None, None]


@dataclass
class Ring:
    """x = (cos h, sin h), two pixels beside each other; h = phi - (a / 5) sin 5 phi folds the angle phi of z."""

    a: float
    latent_shape = (2,)
    image_shape = (1, 1, 2)
    scale_invariant = True

    @property
    def condition(self) -> Rows:
        return {}

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        del rows
        phi = torch.atan2(z[:, 1], z[:, 0])
        h = phi - self.a / 5 * (5 * phi).sin()
        return torch.stack([h.cos(), h.sin()], 1)[:, None, None]


def line_at(y: float) -> Observation:
    return Observation(whole((1, 1, 1)), torch.full((1, 1, 1), y), torch.ones(1, 1, 1))


def second_is_zero() -> Observation:
    """x2 = 0 of two pixels; what stands for x1 is never looked at."""
    return Observation(whole((1, 1, 2)), torch.tensor([[[float("nan"), 0.0]]]), torch.tensor([[[0.0, 1.0]]]))


def effective(w: Tensor) -> float:
    return float(1 / w.softmax(0).square().sum())


def linear(scope: Scope, chains: int) -> dict[str, float]:
    """T = 500, L = 10, a schedule of +-4: log Z, effective chains, and the greatest error of mean and covariance."""
    how = Settings(sigma=math.sqrt(0.05), temperatures=500, leapfrogs=10, low=-4.0, high=4.0, step_sizes=scope)
    rows = run(solve(Cogeneration(Line(), CPU), line_at(0.7), how, row_seeds(1, chains)))
    W, z = rows["w"].softmax(0), rows["x"].double()
    mean, covariance = W @ z, z.T.cov(aweights=W)
    return {
        "log Z": log_evidence(rows, line_at(0.7), how),
        "effective": effective(rows["w"]),
        "mean": float((mean - torch.tensor(MEAN, dtype=torch.float64)).abs().max()),
        "covariance": float((covariance - torch.tensor(COVARIANCE, dtype=torch.float64)).abs().max()),
        "gradients": float(how.gradients),
    }


@dataclass(frozen=True)
class Fold:
    """A folded ring, and what is true of it.

    Args:
        a: how much it is folded.
        s: variance of what is given.
        mass: of the mode at (1, 0).
        log_z: without the constant of the density.
    """

    a: float
    s: float
    mass: float
    log_z: float
    temperatures: int
    leapfrogs: int


FOLDS = (Fold(0.95, 0.001, 0.9033, -2.7023, 1000, 20), Fold(0.9, 0.01, 0.8128, -2.1648, 500, 10))


def folded(fold: Fold, scope: Scope, chains: int) -> dict[str, float]:
    """A schedule from -8 to 4: the mass of (1, 0) plain and weighted, log Z, and the mean of r^2, which is 2."""
    how = Settings(
        sigma=math.sqrt(fold.s),
        temperatures=fold.temperatures,
        leapfrogs=fold.leapfrogs,
        low=-8.0,
        high=4.0,
        step_sizes=scope,
    )
    rows = run(solve(Cogeneration(Ring(fold.a), CPU), second_is_zero(), how, row_seeds(1, chains)))
    right = (rows["image"][:, 0, 0, 0] > 0).double()
    return {
        "plain": float(right.mean()),
        "weighted": float(rows["w"].softmax(0) @ right),
        "log Z": float(rows["w"].logsumexp(0)) - math.log(chains),
        "effective": effective(rows["w"]),
        "r^2": float(rows["x"].square().sum(1).mean()),
    }


def descended(fold: Fold, chains: int) -> dict[str, float]:
    """2,000 plain steps of rate .01 from one start; and the target of the authors' code for images, T = 500."""
    how = Settings(solver="gd_single", sigma=math.sqrt(fold.s), temperatures=200, leapfrogs=10, adam=False, rate=0.01)
    rows = run(solve(Cogeneration(Ring(fold.a), CPU), second_is_zero(), how, row_seeds(1, chains)))
    return {"plain": float((rows["image"][:, 0, 0, 0] > 0).double().mean())}


def tempered(fold: Fold, chains: int) -> dict[str, float]:
    how = Settings(target="tempered_paper", temperatures=500, leapfrogs=10, step_sizes="job")
    rows = run(solve(Cogeneration(Ring(fold.a), CPU), second_is_zero(), how, row_seeds(1, chains)))
    return {"r^2": float(rows["x"].square().sum(1).mean())}


def claims(found: Mapping[str, Mapping[str, float]], scopes: Sequence[Scope]) -> list[Claim]:
    """The tolerances of the specification. A row's own step sizes are biased, and r^2 shows it: no claim is made."""
    held = []
    for scope in scopes:
        one = found[f"line, {scope}"]
        held += [
            Claim(f"line, {scope}: error of log Z", abs(one["log Z"] - LOG_Z), 0.03, at_least=False),
            Claim(f"line, {scope}: effective chains of 4,000", one["effective"], 3000),
            Claim(f"line, {scope}: error of the mean", one["mean"], 0.05, at_least=False),
            Claim(f"line, {scope}: error of the covariance", one["covariance"], 0.05, at_least=False),
        ]
        for fold in FOLDS:
            one = found[f"ring {fold.a:g}, {scope}"]
            held += [
                Claim(f"ring {fold.a:g}, {scope}: error of the mass", abs(one["weighted"] - fold.mass), 0.04, False),
                Claim(f"ring {fold.a:g}, {scope}: error of log Z", abs(one["log Z"] - fold.log_z), 0.08, False),
                Claim(f"ring {fold.a:g}, {scope}: effective chains of 1,000", one["effective"], 500),
            ]
            if scope != "row":
                held.append(Claim(f"ring {fold.a:g}, {scope}: |r^2 - 2|", abs(one["r^2"] - 2), 0.2, at_least=False))
    held.append(Claim("ring 0.9: descent, |share - .51|", abs(found["ring 0.9, descent"]["plain"] - 0.51), 0.04, False))
    held.append(Claim("ring 0.9: r^2 where the prior vanishes", found["ring 0.9, tempered"]["r^2"], 100))
    return held


@click.command(help=__doc__)
@click.option("--chains", default=1000, show_default=True, type=click.IntRange(10), help="Of the rings; a line has 4x.")
@click.option("--scope", "scopes", multiple=True, default=SCOPES, type=click.Choice(SCOPES), help="Of step sizes; all.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(chains: int, scopes: tuple[Scope, ...], threads: int, path: Path | None) -> None:
    torch.set_num_threads(threads)
    facts = machine(CPU)
    show_machine(facts)
    found: dict[str, dict[str, float]] = {}

    def note(name: str, figures: dict[str, float], begun: float) -> None:
        found[name] = figures
        click.echo(f"{name}: { {k: round(v, 4) for k, v in figures.items()} } {time.monotonic() - begun:.0f} s")

    for scope in scopes:
        begun = time.monotonic()
        note(f"line, {scope}", linear(scope, 4 * chains), begun)
        for fold in FOLDS:
            begun = time.monotonic()
            note(f"ring {fold.a:g}, {scope}", folded(fold, scope, chains), begun)
    begun = time.monotonic()
    note("ring 0.9, descent", descended(FOLDS[1], chains), begun)
    note("ring 0.9, tempered", tempered(FOLDS[1], chains // 2), begun)
    columns = ("plain", "weighted", "log Z", "effective", "r^2", "mean", "covariance")
    table = [[name, *(f"{one[c]:.3f}" if c in one else "" for c in columns)] for name, one in found.items()]
    show_table("posteriors that are known", ["what", *columns], table)
    held = claims(found, scopes)
    show_claims(held)
    if path:
        rows: dict[str, Any] = dict(found)
        write_json(path, "exact", facts, rows, held)


if __name__ == "__main__":
    main()
