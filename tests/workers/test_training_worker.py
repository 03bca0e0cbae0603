"""The training worker on a real store: end, cancel, hand-back, take-over."""

from __future__ import annotations

import shlex
import shutil
import threading
import time
from pathlib import Path
from typing import Any, get_args

import pytest
import redis
from PIL import Image

from coopserve.commands.train import assignment
from models.data.catalog import DATASETS
from models.data.images import DataError
from models.data.pairs import Direction
from service.contract.catalog import Catalog
from service.contract.data_places import uploads_of
from service.contract.records import Status, now
from service.contract.trainings import TrainingHistory, TrainingRecord, TrainingRequest
from service.pictures.blobs import Blobs
from service.pictures.places import training_figure, training_history
from service.settings import Settings
from service.store.presence import Presence
from service.store.types import Name, Queued
from tests.models.test_data_kinds import save_domains
from tests.service.fakes import card, write_card
from tests.service.submitting import SubmittingStore
from tests.workers.test_inference import eventually
from workers.plans import command_of, data_source
from workers.training import TrainingWorker
from workers.upkeep.heart import Heart

SAMPLE = Path(__file__).parent.parent / "data" / "fashion-sample.npz"


TRANSLATION = {"system": "cfebm", "preset": "small-translate", "iterations": 1, "batch_size": None}


class Trainers:
    """Trainers on one store."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.settings, self.client = settings, client
        self.store = SubmittingStore(client, TrainingRecord)
        self.sent: list[Queued] = []
        self.owner: str | None = None
        self.hearts: list[Heart] = []
        self.lost: list[Exception] = []
        settings.datasets_dir.mkdir(parents=True)
        shutil.copy(SAMPLE, settings.datasets_dir / "sample.npz")
        save_domains(settings.datasets_dir / "horses", trainA=5, trainB=4)

    def worker(self, name: str = "trainer-1", device: str = "cpu") -> TrainingWorker:
        settings = self.settings.model_copy(update={"device": device})
        heart = Heart(self.store, Presence(self.client), settings, "training", name, dict)
        heart.start()
        self.hearts.append(heart)
        blobs = Blobs(self.settings.blobs_dir)
        return TrainingWorker(self.store, blobs, heart, self.sent.append, settings, name, self.lost.append)

    def submit(self, **changes: Any) -> str:
        body = {"data": "sample", "name": "mine", "iterations": 6, "batch_size": 4, **changes}
        if "system" not in changes:
            body["overrides"] = {"refinement.steps": 2, **changes.get("overrides", {})}
        request = TrainingRequest.model_validate(body)
        record = TrainingRecord(id=TrainingRecord.new_id(), created_at=now(), params=request)
        return self.store.submit(record, name=Name(request.name, self.owner))[0].id

    def close(self) -> None:
        for heart in self.hearts:
            heart.stop()


@pytest.fixture
def trainers(settings: Settings, client: redis.Redis) -> Any:
    trainers = Trainers(settings, client)
    yield trainers
    trainers.close()


def test_a_training_ends_in_a_model_of_the_catalog(trainers: Trainers) -> None:
    id = trainers.submit()
    trainers.worker().run(id)
    record = trainers.store.get(id)
    assert (record.status, record.model) == (Status.SUCCEEDED, "mine@1")
    assert record.metrics.keys() >= {"gap", "move"}
    assert len(record.samples) == 1
    assert record.figure == f"/v1/trainings/{id}/figure"
    blobs = Blobs(trainers.settings.blobs_dir)
    assert blobs.get(training_figure(id).key).startswith(b"\x89PNG")
    history = TrainingHistory.of(blobs.get(training_history(id).key)).items
    assert [line.iteration for line in history] == [6]
    assert history[0].metrics.keys() >= {"gap", "move"}
    card = Catalog(trainers.settings.model_dirs).get("mine@1")
    assert card.training["iterations"] == 6
    assert "--set refinement.steps=2 --set training.iterations=6" in card.training["command"]


TRACKIO = """
import pathlib, sys

