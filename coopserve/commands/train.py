"""``coopserve train``: fit a model in the foreground."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic_core import PydanticCustomError

from coopserve.configured import data_dir, settings_from
from service.contract.data_facts import DataFacts, NoDataError, facts_of, fetched
from service.contract.data_places import find_data
from service.contract.trainable import Asked, RefusedError, Trainable
from service.contract.trainings import check_model_name
from service.settings import Settings

if TYPE_CHECKING:
    from models.training.plan import Event, Plan

DIRECTION = "Of data in two parts A and B: which is the condition or source, and which is made from it."


@click.command()
@click.option("--system", default="ccoopnets", show_default=True, help="The method.")
@click.option("--preset", default="small", show_default=True, help="Sizes and constants to start from.")
@click.option(
    "--data",
    "data_name",
    required=True,
    help="A data set by its name, an npz file or a folder.",
)
@click.option("--name", required=True, help="Name of the model.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Replace a setting of the preset.")
@click.option("--image-size", type=click.IntRange(1), help="Resize the images to so many pixels square.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Convert to grey (1) or colour (3).")
@click.option("--direction", default="AtoB", show_default=True, type=click.Choice(["AtoB", "BtoA"]), help=DIRECTION)
@click.option("--device", help="Where to train. [default: COOPSERVE_DEVICE, or auto]")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@data_dir
@click.option("--out", type=click.Path(path_type=Path), help="Folder of models to write to. [default: DATA_DIR/models]")
@click.option("--fresh", is_flag=True, help="Start again instead of going on from the last save.")
@click.option("--tensorboard", is_flag=True, help="Also write logs for TensorBoard (the extra `tensorboard`).")
@click.option(
    "--tracker",
    type=click.Choice(["none", "trackio", "wandb"]),
    help="Also log to trackio or Weights & Biases (the extra of that name). [default: COOPSERVE_TRACKER, or none]",
)
def train(**options: Any) -> None:
    """Fit a model, with a progress bar. Stopped by Ctrl-C, it saves; the same command goes on from there."""
    home = settings_from(data_dir=options["data_dir"], tracker=options["tracker"])
    options["data_name"] = place_of(options["data_name"], home)
    replaced = dict(map(assignment, options["settings"]))
    _check(options, replaced, home)  # before torch is there, and before anything is created

    import torch

    from models.checkpoints import CheckpointError
    from models.data.images import DataError
    from models.training.configuration import TrainingError
    from models.training.folder import has_begun
    from models.training.history import before
    from models.training.memory import check_memory
    from models.training.training import Training
    from workers.device import training_memory

    torch.set_flush_denormal(True)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    try:
        plan = _plan(options, replaced, home)
        folder = home.trainings_dir / f"{plan.name}-{_identity(plan)}"
        if options["fresh"] or not has_begun(folder):
            check_memory(plan, training_memory(home, plan.device))
        _show_data(plan, options["data_name"])
        models = options["out"] or home.models_dir
        if options["fresh"]:
            shutil.rmtree(folder, ignore_errors=True)
        with _Display(folder, plan, options["tensorboard"]) as display, _tracked(home, folder, plan) as track:
            training = Training(plan, folder, _each(display.show, track))
            display.begin(training.progress.iteration, before(training, models))
            finished = training.run(display.stopped)
    except (TrainingError, DataError, CheckpointError) as error:
        raise click.ClickException(str(error)) from None
    if not finished:
        click.echo(f"saved in {folder}; the same command goes on from there")
        sys.exit(130)
    model = training.publish(models, beside=home.checkpoints_dir)
    click.echo(f"{plan.name}@{model.name} is in {model}; training.png and samples are in {folder}")


def _check(options: dict[str, Any], replaced: dict[str, Any], home: Settings) -> None:
    """Refuse what can't work, as the API does, in its words."""
    trainable, name = Trainable.shipped(), options["data_name"]
    asked = [Asked(("--set", path), path, value) for path, value in replaced.items()]
    try:
        check_model_name(options["name"])
        trainable.check_settings(options["system"], options["preset"], asked)
        if name in trainable.data:
            facts = fetched(name, home.datasets_dir, trainable.data[name])
        else:
            facts = facts_of(Path(name)) if Path(name).exists() else DataFacts()
        facts = facts.converted(options["image_size"], int(options["channels"]) if options["channels"] else None)
        trainable.check_data(options["system"], options["preset"], asked, name, facts, options["direction"])
    except RefusedError as error:
        raise click.ClickException(error.said(_as_option, " ")) from None
    except (NoDataError, PydanticCustomError) as error:
        raise click.ClickException(str(error)) from None


def place_of(name: str, home: Settings) -> str:
    """Where data of a name are: one in the data folder, as a training over REST names it, is given its path."""
    if name in Trainable.shipped().data or not name or Path(name).exists():
        return name
    path = None if "/" in name or name.startswith(".") else find_data(home.datasets_dir, name, None)
    return name if path is None else str(path)


