"""Half of a point is given, a GAN of a ring of five Gaussians draws the other half: ``python -m benchmarks.ring``.

The data have five modes on the unit circle, one of them at (1, 0). A GAN of the plane learns them; then x2 = 0 is
given, and latents are looked for whose points agree with it (section 4.1 of Fang and Schwing, NeurIPS 2019). Descent is
trapped where it starts; annealed chains come to (1, 0), and their weights make up for those that do not.

Reported are the shares of 100 results whose mean squared distance to (1, 0) is below .1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.report import Claim, machine, show_claims, show_machine, show_table, write_json
from models.core.loop import Rows, run
from models.core.noise import row_seeds
from models.networks.progressive import perceptron
from models.samplers.cogeneration import Cogeneration
from models.samplers.observation import Observation, whole
from models.systems.aishmc.settings import Settings
from models.systems.aishmc.solver import solve
from models.training.draws import Draws, Purpose
from models.training.learner import Learner, frozen

MODES = 5
VARIANCE = 0.002
"""Of each mode, in each direction: with the .02 that the paper prints, modes would run into each other."""
GIVEN_VARIANCE = 5e-5
"""s, of x2 around 0."""
NEAR, FOUND = 0.15, 0.1
CHAINS = 100
_RATE, _BETAS, _BATCH = 1e-3, (0.5, 0.999), 100
_ATTEMPTS = 5
CPU = torch.device("cpu")


def means() -> Tensor:
    """Of the modes, ``[5, 2]``, the first at (1, 0)."""
    angle = torch.arange(MODES) * (2 * torch.pi / MODES)
    return torch.stack([angle.cos(), angle.sin()], 1)


def observed(n: int, draws: Draws, *keys: int) -> Tensor:
    """Data ``[n, 2]``."""
    noise = torch.randn(n, 2, generator=draws.generator(Purpose.DATA_NOISE, *keys))
    modes = means()[draws.index(MODES, n, Purpose.DATA, *keys)]
    return modes + float(VARIANCE**0.5) * noise


@dataclass
class RingDecoder:
    """x = G(z) as two pixels beside each other."""

    generator: nn.Module
    latent_shape = (2,)
    image_shape = (1, 1, 2)
    scale_invariant = False

    @property
    def condition(self) -> Rows:
        return {}

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        points: Tensor = self.generator(z)
        return points[:, None, None]


class RingGan:
    """Both networks in training: binary cross-entropy, and the loss that does not saturate for the generator."""

    def __init__(self, seed: int) -> None:
        self.draws = Draws(seed)
        self.draws.weights()
        self.generator = Learner("generator", perceptron((2, 20, 20, 2)), lambda k: _RATE, betas=_BETAS)
        self.critic = Learner("critic", perceptron((2, 20, 20, 1)), lambda k: _RATE, betas=_BETAS)

    def _latents(self, n: int, *keys: int) -> Tensor:
        return torch.randn(n, 2, generator=self.draws.generator(*keys))

    def update(self, iteration: int) -> None:
        """One of each network."""
        real = observed(_BATCH, self.draws, iteration)
        fake = self.generator.network(self._latents(_BATCH, Purpose.GENERATED, iteration)).detach()
        judge = self.critic.network
        self.critic.backward(F.softplus(-judge(real)).mean() + F.softplus(judge(fake)).mean())
        self.critic.update(iteration)
        with frozen(judge):
            drawn = self.generator.network(self._latents(_BATCH, Purpose.FOOLING, iteration))
            self.generator.backward(F.softplus(-judge(drawn)).mean())
        self.generator.update(iteration)

    def masses(self, n: int = 10_000) -> Tensor:
        """The shares of drawn points that lie within .15 of each mode, ``[5]``."""
        with torch.no_grad():
            points = self.generator.network(self._latents(n, Purpose.DRAW))
        return (torch.cdist(points, means()) < NEAR).double().mean(0)

    @property
    def good(self) -> bool:
        """Whether it draws all modes, and little beside them; no search can make up for what a generator lacks."""
        masses = self.masses()
        return bool(masses.min() >= 0.08 and masses.sum() >= 0.93)


def trained(seed: int, iterations: int, *, wanted: bool = True) -> RingGan:
    """The first good GAN of a few seeds; any, where no good one is wanted.

    Raises:
        click.ClickException: none is good.
    """
    for attempt in range(_ATTEMPTS):
        gan = RingGan(seed + attempt)
        for iteration in range(iterations):
            gan.update(iteration)
        if gan.good or not wanted:
            gan.generator.network.eval().requires_grad_(False)
            return gan
    raise click.ClickException("no generator draws all five modes; give another --seed or more --iterations")


def ways(temperatures: int, leapfrogs: int, starts: int = 5000) -> dict[str, Settings]:
    """What is compared, by name. Descents take 2,000 steps, or fewer if the chains do."""
    annealed = Settings(
        sigma=GIVEN_VARIANCE**0.5, temperatures=temperatures, leapfrogs=leapfrogs, low=-10.0, high=4.0, first=0.1
    )
    return {
        "ais_hmc": annealed,
        "ais_hmc, row": _with(annealed, step_sizes="row"),
        "ais_hmc, job": _with(annealed, step_sizes="job"),
        "hmc, not annealed": _with(annealed, low=9.0, high=10.0, raw=True, step_sizes="job", first=0.01),
        "hmc, not annealed, row": _with(annealed, low=9.0, high=10.0, raw=True, step_sizes="row"),
        "gd_single": _with(annealed, solver="gd_single", adam=False, rate=0.01, temperatures=min(temperatures, 200)),
        "gd_multi": _with(
            annealed, solver="gd_multi", adam=False, rate=0.01, temperatures=min(temperatures, 200), starts=starts
        ),
    }


def _with(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**vars(settings), **changes})


def seen() -> Observation:
    """x2 = 0; x1 is not looked at."""
    return Observation(whole((1, 1, 2)), torch.zeros(1, 1, 2), torch.tensor([[[0.0, 1.0]]]))


def results(gan: RingGan, how: Settings, seed: int) -> tuple[dict[str, float], Tensor]:
    """Shares near (1, 0), and the points ``[100, 2]``."""
    kernels = Cogeneration(RingDecoder(gan.generator.network), CPU)
    rows = run(solve(kernels, seen(), how, row_seeds(seed, CHAINS), pilot_seed=seed))
    points = rows["image"][:, 0, 0]
    found = ((points - means()[0]).square().mean(1) < FOUND).double()
    figures = {"share": float(found.mean())}
    if how.solver == "ais_hmc" and not how.raw:
        W = rows["w"].softmax(0)
        figures |= {"weighted": float(W @ found), "effective": float(1 / W.square().sum())}
    return figures, points


def claims(figures: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """What must hold for a good generator."""
    share = {name: one["share"] for name, one in figures.items()}
    return [
        Claim("annealed chains at (1, 0)", share["ais_hmc"], 0.88),
        Claim("the same, weighted", figures["ais_hmc"]["weighted"], 0.95),
        Claim("the same where chains share their step size", share["ais_hmc, job"], 0.88),
        Claim("the same, weighted", figures["ais_hmc, job"]["weighted"], 0.95),
        Claim("without annealing", share["hmc, not annealed"], 0.45, at_least=False),
        Claim("descent from one start", share["gd_single"], 0.4, at_least=False),
    ]


def draw(gan: RingGan, shown: Mapping[str, Tensor], path: Path) -> None:
    """The data and the generator, and where each way ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with torch.no_grad():
        made = gan.generator.network(torch.randn(1000, 2, generator=torch.Generator().manual_seed(1)))
    panels = {"generator": made, **shown}
    figure, axes = plt.subplots(1, len(panels), figsize=(2.6 * len(panels), 2.8), layout="constrained")
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        axis.scatter(*means().T.numpy(), s=90, facecolors="none", edgecolors="grey")
        axis.axhline(0, color="lightgrey", linewidth=0.8, zorder=0)
        axis.scatter(*points.T.numpy(), s=6, alpha=0.5)
        axis.set(title=title, xticks=[], yticks=[], xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


@click.command(help=__doc__)
@click.option("--iterations", default=15_000, show_default=True, type=click.IntRange(1), help="Of the GAN.")
@click.option("--temperatures", default=2000, show_default=True, type=click.IntRange(1))
@click.option("--leapfrogs", default=10, show_default=True, type=click.IntRange(1))
@click.option("--starts", default=5000, show_default=True, type=click.IntRange(1), help="Of gd_multi.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--any-generator", is_flag=True, help="Go on with a generator that lacks modes.")
@click.option("--picture", type=click.Path(path_type=Path), help="A PNG of where each way ends.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(
    iterations: int,
    temperatures: int,
    leapfrogs: int,
    starts: int,
    seed: int,
    any_generator: bool,
    picture: Path | None,
    path: Path | None,
) -> None:
    facts = machine(CPU)
    show_machine(facts)
    gan = trained(seed, iterations, wanted=not any_generator)
    click.echo(f"masses of the generator's modes: {', '.join(f'{mass:.3f}' for mass in gan.masses().tolist())}")
    figures, shown = {}, {}
    for name, how in ways(temperatures, leapfrogs, starts).items():
        figures[name], shown[name] = results(gan, how, seed)
        click.echo(f"{name}: {figures[name]}")
    columns = ("share", "weighted", "effective")
    rows = [
        [name, *(f"{one[column]:.2f}" if column in one else "" for column in columns)] for name, one in figures.items()
    ]
    show_table("shares of 100 results near (1, 0), and effective chains", ["way", *columns], rows)
    held = claims(figures)
    show_claims(held)
    if picture:
        draw(gan, shown, picture)
    if path:
        write_json(path, "ring", facts, dict(figures), held)


if __name__ == "__main__":
    main()
