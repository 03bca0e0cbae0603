"""Cooperative training against its baselines: ``python -m benchmarks.baselines --model NAME --data DATA``.

The U-Net of a checkpoint is trained twice more on the checkpoint's data, with l1 alone and as a conditional GAN, each
for the time that the cooperative training took. Time is counted in iterations at a pace that is measured here, for all
three in turn, so a checkpoint that was trained on another machine is compared fairly too. All are measured on the same
test images, holes and dropout masks. A run that was stopped goes on from its last save.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

import click
import torch

from benchmarks import workload
from benchmarks.loops import synchronize
from benchmarks.report import Claim, machine, show_claims, show_machine, show_table, write_json
from benchmarks.rivals import Rival, fit
from coopserve.configured import settings_from
from models.checkpoints import CheckpointError, load_model, read_card
from models.data.images import DataError
from models.evaluation import pictures as picture_evaluation
from models.evaluation.base import Run
from models.evaluation.pictures import PictureBench
from models.metrics.effnet import EffNetFeatures, Features, FeaturesError
from models.networks.unet import UNet
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.model import ImageCCoopNets
from models.systems.ccoopnets.images.networks import PairSolver
from models.systems.ccoopnets.images.variant import make_trainer
from workers.device import prepare_torch

Direction: TypeAlias = Literal["AtoB", "BtoA"]

RIVALS: Mapping[str, bool] = {"l1": False, "gan": True}
"""The baselines, and whether each has a discriminator."""

_TITLES = {
    "proposal": "proposal",
    "refined": "refined",
    "l1": "U-Net, l1 alone",
    "gan": "U-Net, conditional GAN",
    "copy": "the condition itself",
    "mean_fill": "mean of visible pixels",
    "real": "training images",
}
_COLUMNS = ("psnr", "ssim", "l1", "kid", "kid_std_error", "diversity")


@dataclass(frozen=True, eq=False)
class Contest:
    """A checkpoint and what its baselines share with it.

    Args:
        bench: the checkpoint with its data.
        config: what it was trained with.
        seed: of its training.
        device: where the baselines are trained.
    """

    bench: PictureBench
    config: ImageConfig
    seed: int
    device: torch.device

    def rival(self, kind: str, iterations: int) -> Rival:
        return Rival(
            self.config,
            self.bench.train,
            seed=self.seed,
            device=self.device,
            iterations=iterations,
            adversarial=RIVALS[kind],
        )

    def served(self, unet: UNet) -> PictureBench:
        """The bench with a model whose initializer is this U-Net and which refines nothing.

        So its dropout is active and its answers, seeds and holes are those that the checkpoint's proposals have.
        """
        kernels = ImageCCoopNets(self.config, unet, PairSolver(self.config), {}, torch.device("cpu"))
        return replace(
            self.bench, model=replace(self.bench.model, kernels=kernels), defaults={**self.bench.defaults, "steps": 0}
        )


@dataclass(frozen=True)
class Budget:
    """How long a baseline is trained.

    Args:
        iterations: of its own.
        pace: seconds of one of them, as measured here.
        cooperative_pace: seconds of one iteration of the cooperative training, measured in turn with it.
    """

    iterations: int
    pace: float
    cooperative_pace: float


def open_contest(folder: Path, data: str, direction: Direction, datasets: Path, device: torch.device) -> Contest:
    """A checkpoint with the data that it was trained on.

    Raises:
        click.ClickException: the checkpoint has no image as condition, or was trained on other data.
        CheckpointError, DataError: it or the data can't be used.
    """
    card = read_card(folder)
    if not {"translate", "inpaint"} & card["tasks"].keys():
        raise click.ClickException(f"{card['name']} neither translates nor inpaints; there is nothing to compare")
    training = card["training"]
    config = ImageConfig.model_validate(card["config"])
    model = load_model(folder, torch.device("cpu"))
    bench = picture_evaluation.prepare(model, Run(data, datasets, direction), config.task)
    if training["data"]["sha256"] != bench.train.sha256():
        raise click.ClickException(f"{card['name']} was not trained on {data} but on {training['data']['name']}")
    return Contest(bench, config, training["seed"], device)


def budgets(contest: Contest, seconds: float | None, rounds: int) -> dict[str, Budget]:
    """Iterations of each baseline in the time of the cooperative training, or in ``seconds``.

    One iteration of each is timed in turn, ``rounds`` times, so that a machine that gets slower on the way slows all.
    """
    trainer = make_trainer(contest.config, contest.bench.train, contest.seed, contest.device)
    steps: dict[str, Callable[[int], object]] = {"cooperative": lambda k: trainer.step(k, 1.0, 0)}
    steps |= {kind: contest.rival(kind, rounds).step for kind in RIVALS}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step(k)
            synchronize(contest.device)
            times[name].append(time.perf_counter() - started)
    pace = {name: median(values[1:]) for name, values in times.items()}  # the first of each also warms up
    whole = seconds or contest.config.training.iterations * pace["cooperative"]
    return {kind: Budget(max(round(whole / pace[kind]), 1), pace[kind], pace["cooperative"]) for kind in RIVALS}


def planned(file: Path, plan: Callable[[], dict[str, Budget]]) -> dict[str, Budget]:
    """The budgets of an earlier run in the same folder, or new ones, which are written down for a later run."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({kind: asdict(budget) for kind, budget in plan().items()}, indent=2))
    return {kind: Budget(**budget) for kind, budget in json.loads(file.read_text()).items()}


