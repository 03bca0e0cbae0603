"""The database that a server brings along: its password, its files, its lock, and files that were damaged."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import redis

from coopserve.database import Database, running_url, url_file
from coopserve.embedded import Supervisor
from coopserve.parts import StartError
from service.settings import Settings


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[IO[str]]:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


@pytest.fixture
def database(tmp_path: Path, lock: IO[str]) -> Iterator[Database]:
    database = Database(tmp_path, lock.fileno())
    yield database
    stop(database)


def stop(database: Database) -> None:
    database.part.ask_to_end()
    database.part.wait(10)


def test_it_wants_its_password_and_shows_its_files_to_nobody(database: Database, tmp_path: Path) -> None:
    url = database.start(lambda: False)
    assert running_url(Settings(data_dir=tmp_path)) == url
    with redis.Redis.from_url(url) as client:
        client.set("a", "b")
        (port,) = [client.connection_pool.connection_kwargs["port"]]
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.get("a")
    folder = tmp_path / "valkey"
    for place in (folder, *folder.rglob("*")):
        assert place.stat().st_mode & 0o077 == 0, place
    password = redis.connection.parse_url(url)["password"]
    assert password not in " ".join(database.part.command)
    assert url_file(tmp_path).read_text().strip() == url


def test_its_folder_is_in_use_until_it_has_ended(database: Database, lock: IO[str], tmp_path: Path) -> None:
    """As when the server that started it was killed: nobody else holds the lock any more."""
    database.start(lambda: False)
    lock.close()
    supervisor = Supervisor(Settings(data_dir=tmp_path, port=0))
    with (tmp_path / ".lock").open("w") as other, pytest.raises(StartError, match="or its database, uses"):
        supervisor._take_lock(other)
    stop(database)
    with (tmp_path / ".lock").open("w") as other:
        supervisor._take_lock(other)


def test_damaged_files_are_mended_on_request(database: Database, lock: IO[str], tmp_path: Path) -> None:
    with redis.Redis.from_url(database.start(lambda: False)) as client:
        client.set("before", "1")
        client.set("after", "2" * 1000)
    stop(database)
    (file,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    content = file.read_bytes()
    at = content.index(b"after")
    file.write_bytes(content[: at - 4] + b"x" * 40 + content[at + 36 :])

    damaged = Database(tmp_path, lock.fileno())
    with pytest.raises(StartError, match=r"are damaged\. `coopserve serve --repair`"):
        damaged.start(lambda: False)
    said = damaged.repair()
    assert "was checked and mended" in said
    with redis.Redis.from_url(damaged.start(lambda: False), decode_responses=True) as client:
        assert (client.get("before"), client.get("after")) == ("1", None)
    stop(damaged)
    (copy,) = (tmp_path / "valkey").glob("appendonlydir-before-repair-*")
    assert b"x" * 40 in next(copy.glob("*.incr.aof")).read_bytes()


def test_there_may_be_nothing_to_mend(database: Database) -> None:
    assert "no database" in database.repair()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_data_folder_that_can_not_be_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"can't write to .*; try --data-dir"):
        Supervisor(Settings(data_dir=tmp_path / place, port=0)).run(lambda _: None)


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"can't listen on 192\.0\.2\.1"):
        Supervisor(Settings(data_dir=tmp_path, host="192.0.2.1", port=0)).run(lambda _: None)
