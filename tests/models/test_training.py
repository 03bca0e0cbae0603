"""The training loop: resume, roll-back, the model at the end."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import pytest
import torch
from PIL import Image
from torch import Tensor

from models.checkpoints import load_model, load_state
from models.core.loop import RowsError, run
from models.data.catalog import load
from models.data.images import ImageData, to_float
from models.systems.base import Trainer
from models.systems.ccoopnets.labels.config import Config
from models.systems.ccoopnets.labels.networks import Solver
from models.systems.ccoopnets.labels.problem import LabelProblem
from models.systems.ccoopnets.training import CCoopTrainer
from models.training.configuration import TrainingError, configure, find_variant
from models.training.history import before
from models.training.plan import Event, Plan, Rhythm
from models.training.training import Training
from tests.models.around import Around, Step
from tests.models.zoo import QUICK, generate_job, images

SAMPLE = Path(__file__).parent.parent / "data" / "fashion-sample.npz"
SYSTEM_NAMES = list(QUICK)


def plan(system: str, data: ImageData | None = None, seed: int = 1, **overrides: Any) -> Plan:
    data = data or images()
    quick = QUICK[system]
    config = quick.config(system, data, {name.replace("__", "."): value for name, value in overrides.items()})
    variant = find_variant(system, quick.preset)
    return Plan(variant, config, data, "a-model", seed, torch.device("cpu"), "coopserve train ...", {"license": "MIT"})


def log(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


class Until:
    """Stops a training after so many iterations."""

    def __init__(self, iterations: int) -> None:
        self.left = iterations

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@dataclass(frozen=True)
class Whole:
    """A training that ran to its end without a break.

    Args:
        training: at its end.
        folder: where it lives.
        killed: its folder as it was two iterations after its save at ``saved``, as a kill leaves it.
        saved: an iteration in which systems that grow have entered another stage.
        events: all that it told.
    """

    training: Training
    folder: Path
    killed: Path
    saved: int
    events: list[Event]


@pytest.fixture(scope="module", params=SYSTEM_NAMES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """One of each system, for all tests that look at its end."""
    root, events = tmp_path_factory.mktemp("whole"), list[Event]()
    planned = plan(request.param)
    saved = 3 * planned.config.training.iterations // 4

    def report(event: Event) -> None:
        events.append(event)
        if event.kind == "metrics" and event.iteration == saved + 1:
            shutil.copytree(root / "run", root / "killed")

    training = Training(planned, root / "run", report, Rhythm(log=1, save=0.0))
    assert training.run()
    return Whole(training, root / "run", root / "killed", saved, events)


def test_a_resumed_training_repeats_an_unbroken_one(whole: Whole) -> None:
    """What was logged after the last save is written again, and a torn line is dropped."""
    with (whole.killed / "metrics.jsonl").open("a") as file:
        file.write(f'{{"iteration": {whole.saved + 2}, "ga')
    second = Training(whole.training.plan, whole.killed, rhythm=Rhythm(log=1))
    assert second.progress.iteration == whole.saved
    assert second.run()
    assert log(whole.killed) == log(whole.folder)
    ends = [load_state(folder / "state.safetensors")[0] for folder in (whole.folder, whole.killed)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


class KilledError(Exception):
    """Nothing is saved any more."""


def test_a_training_that_is_killed_has_lost_what_came_after_the_last_save(tmp_path: Path) -> None:
    """It saves by time, however long its iterations are."""
    for seconds, kept in ((0.0, 3), (3600.0, 0)):
        folder, rhythm = tmp_path / str(seconds), Rhythm(save=seconds)
        training = Training(plan("ccoopnets"), folder, rhythm=rhythm)

        def kill(training: Training = training) -> bool:
            if training.progress.iteration == 3:
                raise KilledError
            return False

        with pytest.raises(KilledError):
            training.run(kill)
        assert Training(plan("ccoopnets"), folder, rhythm=rhythm).progress.iteration == kept


def test_a_training_ends_in_a_model_with_a_true_card(whole: Whole, tmp_path: Path) -> None:
    training = whole.training
    folder = training.publish(tmp_path / "models")
    assert folder == tmp_path / "models" / "a-model" / "1"
    assert training.publish(tmp_path / "models") == folder  # once
    card = json.loads((folder / "card.json").read_text())
    assert card["training"]["iterations"] == training.iterations
    assert card["training"]["command"] == "coopserve train ..."
    assert card["license"] == "MIT"
    assert (folder / "model.safetensors").stat().st_size == card["files"]["model.safetensors"]["bytes"]
    declared = card["tasks"]["generate"].get("options", {})
    options = {name: option["default"] for name, option in declared.items()}
    made = run(load_model(folder, torch.device("cpu")).start("generate", generate_job(options=options)))
    assert made.images.isfinite().all()
    assert {event.kind for event in whole.events} == {"metrics", "sample", "figure"}
    assert whole.events[-1].data["path"] == whole.folder / "training.png"
    with Image.open(whole.folder / "training.png") as picture:
        assert picture.size[0] > 4 * 28


def test_figures_of_few_iterations_are_in_the_next_line_of_the_log(tmp_path: Path) -> None:
    training = Training(plan("ccoopnets"), tmp_path, rhythm=Rhythm(log=5))

    def looked_at(step: Step, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        metrics = step(iteration, lr_scale, salt)
        return {**metrics, "answers": float(iteration)} if iteration in {0, 2} else metrics

    training.trainer = Around(training.trainer, looked_at)
    assert not training.run(Until(10))
    assert [line.get("answers") for line in log(tmp_path)] == [2.0, None]
    assert all("gap" in line for line in log(tmp_path))


def test_versions_go_on_after_those_of_another_folder(tmp_path: Path) -> None:
    (tmp_path / "shipped" / "a-model" / "7").mkdir(parents=True)
    training = Training(plan("ccoopnets"), tmp_path / "run")
    assert training.publish(tmp_path / "models", beside=tmp_path / "shipped").name == "8"


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    Training(plan("ccoopnets"), tmp_path)
    with pytest.raises(TrainingError, match="another training"):
        Training(plan("ccoopnets", seed=2), tmp_path)


def test_a_training_never_goes_on_with_other_data(tmp_path: Path) -> None:
    begun = plan("ccoopnets")
    assert not Training(begun, tmp_path).run(Until(1))
    assert isinstance(begun.data, ImageData)
    renamed = replace(begun, data=begun.data.subset(slice(None), "another name"))
    assert Training(renamed, tmp_path).progress.iteration == 1
    other = replace(begun, data=replace(begun.data, images=255 - begun.data.images))
    with pytest.raises(TrainingError, match="holds a training on other data, so it can't go on with these"):
        Training(other, tmp_path)


def test_what_is_there_already_is_said_before_a_training_begins(tmp_path: Path) -> None:
    models = tmp_path / "models"
    begun = plan("ccoopnets")
    first = Training(begun, tmp_path / "a-model-00000001")
    assert before(first, models) == []
    assert not first.run(Until(1))
    resumed = Training(begun, tmp_path / "a-model-00000001")
    assert before(resumed, models) == [f"going on from iteration 1 of {first.iterations}"]
    assert isinstance(begun.data, ImageData)
    changed = replace(begun, data=replace(begun.data, images=255 - begun.data.images))
    other = Training(changed, tmp_path / "a-model-00000002")
    assert [sentence.partition(" is in ")[0] for sentence in before(other, models)] == [
        "an unfinished training on other data"
    ]
    resumed.publish(models)
    assert before(resumed, models)[0].startswith("a-model@1 was trained with these settings on these data already")
    (sentence,) = before(other, models)
    assert sentence.startswith("a-model@1 was trained on other data")
    assert sentence.endswith("this training makes a new version")
    (models / "a-model" / "1" / "card.json").write_text("{")
    assert before(other, models)[-1] == "a-model@1 is damaged: this training makes a new version"


def test_divergence_is_rolled_back_with_lower_rates(tmp_path: Path) -> None:
    """One bad iteration (as after a broken batch) is undone, and the training reaches its end."""
    events: list[Event] = []
    training = Training(plan("ccoopnets"), tmp_path, events.append)
    trainer, broken = training.trainer, list[float]()
    assert isinstance(trainer, CCoopTrainer)
    solver = trainer.solver.network
    assert isinstance(solver, Solver)

    def broken_once(step: Step, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        metrics = step(iteration, lr_scale, salt)
        if iteration == 7 and not broken:
            broken.append(lr_scale)
            solver.head.weight.data.fill_(float("nan"))
            return {**metrics, "f_data": float("nan")}
        return metrics

    training.trainer = Around(trainer, broken_once)
    assert training.run()
    assert broken == [1.0]
    assert (training.progress.rollbacks, training.progress.lr_scale) == (1, 0.5)
    assert training.progress.iteration == 12
    assert all(value.isfinite().all() for value in training.trainer.state().values())
    (warning,) = [event for event in events if event.kind == "warning"]
    assert "iteration 7 undone (f_data is not finite); back to 0" in warning.data["message"]


@final
class Unshowable:
    """A trainer whose chains diverge wherever pictures are drawn for people."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def samples(self) -> Tensor:
        raise RowsError("the chain diverged")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)


