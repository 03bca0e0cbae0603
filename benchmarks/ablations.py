"""What each part of CF-EBM is worth at equal wall time: ``python -m benchmarks.ablations --data fashion-mnist``.

One model is grown from coarse to fine; the others differ from it in one point each: trained at full size from the
start, with another activation, without spectral normalisation. All are trained for the same time, by the loop that
``coopserve train`` uses, with its guards: that a variant is rolled back or diverges is a result as well. Then all are
judged as trainings judge themselves, by the kernel distance (KID) of drawn images to real ones.

A run that was stopped goes on with the variant that it was at; what has been measured is not measured again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.report import machine, show_machine, show_table, write_json
from coopserve.configured import settings_from
from models.data.catalog import load
from models.data.images import DataError, ImageData
from models.metrics.effnet import EffNetFeatures, Features, FeaturesError
from models.metrics.kid import kid_with_error
from models.systems.cfebm.config import GenerationConfig
from models.systems.cfebm.presets import GENERATION_PRESETS
from models.training.configuration import TrainingError, fit
from models.training.plan import Plan
from models.training.training import Training
from workers.device import prepare_torch

_ENDLESS = 1_000_000


@dataclass(frozen=True)
class Scale:
    """The size of all variants.

    Args:
        c: the network is 4c wide.
        largest: pixels of the side at the last stage.
        steps: of a stage; trained directly, the last size takes those of all stages.
        batch: images an update.
        phase: images over which a block is faded in.
        rate: learning rate.
    """

    c: int
    largest: int
    steps: int
    batch: int
    phase: int
    rate: float

    def stage(self, size: int, steps: int) -> dict[str, Any]:
        return {
            "size": size,
            "steps": steps,
            "batch_size": self.batch,
            "phase": self.phase,
            "learning_rate": self.rate,
        }

    def variants(self) -> dict[str, GenerationConfig]:
        """The configurations by name; the first is what the others are held against."""
        document = GENERATION_PRESETS["small"].model_dump()
        document["training"]["iterations"] = _ENDLESS
        document["network"]["c"] = self.c
        document["image_size"] = self.largest
        sizes = [8 << k for k in range((self.largest // 8).bit_length())]
        grown = {**document, "stages": [self.stage(size, self.steps) for size in sizes]}
        direct = {**document, "stages": [self.stage(self.largest, self.steps * len(sizes))]}

        def network(**changes: Any) -> dict[str, Any]:
            return {**grown, "network": {**grown["network"], **changes}}

        documents = {
            "grown, swish, spectral norm": grown,
            "direct": direct,
            "leaky ReLU": network(activation="leaky_relu"),
            "ReLU": network(activation="relu"),
            "without spectral norm": network(spectral=False),
        }
        return {name: GenerationConfig.model_validate(content) for name, content in documents.items()}


@dataclass(frozen=True, eq=False)
class Ablation:
    """What all variants share.

    Args:
        data: training images, also those that drawn images are held against.
        work: a folder below which each variant has its own.
        minutes: of training, each.
        judged: images drawn at the end, and so many real ones.
    """

    data: ImageData
    work: Path
    seed: int
    minutes: float
    judged: int
    features: Features
    device: torch.device

    def measure(self, name: str, config: GenerationConfig) -> dict[str, Any]:
        """Train one variant, or go on with it, and judge it."""
        fitted = fit("cfebm/generation", config, self.data)
        identity = [self.data.sha256(), self.seed, self.minutes, self.judged, fitted.model_dump(mode="json")]
        folder = self.work / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
        known = folder / "figures.json"
        if known.exists():
            figures: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
            return figures
        command = "python -m benchmarks.ablations"
        plan = Plan(
            "cfebm/generation", fitted, self.data, "ablation", self.seed, self.device, command, {}, self.features
        )
        training = Training(plan, folder)
        figures = {"variant": name, "outcome": self._train(training), **self._state(training)}
        known.write_text(json.dumps(figures, indent=2), encoding="utf-8")
        return figures

    def _train(self, training: Training) -> str:
        """Until the time is over, or until guards end it; what became of it, in words."""
        try:
            training.run(lambda: training.progress.seconds >= 60 * self.minutes)
        except TrainingError as error:
            return str(error)
        return "ended early with its best state" if training.progress.ended else "trained to the end"

    def _state(self, training: Training) -> dict[str, Any]:
        """How far it came, and the distance of what it draws; none where full size is not reached."""
        progress, trainer = training.progress, training.trainer
        last = trainer.stage == len(training.plan.config.stages) - 1
        drawn = trainer.draw(self.judged) if last else None
        found: dict[str, Any] = {
            "seconds": round(progress.seconds, 1),
            "iterations": progress.iteration,
            "rollbacks": progress.rollbacks,
            "stage": trainer.stage,
        }
        if drawn is not None and drawn.isfinite().all():
            order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(self.seed))
            real = trainer.reference(self.data.images[order[: self.judged]])
            distance = kid_with_error(self.features(drawn), self.features(real))
            found |= {"kid": distance.value, "kid_std_error": distance.std_error}
        return found


def _row(figures: dict[str, Any]) -> list[str]:
    distance = f"{figures['kid']:.4f} +- {figures['kid_std_error']:.4f}" if "kid" in figures else "-"
    numbers = [str(figures[name]) for name in ("iterations", "rollbacks", "stage")]
    return [figures["variant"], *numbers, distance, figures["outcome"]]


@click.command(context_settings={"show_default": True})
@click.option("--data", required=True, help="A fetched data set, or a folder.")
@click.option("--minutes", default=4.0, type=click.FloatRange(0, min_open=True), help="Of training, each variant.")
@click.option("--c", default=8, type=click.IntRange(1), help="The networks are 4c wide.")
@click.option("--largest", default="32", type=click.Choice(["16", "32", "64"]), help="Pixels of the last stage.")
@click.option("--steps", default=15, type=click.IntRange(1), help="Of the chain in each stage.")
@click.option("--batch", default=32, type=click.IntRange(2), help="Images an update.")
@click.option("--phase", default=3_200, type=click.IntRange(1), help="Images over which a block is faded in.")
@click.option("--rate", default=1e-3, type=click.FloatRange(0, min_open=True), help="Learning rate.")
@click.option("--judged", default=500, type=click.IntRange(10), help="Images that are judged at the end.")
@click.option("--seed", default=0)
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--work", type=click.Path(path_type=Path), default=Path("var/ablations"))
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(data: str, minutes: float, threads: int | None, path: Path | None, **options: Any) -> None:
    """Train variants of CF-EBM for the same time, and compare what they draw."""
    settings = settings_from(torch_threads=threads)
    device = prepare_torch(settings)
    facts = machine(device)
    show_machine(facts)
    sizes = {name: options[name] for name in ("c", "steps", "batch", "phase", "rate")}
    scale = Scale(largest=int(options["largest"]), **sizes)
    try:
        images, features = load(data, "train", settings.datasets_dir), EffNetFeatures(device)
        shared = options["work"], options["seed"], minutes, options["judged"]
        ablation = Ablation(images, *shared, features, device)
        rows = []
        for name, config in scale.variants().items():
            rows.append(ablation.measure(name, config))
            click.echo("  ".join(_row(rows[-1])))
    except (DataError, FeaturesError, TrainingError) as error:
        raise click.ClickException(str(error)) from None
    title = f"{minutes:g} minutes of {images.name} each, judged by KID (EffNet-Lite0) of {options['judged']} images"
    show_table(title, ["variant", "iterations", "rolled back", "stage", "KID", "outcome"], [_row(row) for row in rows])
    if path:
        figures = {"data": images.name, "minutes": minutes, "scale": asdict(scale), "variants": rows}
        write_json(path, "ablations", facts, figures, [])


if __name__ == "__main__":
    main()