def tell(*words):
    with pathlib.Path(__file__).with_name("told").open("a") as told:
        print(*words, file=told)

def init(**given):
    tell("init", given["name"], given["project"])
    return sys.modules[__name__]

def log(content, step):
    tell("log", step, *sorted(content))

def finish():
    tell("finish")

def Image(path):
    return path
"""
"""A package on the disk, as the real one is."""


def test_a_training_is_told_to_the_tracker_of_the_settings(
    trainers: Trainers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trackio.py").write_text(TRACKIO)
    monkeypatch.syspath_prepend(tmp_path)
    trainers.settings = trainers.settings.model_copy(update={"tracker": "trackio"})
    id = trainers.submit(iterations=1)
    trainers.worker().run(id)
    assert trainers.store.get(id).status is Status.SUCCEEDED
    first, *logged, last = (tmp_path / "told").read_text().splitlines()
    assert (first, last) == (f"init {id} coopserve", "finish")
    assert "log 1 samples" in logged
    assert any(line.startswith("log 1 ") and "gap" in line for line in logged)


def test_what_of_the_data_is_left_out_is_told_once_and_pictures_are_fitted(trainers: Trainers) -> None:
    root = trainers.settings.datasets_dir / "photos"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for k in range(10):
            Image.new("RGB", (40 + k, 40), (k, 0, 0)).save(root / name / f"{k}.JPG")
    (root / "cat" / "old.bmp").touch()
    (root / "bird").mkdir()
    shape = {"preset": "small-colour", "image_size": 32, "channels": 3, "overrides": {"solver.head": 2}}
    id = trainers.submit(data="photos", iterations=1, **shape)
    trainers.worker().run(id)
    record = trainers.store.get(id)
    assert (record.status, record.model) == (Status.SUCCEEDED, "mine@1"), record.error
    assert [warning.rpartition(": ")[2] for warning in record.warnings] == ["cat/old.bmp", "bird"]
    card = Catalog(trainers.settings.model_dirs).get("mine@1")
    assert (card.classes, card.image.width, card.image.channels) == (["cat", "dog"], 32, 3)
    assert sum(card.training["data"]["classes"].values()) == card.training["data"]["images"] == 16
    assert "--image-size 32 --channels 3" in card.training["command"]


def test_a_model_belongs_to_whom_it_was_trained_for(trainers: Trainers) -> None:
    trainers.owner = "alice"
    id = trainers.submit()
    trainers.worker().run(id)
    assert trainers.store.get(id).model == "mine@1"
    catalog = Catalog(trainers.settings.model_dirs)
    assert (catalog.get("mine").owner, catalog.owners("mine")) == ("alice", {"alice"})


def test_a_name_that_became_somebody_elses_is_not_published_under(trainers: Trainers) -> None:
    ids = []
    for trainers.owner in ("bob", None):
        ids.append(trainers.submit(name=f"mine-{len(ids)}"))
        write_card(trainers.settings.models_dir, card(f"mine-{len(ids) - 1}", owner="alice"))
    for id in ids:
        trainers.worker().run(id)
        error = trainers.store.get(id).error
        assert error is not None
        assert "belongs to somebody else now" in error.detail
    assert not list(trainers.settings.models_dir.glob("mine-*/2"))


def test_two_domains_without_pairs_are_learned(trainers: Trainers) -> None:
    id = trainers.submit(**TRANSLATION, data="horses", direction="BtoA", overrides={"network.c": 1})
    trainers.worker().run(id)
    record = trainers.store.get(id)
    assert (record.status, record.model) == (Status.SUCCEEDED, "mine@1"), record.error
    card = Catalog(trainers.settings.model_dirs).get("mine@1")
    assert set(card.tasks) == {"translate", "score"}
    assert card.training["data"]["name"] == "horses/train/BtoA"
    assert card.training["data"]["images"] == 3  # two are held out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": "nothing"}, "there is no data set 'nothing'; choose one of: fashion-mnist, digits"),
        ({"direction": "BtoA"}, "no pairs that BtoA could turn round"),
        ({"preset": "huge"}, "unknown preset 'huge'"),
        ({"system": "gan"}, "unknown system 'gan'"),
        ({"overrides": {"speed": 9}}, "unknown setting 'speed'"),
        ({**TRANSLATION, "data": "sample"}, "sample/train has no two domains; give aligned pairs"),
        (
            {**TRANSLATION, "data": "horses", "preset": "tiny", "iterations": None},
            "systems that translate without them",
        ),
        ({"overrides": {"training.lr_solver": 1e6}, "iterations": 200}, "diverged"),
    ],
)
def test_what_cannot_be_trained_fails_with_its_reason(trainers: Trainers, changes: Any, reason: str) -> None:
    id = trainers.submit(**changes)
    trainers.worker().run(id)
    record = trainers.store.get(id)
    assert record.status == Status.FAILED
    assert record.error is not None
    assert reason in record.error.detail


def in_thread(worker: TrainingWorker, id: str) -> threading.Thread:
    thread = threading.Thread(target=worker.run, args=[id])
    thread.start()
    return thread


def steps_done(trainers: Trainers, id: str) -> int:
    progress = trainers.store.get(id).progress
    return progress.step if progress else 0


def test_a_cancel_stops_it(trainers: Trainers) -> None:
    id = trainers.submit(iterations=100_000)
    thread = in_thread(trainers.worker(), id)
    eventually(lambda: steps_done(trainers, id) > 0, 60)
    trainers.store.cancel(id)
    thread.join(30)
    assert trainers.store.get(id).status == Status.CANCELLED
    assert not (trainers.settings.models_dir / "mine").exists()


def test_a_trainer_that_shuts_down_hands_the_training_back_and_another_goes_on(trainers: Trainers) -> None:
    id = trainers.submit(iterations=100_000)
    first = trainers.worker("trainer-1")
    thread = in_thread(first, id)
    eventually(lambda: steps_done(trainers, id) > 1, 60)
    first.stop()
    thread.join(30)
    record = trainers.store.get(id)
    assert record.status == Status.QUEUED
    assert Queued(id, 5) in trainers.sent
    done = record.progress.step if record.progress else 0
    second = trainers.worker("trainer-2")
    thread = in_thread(second, id)
    eventually(lambda: trainers.store.get(id).attempt == 2 and steps_done(trainers, id) > done, 60)
    trainers.store.cancel(id)
    thread.join(30)
    assert trainers.store.get(id).status == Status.CANCELLED


def lose(trainers: Trainers, id: str) -> Status:
    """Let a trainer take the training that dies before it has begun; gives what becomes of the training."""
    assert trainers.store.claim(id, "a-trainer-that-dies", 0.005) is not None
    time.sleep(0.01)
    trainers.store.requeue_expired()
    return trainers.store.get(id).status


def test_a_training_that_takes_too_much_memory_is_refused_before_it_begins(trainers: Trainers) -> None:
    trainers.settings = trainers.settings.model_copy(update={"training_memory_bytes": 2**28})
    id = trainers.submit(batch_size=65_536)
    trainers.worker().run(id)
    error = trainers.store.get(id).error
    assert error is not None
    assert error.kind == "training-failed"
    assert "with 65536 images a batch this training would take about" in error.detail
    assert not (trainers.settings.trainings_dir / id).exists()


def test_a_training_whose_trainer_is_killed_twice_fails_with_the_likely_reason(trainers: Trainers) -> None:
    id = trainers.submit()
    assert [lose(trainers, id), lose(trainers, id)] == [Status.QUEUED, Status.FAILED]
    error = trainers.store.get(id).error
    assert error is not None
    assert error.kind == "worker-lost"
    assert error.detail.startswith("2 trainers in a row were killed and had saved nothing new, probably because")


def test_trainers_may_be_lost_as_long_as_the_training_gets_further(trainers: Trainers) -> None:
    id = trainers.submit(iterations=100_000)
    for _ in range(2):
        done = steps_done(trainers, id)
        worker = trainers.worker()
        thread = in_thread(worker, id)
        eventually(lambda done=done: steps_done(trainers, id) > done + 1, 60)  # type: ignore[misc]
        worker.stop()
        thread.join(30)
        for _ in range(TrainingRecord.max_lost - 1):
            assert lose(trainers, id) is Status.QUEUED
    assert lose(trainers, id) is Status.FAILED
    error = trainers.store.get(id).error
    assert error is not None
    assert error.kind == "worker-lost"


def test_a_trainer_whose_device_is_dead_fails_no_training(trainers: Trainers) -> None:
    id, broken = trainers.submit(), trainers.worker("trainer-1", "cuda:99")
    broken.run(id)
    assert ["'cuda:99' can't be used" in str(error) for error in trainers.lost] == [True]
    assert (broken.draining, trainers.store.get(id).status) == (True, Status.RUNNING)
    eventually(lambda: trainers.store.requeue_expired())
    trainers.worker("trainer-2").run(id)
    assert trainers.store.get(id).status is Status.SUCCEEDED


def test_a_running_training_is_not_started_twice(trainers: Trainers) -> None:
    id = trainers.submit(iterations=100_000)
    thread = in_thread(trainers.worker("trainer-1"), id)
    eventually(lambda: trainers.store.get(id).status == Status.RUNNING)
    trainers.worker("trainer-2").run(id)  # a second message: returns at once
    assert trainers.store.get(id).attempt == 1
    trainers.store.cancel(id)
    thread.join(30)


def test_the_contract_names_the_directions_of_the_data() -> None:
    assert get_args(TrainingRequest.model_fields["direction"].annotation) == get_args(Direction)
    turned = TrainingRequest(data="fluent", name="mine", direction="BtoA")
    assert "--data fluent --name mine --seed 0 --direction BtoA" in command_of(turned)
    assert "--direction" not in command_of(TrainingRequest(data="fluent", name="mine"))


def test_the_command_on_a_card_is_safe_in_a_shell_and_gives_the_same_settings() -> None:
    given: dict[str, Any] = {
        "solver.activation": "x; touch /tmp/x $(id)",
        "a.b": True,
        "c.d": 1.5,
        "e.f": "1",
        "g.h": "bf16",
    }
    request = TrainingRequest(data="sample", name="mine", overrides=given, iterations=6)
    words = shlex.split(command_of(request))
    assert words[:2] == ["coopserve", "train"]
    pairs = [word.partition("=") for place, word in enumerate(words) if words[place - 1] == "--set"]
    read = {path: assignment(f"{path}={value}")[1] for path, _, value in pairs}
    assert read == {**given, "training.iterations": 6}


def test_uploads_are_found_for_their_owner_alone(tmp_path: Path) -> None:
    for owner in ("ada", None):
        (uploads_of(tmp_path, owner) / "my photos" / "my photos").mkdir(parents=True)
    hers, nobodys = (tmp_path / ".uploads" / name / "my photos" / "my photos" for name in ("ada", "-"))
    assert data_source("my photos", tmp_path, "ada") == str(hers)
    assert data_source("my photos", tmp_path) == str(nobodys)
    with pytest.raises(DataError, match="there is no data set 'my photos'"):
        data_source("my photos", tmp_path, "bob")


def test_data_are_named_never_pathed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "other.npz").touch()
    assert data_source("mine", tmp_path) == str(tmp_path / "mine")
    assert data_source("other", tmp_path) == str(tmp_path / "other.npz")
    assert data_source("digits", tmp_path) == "digits"
    with pytest.raises(DataError, match=f"choose one of: {', '.join(DATASETS)}, mine, other"):
        data_source("service", tmp_path)