def test_pictures_that_can_not_be_drawn_do_not_end_a_training(tmp_path: Path) -> None:
    events: list[Event] = []
    training = Training(plan("ccoopnets"), tmp_path, events.append, Rhythm(sample=6))
    training.trainer = Unshowable(training.trainer)
    assert training.run()
    warnings = [event.data["message"] for event in events if event.kind == "warning"]
    assert warnings == [f"no samples of iteration {k}: the chain diverged" for k in (6, 12)]
    assert training.progress.rollbacks == 0


def test_a_hopeless_training_fails_with_its_reason(tmp_path: Path) -> None:
    training = Training(plan("ccoopnets", training__lr_solver=1e6), tmp_path)
    with pytest.raises(TrainingError, match=r"diverged at iteration \d+ after 3 roll-backs"):
        training.run()


@pytest.mark.parametrize(
    ("system", "preset", "overrides", "message"),
    [
        ("gan", "small", {}, "unknown system 'gan'; choose one of: ccoopnets"),
        ("ccoopnets", "huge", {}, "unknown preset 'huge'"),
        ("ccoopnets", "small", {"training.speed": 1}, "unknown setting 'training.speed'"),
        ("ccoopnets", "small", {"training": 1}, "unknown setting 'training'"),
        ("ccoopnets", "small", {"training.iterations": 0}, "training.iterations: .* greater than or equal to 1"),
        ("ccoopnets", "small", {"training.lr_solver": "fast"}, "training.lr_solver: .* number"),
        ("ccoopnets", "paper-svhn", {}, "the preset makes 3x32x32"),
    ],
)
def test_bad_settings_are_named(system: str, preset: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        configure(system, preset, images(), overrides)


def test_data_without_labels_are_refused() -> None:
    data = ImageData(images().images, None, (), "plain")
    with pytest.raises(TrainingError, match="plain has no labels"):
        configure("ccoopnets", "small", data, {})


@pytest.mark.parametrize(("values", "rows"), [(7, 2), (2, 1), (10_000, 8)])
def test_the_likelihood_of_labels_is_of_a_bounded_number_of_values(values: int, rows: int) -> None:
    """Three labels and a batch of eight; however many labels there are, at least one image is looked at."""
    config = configure(
        "ccoopnets",
        "small",
        images(),
        {"training.batch_size": 8, "training.label_values": values, "training.label_likelihood": 0.5},
    )
    assert isinstance(config, Config)
    problem = LabelProblem(config, images(), 0, torch.device("cpu"))
    solver, batch = Solver(config), problem.batch(0, 0)
    one_by_one = torch.stack([solver(batch.y, label.expand(8, 3)) for label in torch.eye(3)], 1).log_softmax(1)
    wanted = -0.5 * (one_by_one * batch.c).sum(1)[:rows].mean()
    torch.testing.assert_close(problem.solver_terms(solver, batch)["label_likelihood"], wanted)


def test_a_short_training_learns_from_real_images(tmp_path: Path) -> None:
    """60 iterations on 300 images: refined images approach the mean image of the data, and f tells labels apart."""
    data = load(str(SAMPLE), "train", tmp_path)
    changes = {"training.iterations": 60, "training.batch_size": 16, "refinement.steps": 5}
    config = configure("ccoopnets", "small", data, changes)
    events: list[Event] = []
    training = Training(
        Plan("ccoopnets/labels", config, data, "m", 0, torch.device("cpu"), ""), tmp_path / "run", events.append
    )
    assert training.run()
    metrics = [event.data for event in events if event.kind == "metrics"]
    assert metrics[-1]["mean_image_mse"] < 0.25
    assert isinstance(training.trainer, CCoopTrainer)
    solver = training.trainer.solver.network
    assert isinstance(solver, Solver)
    assert data.labels is not None
    with torch.no_grad():
        likeliest = solver.of_every_label(to_float(data.images)).argmax(1)
    assert (likeliest == data.labels).float().mean() > 0.25  # chance: 0.1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_optional_terms_train_and_stay_finite(precision: str, tmp_path: Path) -> None:
    settings = {"training__label_likelihood": 1.0, "training__precision": precision, "training__noise_fraction": 0.5}
    training = Training(plan("ccoopnets", **settings), tmp_path)
    assert training.run()
    assert "label_likelihood" in log(tmp_path)[-1]