def _as_option(field: str, value: object) -> str:
    """A field of the API's request as the option of this command."""
    return f"--{field.replace('_', '-')} {value}"


def _plan(options: dict[str, Any], replaced: dict[str, Any], home: Settings) -> Plan:
    from models.core.devices import set_arithmetic
    from models.data.catalog import read
    from models.metrics.effnet import installed_features
    from models.systems.registry import VARIANTS
    from models.training.configuration import choose, find_variant, fit
    from models.training.plan import Plan
    from service.contract.catalog import Catalog, sole_owner
    from workers.plans import data_facts, owner_facts
    from workers.training import training_device

    channels = int(options["channels"]) if options["channels"] else None
    variant = find_variant(options["system"], options["preset"])
    chosen = choose(variant, options["preset"], replaced)
    data = read(
        VARIANTS[variant].data,
        options["data_name"],
        "train",
        home.datasets_dir,
        image_size=options["image_size"],
        channels=channels,
        direction=options["direction"],
    )
    owner = sole_owner(Catalog(home.model_dirs).owners(options["name"]))
    device = training_device(options["device"] or home.device)
    set_arithmetic(tf32=home.tf32)
    return Plan(
        variant=variant,
        config=fit(variant, chosen, data),
        data=data,
        name=options["name"],
        seed=options["seed"],
        device=device,
        command=shlex.join(["coopserve", *sys.argv[1:]]),
        facts={**data_facts(options["data_name"]), **owner_facts(owner)},
        features=installed_features(device),
    )


def _show_data(plan: Plan, name: str) -> None:
    """Tell what is learned from, and what is left out."""
    from models.data.catalog import DATASETS
    from models.data.own import left_out
    from models.data.summary import summary

    for sentence in [summary(plan.data), *([] if name in DATASETS else left_out(Path(name)))]:
        click.echo(sentence)


def assignment(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"write PATH=VALUE, not {text!r}", param_hint="--set")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


def _identity(plan: Plan) -> str:
    """A short name for settings and data: the same command finds its folder again, another one gets its own."""
    return hashlib.sha256(json.dumps(plan.identity(), sort_keys=True).encode()).hexdigest()[:8]


class _Display:
    """The progress bar, TensorBoard if asked for, and Ctrl-C as a wish to stop."""

    def __init__(self, folder: Path, plan: Plan, tensorboard: bool) -> None:
        from tqdm import tqdm

        from models.systems.registry import VARIANTS
        from models.training.curves import headlines

        self._shown = headlines(VARIANTS[plan.variant].curves)
        self._bar = tqdm(total=plan.config.training.iterations, unit="it", dynamic_ncols=True, desc=plan.name)
        self._writer = _tensorboard(folder) if tensorboard else None
        self._stop = False
        self._values: dict[str, str] = {}

    def __enter__(self) -> _Display:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer:
            self._writer.close()

    def _on_signal(self, *_: object) -> None:
        self._stop = True

    def begin(self, iteration: int, sentences: Sequence[str]) -> None:
        self._bar.n = self._bar.initial = iteration
        for sentence in sentences:
            self._bar.write(sentence)

    def stopped(self) -> bool:
        return self._stop

    def show(self, event: Event) -> None:
        from models.training.curves import meaning

        self._bar.update(event.iteration - self._bar.n)
        if event.kind == "warning":
            self._bar.write(str(event.data["message"]))
        elif event.kind == "metrics":
            found = {name: value for name, value in event.data.items() if name.rpartition(".")[2] in self._shown}
            for name in [name for name in found if name not in self._values]:
                curve = meaning(self._shown, name)
                self._bar.write(f"{name}: {curve.label}; {curve.good}")
            self._values |= {name: f"{value:.3g}" for name, value in found.items()}
            self._bar.set_postfix(self._values)
            for name, value in event.data.items():
                if self._writer:
                    self._writer.add_scalar(name, value, event.iteration)


def _each(*listeners: Callable[[Event], None]) -> Callable[[Event], None]:
    """One listener for several."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


@contextmanager
def _tracked(home: Settings, folder: Path, plan: Plan) -> Iterator[Callable[[Event], None]]:
    """What tells the events of the training to the tracker of the settings, if there is one."""
    from models.training.tracking import Tracker, TrackerError

    if home.tracker == "none":
        yield lambda event: None
        return
    try:
        tracker = Tracker(home.tracker, home.tracker_project, folder.name, plan.described())
    except TrackerError as error:
        raise click.ClickException(str(error)) from None
    try:
        yield tracker.show
    finally:
        tracker.close()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise click.ClickException("TensorBoard is not installed: pip install 'coopserve[tensorboard]'") from None
    return SummaryWriter(str(folder / "tensorboard"))