def compare(
    contest: Contest, plan: Mapping[str, Budget], features: Features, work: Path, label: str
) -> dict[str, dict[str, float]]:
    """Train the baselines and measure them and the checkpoint on the same test images: a row of figures each."""
    bench = contest.bench
    click.echo(f"measuring {label}")
    report = picture_evaluation.evaluate(bench, features, bench.test)
    rows = {name: report[name] for name in _TITLES if name in report}
    for kind, budget in plan.items():
        rival = contest.rival(kind, budget.iterations)
        with click.progressbar(length=budget.iterations, label=_TITLES[kind]) as bar:
            fit(rival, work / f"{kind}.safetensors", bar.update)
        served = contest.served(rival.served())
        rows[kind] = picture_evaluation.evaluate(served, features, bench.test)["proposal"]
    return {name: rows[name] for name in _TITLES if name in rows}


def claims_of(rows: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """What refinement should gain, as the paper's table 4 has it."""

    def more(column: str, other: str) -> float:
        return rows["refined"][column] - rows[other][column]

    return [
        Claim("KID x 1000: refined - proposal", 1000 * more("kid", "proposal"), 0.0, at_least=False),
        Claim("KID x 1000: refined - l1 alone", 1000 * more("kid", "l1"), 0.0, at_least=False),
        Claim("KID x 1000: refined - GAN", 1000 * more("kid", "gan"), 0.0, at_least=False),
        Claim("PSNR: refined - GAN", more("psnr", "gan"), 0.0, unit=" dB"),
        Claim("SSIM: refined - GAN", more("ssim", "gan"), 0.0),
        Claim("PSNR: refined - l1 alone", more("psnr", "l1"), -0.5, unit=" dB"),
    ]


def _work_folder(root: Path, contest: Contest, seconds: float | None) -> Path:
    """A folder for each training that differs in what it depends on."""
    settings = [contest.config.model_dump(mode="json"), contest.bench.train.sha256(), contest.seed, seconds]
    return root / hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def _table(rows: Mapping[str, Mapping[str, float]]) -> Sequence[list[str]]:
    def cell(row: Mapping[str, float], column: str) -> str:
        return f"{row[column]:.{2 if column == 'psnr' else 4}f}" if column in row else ""

    return [[_TITLES[name], *(cell(row, column) for column in _COLUMNS)] for name, row in rows.items()]


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", required=True, help="A shipped model that translates or inpaints.")
@click.option("--data", required=True, help="The data set that it was trained on.")
@click.option("--direction", type=click.Choice(["AtoB", "BtoA"]), default="AtoB", help="Of aligned pairs of one's own.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Train each baseline for so long instead.")
@click.option("--rounds", default=20, type=click.IntRange(1), help="Iterations over which the pace is measured.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("var/baselines"), help="Where trainings live.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--device", help="auto, cpu, cuda or cuda:N. [default: COOPSERVE_DEVICE, or auto]")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    name: str,
    data: str,
    direction: Direction,
    seconds: float | None,
    rounds: int,
    work: Path,
    threads: int | None,
    device: str | None,
    path: Path | None,
) -> None:
    """Compare a checkpoint with its own U-Net trained by l1 alone and as a conditional GAN."""
    settings = settings_from(torch_threads=threads, device=device)
    place = prepare_torch(settings)
    facts = machine(place)
    show_machine(facts)
    subject = workload.find_model(name, settings)
    try:
        contest = open_contest(subject.folder, data, direction, settings.datasets_dir, place)
        features = EffNetFeatures()
    except (CheckpointError, DataError, FeaturesError) as error:
        raise click.ClickException(str(error)) from None
    folder = _work_folder(work, contest, seconds)
    plan = planned(folder / "plan.json", lambda: budgets(contest, seconds, rounds))
    for kind, budget in plan.items():
        click.echo(f"{_TITLES[kind]}: {budget.iterations:,} iterations of {budget.pace * 1000:.0f} ms; in {folder}")
    rows = compare(contest, plan, features, folder, subject.card.ref)
    show_table(f"{subject.card.ref} on {len(contest.bench.test)} test images", ["", *_COLUMNS], _table(rows))
    claims = claims_of(rows)
    show_claims(claims)
    if path:
        trained = {kind: asdict(budget) for kind, budget in plan.items()}
        figures = {"model": subject.card.ref, "data": data, "budgets": trained, "rows": rows}
        write_json(path, "baselines", facts, figures, claims)


if __name__ == "__main__":
    main()
