"""Which pictures are kept, for whom, and how many bytes are counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from service.contract.errors import ServiceError, StorageError
from service.contract.jobs import Inputs, JobRecord
from service.contract.records import Status
from service.pictures.blobs import Blobs
from service.pictures.places import shelf_key
from service.pictures.room import Room
from service.pictures.shelf import Shelf
from service.pictures.uploads import Received, Uploads
from service.store.ledger import Ledger, Stored
from service.store.types import StorageLimits
from tests.service.submitting import SubmittingStore

NewJob = Callable[[], JobRecord]
NONE, ANY, LONG = StorageLimits(), Room(None, 0), 60.0
CAT, DOG = b"a cat", b"a dog, longer"


@pytest.fixture
def ledger(client: redis.Redis) -> Ledger:
    return Ledger(client)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


@pytest.fixture
def shelf(blobs: Blobs, ledger: Ledger) -> Shelf:
    return Shelf(blobs, ledger, NONE, ANY)


def test_an_owner_s_equal_pictures_are_kept_once(shelf: Shelf, ledger: Ledger, tmp_path: Path) -> None:
    first = shelf.keep("one", "ann", {"image": CAT, "mask": CAT}, LONG)
    second = shelf.keep("two", "ann", {"image": CAT, "other": DOG}, LONG)
    assert first["image"] == first["mask"] == second["image"] != second["other"]
    assert ledger.stored("ann") == Stored(len(CAT) + len(DOG), 0, len(CAT) + len(DOG))
    theirs = shelf.keep("three", "bob", {"image": CAT}, LONG)
    assert theirs["image"] != first["image"]  # nobody learns from it what others have
    assert [shelf.get(names["image"]) for names in (first, second, theirs)] == [CAT] * 3
    assert len(list(tmp_path.rglob("*.png"))) == 3


def test_a_picture_goes_with_its_last_holder(shelf: Shelf, ledger: Ledger) -> None:
    name = shelf.keep("one", "ann", {"image": CAT}, LONG)["image"]
    shelf.keep("two", "ann", {"image": CAT}, LONG)
    shelf.let_go("one")
    shelf.let_go("one")
    assert shelf.get(name) == CAT
    assert ledger.stored("ann").owner == len(CAT)
    shelf.let_go("two")
    with pytest.raises(FileNotFoundError):
        shelf.get(name)
    assert ledger.stored("ann") == Stored(0, 0, 0)
    again = shelf.keep("three", "ann", {"image": CAT}, LONG)["image"]
    assert again != name  # who still deletes the old one does no harm
    assert shelf.get(again) == CAT


def test_a_hold_ends_with_its_time(shelf: Shelf, ledger: Ledger, tmp_path: Path) -> None:
    shelf.keep("gone", None, {"image": CAT}, 0.0)
    kept = shelf.keep("kept", None, {"image": DOG}, LONG)
    shelf.sweep()
    assert [path.stem for path in tmp_path.rglob("*.png")] == [kept["image"]]
    assert ledger.held("gone") == []
    assert ledger.stored() == Stored(len(DOG), 0, 0)


def test_litter_that_could_not_be_deleted_is_deleted_later(shelf: Shelf, ledger: Ledger, blobs: Blobs) -> None:
    name = shelf.keep("one", None, {"image": CAT}, LONG)["image"]
    ledger.let_go("one")  # and the process ends here
    assert blobs.exists(shelf_key(name))
    shelf.sweep()
    assert not blobs.exists(shelf_key(name))
    assert ledger.litter() == []


def test_a_picture_that_was_never_written_is_written_by_the_next(shelf: Shelf, ledger: Ledger) -> None:
    ledger.hold("dead", "ann", {hashlib.sha256(CAT).hexdigest(): len(CAT)}, LONG, NONE)  # and the process ends here
    assert shelf.get(shelf.keep("two", "ann", {"image": CAT}, LONG)["image"]) == CAT


class FullBlobs:
    """A disk that takes nothing."""

    def put(self, key: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    def exists(self, key: str) -> bool:
        return False

    def delete_prefix(self, prefix: str) -> None:
        pass


def test_what_can_t_be_written_is_not_held(ledger: Ledger) -> None:
    with pytest.raises(OSError, match="No space"):
        Shelf(FullBlobs(), ledger, NONE, ANY).keep("one", "ann", {"image": CAT}, LONG)  # type: ignore[arg-type]
    assert ledger.held("one") == []
    assert ledger.stored("ann") == Stored(0, 0, 0)


def test_pictures_are_refused_where_there_is_no_room(blobs: Blobs, ledger: Ledger) -> None:
    shelf = Shelf(blobs, ledger, StorageLimits(owner=2 * len(CAT), all=3 * len(CAT)), ANY)
    shelf.keep("one", "ann", {"image": CAT}, LONG)
    shelf.keep("two", "ann", {"image": CAT}, LONG)  # costs nothing
    with pytest.raises(StorageError) as refused:
        shelf.keep("three", "ann", {"image": DOG}, LONG)
    assert (refused.value.kind, refused.value.problem.status) == ("too-much-stored", 429)
    shelf.keep("four", "ann", {"image": b"a cow"}, LONG)
    shelf.keep("five", None, {"image": CAT}, LONG)
    with pytest.raises(StorageError) as refused:
        shelf.keep("six", "bob", {"image": CAT}, LONG)
    assert (refused.value.kind, refused.value.problem.status) == ("storage-full", 507)
    assert ledger.stored("ann") == Stored(3 * len(CAT), 0, 2 * len(CAT))
    shelf.let_go("five")
    shelf.keep("six", "bob", {"image": CAT}, LONG)


def with_inputs(new_job: NewJob, shelf: Shelf, owner: str | None, seconds: float = LONG) -> JobRecord:
    record = new_job()
    names = shelf.keep(record.id, owner, {"image": CAT}, seconds)
    return record.model_copy(update={"inputs": Inputs(pictures=names).model_dump()})


def test_an_accepted_job_holds_its_pictures_until_it_is_forgotten(
    client: redis.Redis, ledger: Ledger, shelf: Shelf, new_job: NewJob
) -> None:
    store = SubmittingStore(client, JobRecord, keep_seconds=0.0)
    record = with_inputs(new_job, shelf, "ann", seconds=0.3)
    store.submit(record, owner="ann", bytes=1000)
    assert store.get(record.id).given().pictures["image"] == ledger.held(record.id)[0].name
    assert ledger.held(record.id)[0].until is None
    before = ledger.stored("ann")
    assert before.owner == before.all == before.records + 1000 + len(CAT)
    claimed = store.claim(record.id, "w", LONG)
    assert claimed is not None
    assert shelf.get(claimed.given().pictures["image"]) == CAT
    store.finish(record.id, claimed.attempt, Status.SUCCEEDED, stored_bytes=70)
    settled = ledger.stored("ann")
    assert settled.owner - settled.records == len(CAT) + 70
    store.forget(store.expired())
    assert ledger.stored("ann") == Stored(0, 0, 0)
    shelf.sweep()
    with pytest.raises(FileNotFoundError):
        shelf.get(claimed.given().pictures["image"])


@pytest.mark.parametrize("end", ["queued", "running", "lost"])
def test_what_a_job_was_given_room_for_is_settled(
    client: redis.Redis, ledger: Ledger, new_job: NewJob, end: str
) -> None:
    store, record = SubmittingStore(client, JobRecord), new_job()
    store.submit(record, bytes=1000)
    if end == "queued":
        store.cancel(record.id)
    elif end == "running":
        store.claim(record.id, "w", LONG)
        store.finish(record.id, 1, Status.FAILED, stored_bytes=10)
    else:  # nobody knows what its worker has left on the disk
        store.claim(record.id, "w", 0.0)
        store.cancel(record.id)
        store.requeue_expired()
    found = ledger.stored()
    assert store.get(record.id).status.terminal
    assert found.all - found.records == {"queued": 0, "running": 10, "lost": 1000}[end]


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        (StorageLimits(owner=10_000), "too-much-stored"),
        (StorageLimits(all=10_000), "storage-full"),
        (StorageLimits(records=40_000), "too-much-stored"),
    ],
)
def test_records_and_their_outputs_are_refused_where_there_is_no_room(
    client: redis.Redis, ledger: Ledger, new_job: NewJob, limits: StorageLimits, kind: str
) -> None:
    store = SubmittingStore(client, JobRecord)
    store.submit(new_job(), owner="ann", storage=limits)
    before = ledger.stored("ann")
    with pytest.raises(StorageError) as refused:
        store.submit(new_job(), owner="ann", storage=limits, bytes=500)
    assert refused.value.kind == kind
    assert ledger.stored("ann") == before
    assert store.depth() == 1


def test_a_submission_that_comes_after_its_pictures_went_is_refused(
    client: redis.Redis, shelf: Shelf, new_job: NewJob
) -> None:
    store = SubmittingStore(client, JobRecord)
    record = with_inputs(new_job, shelf, None, seconds=0.0)
    shelf.sweep()
    with pytest.raises(ServiceError, match="send it again"):
        store.submit(record)
    assert store.depth() == 0


def test_uploads_expire(shelf: Shelf) -> None:
    received = Received(CAT, 1, 1, "png", 5, "0" * 64)
    image, old = Uploads(shelf, hours=1).add(received), Uploads(shelf, hours=0).add(received)
    assert shelf.get(Uploads(shelf, hours=1).find(image.id).name) == CAT
    with pytest.raises(ServiceError, match="expired"):
        Uploads(shelf, hours=1).find(old.id)
    shelf.sweep()
    assert shelf.get(Uploads(shelf, hours=1).find(image.id).name) == CAT


def test_nothing_is_held_where_the_disk_is_full(blobs: Blobs, ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="bytes left"):
        Shelf(blobs, ledger, NONE, Room(tmp_path, 2**60)).keep("one", "ann", {"image": CAT}, LONG)
    assert ledger.held("one") == []


def test_one_owner_can_t_fill_the_database(client: redis.Redis, ledger: Ledger, new_job: NewJob) -> None:
    store, limits = SubmittingStore(client, JobRecord), StorageLimits(records=100_000)

    def submit(owner: str | None) -> None:
        for _ in range(15):
            store.submit(new_job(), owner=owner, storage=limits)

    with pytest.raises(StorageError) as refused:
        submit("ann")
    assert refused.value.kind == "too-much-stored"
    assert 10_000 < ledger.stored("ann").owner <= 25_000
    store.submit(new_job(), owner="bob", storage=limits)
    with pytest.raises(StorageError) as refused:
        submit(None)
    assert refused.value.kind == "storage-full"
    assert 90_000 < ledger.stored().records <= 100_000


def test_a_full_disk_refuses_and_an_empty_one_does_not(tmp_path: Path) -> None:
    Room(tmp_path / "not" / "there" / "yet", 1).check(1)
    Room(None, 2**60).check(2**60)
    Room(tmp_path, 0).check(2**60)
    for room, wanted in ((Room(tmp_path, 2**60), 0), (Room(tmp_path, 1), 2**60)):
        with pytest.raises(StorageError, match="bytes left"):
            room.check(wanted)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["keep", "let go", "sweep"]),
        st.sampled_from(["one", "two", "three"]),
        st.sets(st.sampled_from([CAT, DOG, b"a cow"]), min_size=1),
    ),
    max_size=20,
)
OWNER_OF = {"one": "ann", "two": "ann", "three": "bob"}


@hypothesis.settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=STEPS)
def test_whatever_happens_the_account_is_what_is_held(
    client: redis.Redis, ledger: Ledger, shelf: Shelf, tmp_path: Path, steps: list[tuple[str, str, set[bytes]]]
) -> None:
    client.flushdb()
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    held: dict[str, dict[bytes, str]] = {holder: {} for holder in OWNER_OF}
    for step, holder, files in steps:
        if step == "keep":
            names = shelf.keep(holder, OWNER_OF[holder], {data.decode(): data for data in files}, LONG)
            held[holder] |= {word.encode(): name for word, name in names.items()}
        elif step == "let go":
            shelf.let_go(holder)
            held[holder] = {}
        else:
            shelf.sweep()
        for owner in ("ann", "bob"):
            own = set().union(*(held[holder] for holder in OWNER_OF if OWNER_OF[holder] == owner))
            assert ledger.stored(owner).owner == sum(map(len, own))
        assert all(shelf.get(name) == data for names in held.values() for data, name in names.items())
    shelf.sweep()
    kept = {name for names in held.values() for name in names.values()}
    assert {path.stem for path in tmp_path.rglob("*.png")} == kept
