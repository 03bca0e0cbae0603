"""``coopserve train``: fit a model in the foreground."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from pydantic_core import PydanticCustomError

from coopserve.commands.following import followed
from coopserve.configured import data_dir, settings_from
from service.contract.data_facts import DataFacts, NoDataError, facts_of, fetched
from service.contract.data_places import find_data
from service.contract.trainable import Asked, RefusedError, Trainable
from service.contract.trainings import check_model_name
from service.settings import Settings

if TYPE_CHECKING:
    import torch

    from models.training.plan import Plan
    from models.training.team import Team

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
@click.option(
    "--devices",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="How many devices share each batch: GPUs, or processes on the CPU (the extra `devices`).",
)
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

    from models.checkpoints import CheckpointError
    from models.data.images import DataError
    from models.training.configuration import TrainingError
    from models.training.team import ALONE

    try:
        if options["devices"] > 1:
            found = _several(options, replaced, home)
        else:
            found = _fit(ALONE, None, options, replaced, home)
    except (TrainingError, DataError, CheckpointError) as error:
        raise click.ClickException(str(error)) from None
    if isinstance(found, Refused):
        raise click.ClickException(found.reason)
    click.echo(found.said)
    if not found.finished:
        sys.exit(130)


class Outcome(NamedTuple):
    """How a training ended: at its end or stopped, and what to say of it."""

    finished: bool
    said: str


class Refused(NamedTuple):
    """Why a training can't be."""

    reason: str


def _several(options: dict[str, Any], replaced: dict[str, Any], home: Settings) -> Outcome | Refused:
    """Fit by several processes."""
    from models.training.configuration import choose, find_variant
    from models.training.several import check_several, run_several
    from workers.device import choose_device

    device, size = choose_device(options["device"] or home.device), options["devices"]
    variant = find_variant(options["system"], options["preset"])
    check_several(variant, choose(variant, options["preset"], replaced), size, device)
    return run_several(size, device, _fit_in_team, options, replaced, home)


def _fit_in_team(team: Team, device: torch.device, *given: Any) -> Outcome | Refused:
    """One process of several. What all of them refuse is returned: an error would be taken for that of one of them."""
    from models.checkpoints import CheckpointError
    from models.data.images import DataError
    from models.training.configuration import TrainingError

    try:
        return _fit(team, device, *given)
    except (TrainingError, DataError, CheckpointError) as error:
        return Refused(str(error))


def _fit(
    team: Team, device: torch.device | None, options: dict[str, Any], replaced: dict[str, Any], home: Settings
) -> Outcome:
    """Fit on a device, or on the one of the options; the first process of a team alone tells of it."""
    import torch

    from models.training.folder import has_begun
    from models.training.history import before
    from models.training.training import Training

    torch.set_flush_denormal(True)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    plan = _plan(team, device, options, replaced, home)
    folder = home.trainings_dir / f"{plan.name}-{_identity(plan)}"
    models = options["out"] or home.models_dir

    def prepare() -> None:
        if options["fresh"] or not has_begun(folder):
            _check_memory(plan, home)
        _show_data(plan, options["data_name"])
        if options["fresh"]:
            shutil.rmtree(folder, ignore_errors=True)

    team.told(prepare)
    with followed(home, folder, plan, options["tensorboard"]) as follower:
        training = Training(plan, folder, follower.show)
        follower.begin(training.progress.iteration, before(training, models) if team.first else [])
        finished = training.run(follower.stopped)
    if not finished:
        return Outcome(False, f"saved in {folder}; the same command goes on from there")
    model = team.told(lambda: training.publish(models, beside=home.checkpoints_dir))
    return Outcome(True, f"{plan.name}@{model.name} is in {model}; training.png and samples are in {folder}")


def _check_memory(plan: Plan, home: Settings) -> None:
    """Refuse a training that takes too much. On a CPU the processes of several share its memory; a GPU has its own."""
    from models.training.memory import check_memory
    from models.training.team import ALONE
    from workers.device import training_memory

    sharing = plan.team.size if plan.device.type == "cpu" else 1
    check_memory(replace(plan, team=ALONE), training_memory(home, plan.device) // sharing)


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


def _plan(
    team: Team, device: torch.device | None, options: dict[str, Any], replaced: dict[str, Any], home: Settings
) -> Plan:
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
    device = training_device(str(device) if device else options["device"] or home.device)
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
        features=installed_features(device) if team.first else None,
        team=team,
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
