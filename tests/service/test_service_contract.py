"""Requests as the contract resolves them, and settings, blobs and messages: parts that need no server."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.contract.cards import ModelCard
from service.contract.errors import TooManyError, UnprocessableError
from service.contract.jobs import TASKS, Generate, Interpolate, JobRecord, Reconstruct, Score, Translate, mix_of
from service.contract.records import TRANSITIONS, Status
from service.pictures.blobs import Blobs
from service.settings import Settings
from service.store.queue import INFERENCE_QUEUE, RUN_JOB, JobQueue, celery_options
from service.store.types import QueueLimits
from tests.service.fakes import card, cards
from tests.service.submitting import SubmittingStore

CLASSES = ["Bag", "Coat", "Sneaker"]
CARD = ModelCard.model_validate(card())


@pytest.mark.parametrize(
    ("label", "mix"),
    [
        ("Coat", {"Coat": 1.0}),
        ("coat", {"Coat": 1.0}),
        (2, {"Sneaker": 1.0}),
        ({"Sneaker": 3.0, "Bag": 1.0}, {"Bag": 0.25, "Sneaker": 0.75}),
        ({"coat": 2.0, "Bag": 0.0}, {"Coat": 1.0}),
        ({"Bag": 5e-324, "Coat": 5e-324}, {"Bag": 0.5, "Coat": 0.5}),
    ],
)
def test_labels_become_weights_in_the_cards_order(label: Any, mix: dict[str, float]) -> None:
    found = mix_of(label, CLASSES)
    assert found == mix
    assert list(found) == list(mix)


def test_an_exact_name_goes_before_a_likeness() -> None:
    assert mix_of("bag", ["Bag", "bag"]) == {"bag": 1.0}
    with pytest.raises(UnprocessableError):
        mix_of("BAG", ["Bag", "bag"])


@given(st.dictionaries(st.sampled_from(CLASSES), st.floats(0, 1e6), min_size=1))
def test_a_mix_sums_to_one_and_keeps_its_proportions(label: dict[str, float]) -> None:
    if max(label.values()) == 0:
        with pytest.raises(UnprocessableError):
            mix_of(label, CLASSES)
        return
    mix = mix_of(label, CLASSES)
    assert math.isclose(sum(mix.values()), 1.0, rel_tol=1e-9)
    top = max(label, key=lambda name: label[name])
    for name, weight in label.items():
        assert math.isclose(mix.get(name, 0.0), weight / label[top] * mix[top], rel_tol=1e-9, abs_tol=1e-300)


def test_a_resolved_request_stays_what_it_is() -> None:
    params, warnings = Generate(model="toy", label="bag", n=2).resolve(CARD)
    assert warnings == []
    assert [name for name, value in params if value is None] == ["max_queue_seconds", "webhook"]
    record = JobRecord.new(params, warnings)
    assert JobRecord.model_validate_json(record.model_dump_json()).request() == params
    assert params.resolve(CARD) == (params, [])


def test_the_seed_chooses_a_class_when_none_is_given() -> None:
    chosen = {next(iter(Generate(model="toy", seed=seed).resolve(CARD)[0].label or {})) for seed in range(9)}  # type: ignore[arg-type]
    assert chosen == set(CLASSES)


def test_models_without_classes_take_no_label() -> None:
    plain = ModelCard.model_validate(card(classes=None))
    assert Generate(model="toy").resolve(plain)[0].label is None
    with pytest.raises(UnprocessableError, match="no classes"):
        Generate(model="toy", label="Bag").resolve(plain)


@pytest.mark.parametrize(
    ("task", "changes", "rows", "row_steps"),
    [
        ("generate", {}, 1, 11),
        ("generate", {"n": 3, "steps": 4}, 3, 3 * 5),
        ("generate", {"n": 3, "steps": 4, "refine": False}, 3, 3 * 1),
        # Of three classes each is tried where the label is unknown; one latent serves all labels that are asked for.
        ("reconstruct", {"image": "x"}, 1, 11 + 3 * 21),
        ("reconstruct", {"image": "x", "label": "Bag"}, 1, 11 + 21),
        ("reconstruct", {"image": "x", "n": 2, "options": {"latent_steps": 0}, "refine": False}, 2, 2 + 2 * 3),
        ("restyle", {"image": "x"}, 3, 3 * 11 + 3 * 21),
        (
            "restyle",
            {"image": "x", "labels": ["Bag", "Coat"], "n": 2, "options": {"latent_steps": 7}},
            4,
            4 * 11 + 2 * 3 * 8,
        ),
        ("restyle", {"image": "x", "labels": ["Bag", "Coat"], "n": 2, "label": {"Bag": 1, "Coat": 1}}, 4, 44 + 2 * 21),
    ],
)
def test_the_cost_is_rows_times_steps_times_pixels(
    task: str, changes: dict[str, Any], rows: int, row_steps: int
) -> None:
    whole = {**cards()[1]["tasks"], **card()["tasks"]}
    able = ModelCard.model_validate(card(tasks=whole))
    request, _ = TASKS[task].model_validate({"model": "toy", **changes}).resolve(able)
    assert (request.rows, request.cost(able)) == (rows, row_steps * 28 * 28)


@pytest.mark.parametrize("task", ["reconstruct", "restyle"])
def test_rows_that_are_searched_in_all_classes_count_as_images_do(task: str) -> None:
    able = ModelCard.model_validate(cards()[1])  # at most 8 rows, three classes
    few = {"model": "toy", "image": "x", **({"labels": ["Bag"]} if task == "restyle" else {})}
    TASKS[task].model_validate({**few, "n": 2}).resolve(able)
    TASKS[task].model_validate({**few, "n": 8, "label": "Bag"}).resolve(able)
    with pytest.raises(UnprocessableError, match=r"9 in all.*takes 8 a job: send the label, or ask for at most 2"):
        TASKS[task].model_validate({**few, "n": 3}).resolve(able)


def test_a_model_that_cannot_do_the_task_says_what_it_can() -> None:
    ability = card()["tasks"]["generate"]
    with pytest.raises(UnprocessableError, match="score"):
        Generate(model="toy").resolve(ModelCard.model_validate(card(tasks={"score": ability})))


def energy_card(**limits: Any) -> ModelCard:
    """A model without an initializer and without labels, or (with ``chance`` false) one of two domains."""
    ability = card()["tasks"]["generate"]
    able = {**ability, "limits": {**ability["limits"], "proposal": False, **limits}}
    single = {**able, "limits": {**able["limits"], "max_n": 1}}
    tasks = {"generate": able, "inpaint": able, "denoise": able, "score": single}
    if not able["limits"].get("chance", True):
        return ModelCard.model_validate(card(classes=["A", "B"], tasks={"translate": able, "score": single}))
    return ModelCard.model_validate(card(classes=None, tasks=tasks))


def test_cards_that_say_nothing_of_it_have_proposals_and_chance() -> None:
    limits = CARD.tasks["generate"].limits
    assert (limits.proposal, limits.chance) == (True, True)


@pytest.mark.parametrize("task", ["generate", "denoise", "inpaint"])
def test_a_model_without_an_initializer_proposes_nothing(task: str) -> None:
    body = {"model": "toy"} | ({"image": "x"} if TASKS[task].pictures else {})
    assert TASKS[task].model_validate(body).resolve(energy_card())[0].refine is True
    with pytest.raises(UnprocessableError, match="no proposals to give in"):
        TASKS[task].model_validate({**body, "refine": False}).resolve(energy_card())


def test_several_equal_results_are_refused_and_noise_makes_them_differ() -> None:
    asked = {"model": "toy", "image": "x", "label": "B"}
    two_domains = energy_card(chance=False)
    with pytest.raises(UnprocessableError, match="would be the same: ask for one, or send noise above 0"):
        Translate.model_validate({**asked, "n": 2}).resolve(two_domains)
    assert Translate.model_validate({**asked, "n": 2, "noise": 0.01}).resolve(two_domains)[0].n == 2
    assert Translate.model_validate(asked).resolve(two_domains)[0].n == 1
    assert Generate(model="toy", n=2).resolve(energy_card())[0].n == 2


def test_a_translation_between_domains_names_the_one_it_leads_to() -> None:
    asked, two_domains = {"model": "toy", "image": "x"}, energy_card(chance=False)
    resolved = Translate.model_validate({**asked, "label": "b", "animate": True}).resolve(two_domains)[0]
    assert (resolved.label, resolved.animate) == ({"B": 1.0}, True)
    with pytest.raises(UnprocessableError, match="several kinds of image; choose one of: A, B"):
        Translate.model_validate(asked).resolve(two_domains)
    pairs = ModelCard.model_validate(cards()[2])
    plain = Translate.model_validate(asked).resolve(pairs)[0]
    assert (plain.label, plain.animate) == (None, False)
    with pytest.raises(UnprocessableError, match="no classes"):
        Translate.model_validate({**asked, "label": "B"}).resolve(pairs)


def test_a_model_of_latents_takes_two_pictures_or_two_seeds() -> None:
    latents = ModelCard.model_validate(cards()[4])
    for ends in ({"seeds": [1, 2]}, {"images": ["x", "y"]}):
        resolved = Interpolate.model_validate({"model": "toy", **ends}).resolve(latents)[0]
        assert (resolved.seeds, resolved.images) == (ends.get("seeds"), ends.get("images"))
        assert resolved.labels is None
    again = Reconstruct.model_validate({"model": "toy", "image": "x"}).resolve(latents)[0]
    assert (again.label, again.options) == (None, {"iterations": 3})


def test_only_models_that_do_nothing_but_fill_in_judge_with_a_mask() -> None:
    holes = ModelCard.model_validate(cards()[3])
    asked = {"model": "toy", "image": "x"}
    whole = Score.model_validate(asked)
    assert (whole.masked(holes), whole.masked(energy_card())) == (True, False)
    assert whole.resolve(energy_card())[0].model_dump(include={"label", "mask"}) == {"label": None, "mask": None}
    masked = Score.model_validate({**asked, "mask": "y"})
    assert masked.resolve(holes)[0].mask == "y"
    with pytest.raises(UnprocessableError, match="takes no mask; leave it out"):
        masked.resolve(energy_card())


def test_ids_sort_by_time() -> None:
    ids = [JobRecord.new_id() for _ in range(1000)]
    assert sorted(ids) == ids
    assert len(set(ids)) == len(ids)


def test_the_status_machine_ends() -> None:
    assert TRANSITIONS.keys() == set(Status)
    assert {status for status in Status if status.terminal} == {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COOPSERVE_PORT", "9000")
    monkeypatch.setenv("COOPSERVE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COOPSERVE_REDIS_URL", "")
    settings = Settings()
    assert (settings.port, settings.blobs_dir, settings.redis_url) == (9000, tmp_path / "blobs", None)
    assert settings.checkpoints_dir.name == "checkpoints"
    assert settings.checkpoints_dir.is_absolute()
    with pytest.raises(ValueError, match="COOPSERVE_REDIS_URL"):
        _ = settings.broker_url


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("REDIS_URL", "http://x", "redis://HOST"),
        ("PORT", "70000", "65535"),
        ("DEVICE", "gpu", "cuda:N"),
        ("MAX_ROWS", "0", "greater than or equal to 1"),
        ("HEARTBEAT_SECONDS", "10", "third of lease_seconds"),
        ("LEASE_SECONDS", "nan", "3600"),
        ("LOG_LEVEL", "loud", "debug"),
    ],
)
def test_bad_settings_say_what_to_do(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(f"COOPSERVE_{name}", value)
    with pytest.raises(ValidationError, match=says):
        Settings()


def test_blobs_are_stored_whole_and_removed_by_prefix(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    blobs.put("jobs/a/0.png", b"one")
    blobs.put("jobs/a/0.png", b"two")
    blobs.put("jobs/a/previews/5.png", b"")
    assert blobs.get("jobs/a/0.png") == b"two"
    assert blobs.get("jobs/a/previews/5.png") == b""
    assert sorted(path.name for path in (tmp_path / "blobs" / "jobs" / "a").iterdir()) == ["0.png", "previews"]
    assert blobs.exists("jobs/a/0.png")
    assert not blobs.exists("jobs/a")
    with pytest.raises(FileNotFoundError):
        blobs.get("jobs/b/0.png")
    blobs.delete_prefix("jobs/a")
    blobs.delete_prefix("jobs/a")
    assert not blobs.exists("jobs/a/0.png")


def test_blobs_live_on_other_file_systems() -> None:
    blobs = Blobs("memory://bucket/prefix")
    blobs.put("jobs/a/0.png", b"one")
    assert blobs.get("jobs/a/0.png") == b"one"
    blobs.delete_prefix("jobs")
    assert not blobs.exists("jobs/a/0.png")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a/.b", "a\\b", "a/b/", "a\n", "é"]
)
def test_odd_keys_reach_no_file(tmp_path: Path, key: str) -> None:
    blobs = Blobs(tmp_path)
    for call in (blobs.get, blobs.exists, blobs.delete_prefix, lambda key: blobs.put(key, b"x")):
        with pytest.raises(ValueError, match="not a key"):
            call(key)


def test_messages_are_those_of_celery_and_greater_priorities_lie_first(
    settings: Settings, client: redis.Redis, sent: Callable[[], int]
) -> None:
    queue = JobQueue(client, RUN_JOB, INFERENCE_QUEUE)
    queue.send("job_1", 9)
    queue.send("job_2", 0)
    assert sent() == 2
    ours = json.loads(client.lpop(INFERENCE_QUEUE))  # type: ignore[arg-type]
    assert client.llen(f"{INFERENCE_QUEUE}:9") == 1

    celery = Celery(set_as_current=False)
    celery.conf.update(celery_options(settings))
    with celery.connection_for_write() as connection:
        celery.send_task(RUN_JOB, ["job_1"], connection=connection, queue=INFERENCE_QUEUE, priority=0, retry=False)
    theirs = json.loads(client.lpop(INFERENCE_QUEUE))  # type: ignore[arg-type]
    for message in (ours, theirs):
        assert message["headers"].pop("id") == message["headers"].pop("root_id")
        assert message["properties"].pop("correlation_id")
        assert message["properties"].pop("delivery_tag")
        message["headers"].pop("ignore_result")  # an option of the task, which a sender that has only its name lacks
        message["properties"].pop("reply_to", None)  # where results would go
    assert ours == theirs


def test_a_record_comes_with_its_message_or_not_at_all(
    jobs: SubmittingStore[JobRecord], new_job: Callable[[], JobRecord], client: redis.Redis, sent: Callable[[], int]
) -> None:
    queue, record = JobQueue(client, RUN_JOB, INFERENCE_QUEUE), new_job()
    jobs.submit(record, message=queue.message(record.id))
    jobs.submit(record, message=queue.message(record.id))  # sent twice by the client library after a lost answer
    assert sent() == 1
    with pytest.raises(TooManyError):
        jobs.submit(new_job(), limits=QueueLimits(max_queued=1), message=queue.message("job_2"))
    assert sent() == 1


@pytest.mark.parametrize(
    ("step_size", "most"), [(None, 50), (1.0, 50), (3.0, 50), (0.5, 100), (0.3, 166), (0.1, 200), (0.0, 200)]
)
def test_shorter_steps_may_be_more(step_size: float | None, most: int) -> None:
    """The toy bears 50 steps of the trained size."""
    body = {"model": "toy", "label": "Bag", **({} if step_size is None else {"step_size": step_size})}
    assert Generate.model_validate({**body, "steps": most}).resolve(CARD)[0].steps == most
    with pytest.raises(UnprocessableError, match=rf"steps: toy@1 takes 0 to {most} with step_size"):
        Generate.model_validate({**body, "steps": most + 1}).resolve(CARD)


def test_warnings_say_what_more_steps_than_trained_mean() -> None:
    warnings = Generate.model_validate({"model": "toy", "label": "Bag", "steps": 11}).resolve(CARD)[1]
    assert warnings == [
        "toy@1 was trained with 10 refinement steps; after 11 its images may be worse, and their energies are not "
        "comparable with those after 10"
    ]
    score_card = ModelCard.model_validate(cards()[1])
    request = Score.model_validate({"model": "toy-classes", "label": "Bag", "image": "img", "steps": 11})
    (warning,) = request.resolve(score_card)[1]
    assert warning.endswith("the values of `trace` after step 10 are not comparable with those before")
