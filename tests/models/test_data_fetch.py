"""Fetching, with a data set made up here and with stand-ins for the package clients."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.data.catalog import DATASETS
from models.data.fetch import fetch
from models.data.npz import read_npz
from models.data.packages import FetchError, debian, npm, several
from models.data.sets.base import DataSet
from models.data.splits import choose


def _unpack(folder: Path) -> Path:
    np.savez(folder / "made.npz", images=np.zeros((20, 2, 2), np.uint8), labels=np.arange(20) % 2)
    (folder / "LICENSE").write_text("Do as you like.")
    return folder


def _prepare(package: Path, folder: Path) -> None:
    shutil.copy(package / "made.npz", folder)


@pytest.fixture
def made(tmp_path: Path) -> DataSet:
    content = (_unpack(tmp_path) / "made.npz").read_bytes()
    return DataSet(
        title="Made up",
        source="nowhere",
        licence="none",
        notice="Copyright (c) nobody",
        licence_file="LICENSE",
        weights_may_ship=True,
        classes=("0", "1"),
        counts={"train": 16, "valid": 2, "test": 2},
        shape=(1, 2, 2),
        files={"made.npz": hashlib.sha256(content).hexdigest()},
        unpack=_unpack,
        prepare=_prepare,
        read=lambda folder, split: choose({"": lambda: read_npz(folder / "made.npz")[""]}, split, "made"),
    )


def test_a_set_is_fetched_once_with_its_notice(tmp_path: Path, made: DataSet) -> None:
    root, said = tmp_path / "deep" / "data", list[str]()
    folder = fetch("made", root, said.append, datasets={"made": made})
    assert folder == root / "made"
    assert sorted(path.name for path in folder.iterdir()) == ["NOTICE", "made.npz"]
    notice = (folder / "NOTICE").read_text()
    assert "Copyright (c) nobody" in notice
    assert "Do as you like." in notice
    assert [path.name for path in root.iterdir()] == ["made"]

    (folder / "made.npz").write_text("left alone")
    assert fetch("made", root, said.append, datasets={"made": made}) == folder
    assert (folder / "made.npz").read_text() == "left alone"
    assert said[-1] == f"made is already in {folder}"


def _fails(_: Path) -> Path:
    raise FetchError("no network")


def _without_licence(folder: Path) -> Path:
    _unpack(folder)
    (folder / "LICENSE").unlink()
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"made.npz": "0" * 64}}, "has the SHA-256"),
        ({"files": {"other": "0" * 64}}, "has no file other"),
        ({"counts": {"train": 17}}, "16 train images"),
        ({"classes": ("a", "b")}, "of 2 classes"),
        ({"unpack": _fails}, "no network"),
        ({"unpack": _without_licence}, "no readable licence"),
    ],
)
def test_what_is_not_as_known_leaves_nothing_behind(
    tmp_path: Path, made: DataSet, change: dict[str, object], message: str
) -> None:
    root = tmp_path / "data"
    with pytest.raises(FetchError, match=message):
        fetch("made", root, print, datasets={"made": replace(made, **change)})  # type: ignore[arg-type]
    assert list(root.iterdir()) == []


def test_a_second_fetch_at_the_same_time_takes_what_the_first_made(tmp_path: Path, made: DataSet) -> None:
    root = tmp_path / "data"

    def overtaken(folder: Path) -> Path:
        fetch("made", root, print, datasets={"made": made})
        return _unpack(folder)

    folder = fetch("made", root, print, datasets={"made": replace(made, unpack=overtaken)})
    assert (folder / "made.npz").is_file()
    assert [path.name for path in root.iterdir()] == ["made"]


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="'fashion'; the known ones are fashion-mnist, digits"):
        fetch("fashion", tmp_path, print)


def test_the_digits_are_turned_into_bytes(tmp_path: Path) -> None:
    pixels = np.arange(20 * 784).reshape(20, 784) % 256
    digits = tmp_path / "package" / "src" / "digits"
    digits.mkdir(parents=True)
    for digit in range(10):
        rounded = (pixels / 255).round(3).ravel().tolist()  # three decimals, as the package has them
        (digits / f"{digit}.json").write_text(json.dumps({"data": rounded}))
    out = tmp_path / "out"
    out.mkdir()
    DATASETS["digits"].prepare(tmp_path / "package", out)
    data = read_npz(out / "digits.npz")[""]
    assert (data.images[:20].numpy().reshape(20, 784) == pixels).all()
    assert data.labels is not None
    assert data.labels.bincount().tolist() == [20] * 10
    assert [len(DATASETS["digits"].read(out, split)) for split in ("train", "valid", "test")] == [160, 20, 20]


Clients = Callable[..., Path]


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """A folder of stand-in programs, the only ones on the path besides the system's own tools."""
    programs = tmp_path / "programs"
    programs.mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "cp", "mkdir", "touch", "echo", "test", "cat"):
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{tools}")

    def write(**scripts: str) -> Path:
        for name, script in scripts.items():
            path = programs / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return tmp_path

    return write


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_debian_downloads_and_unpacks(clients: Clients) -> None:
    base = clients(apt_get='echo content > "$3_1.0_all.deb"', dpkg='mkdir "$3" && cp "$2" "$3/file"')
    contents = debian("some-data")(_empty(base / "work"))
    assert (contents / "file").read_text() == "content\n"


def test_debian_updates_the_lists_where_it_may(clients: Clients) -> None:
    script = """
        if test "$2" = update; then touch lists
        elif test -f lists; then touch a.deb
        else exit 100; fi
    """
    base = clients(apt_get=script, dpkg='mkdir "$3"')
    if os.geteuid() == 0:
        assert debian("some-data")(_empty(base / "work")).is_dir()
    else:
        with pytest.raises(FetchError, match="run `apt-get update`"):
            debian("some-data")(_empty(base / "work"))


def test_debian_says_why_it_failed(clients: Clients) -> None:
    base = clients(apt_get='echo "E: Unable to locate package" >&2; exit 100')
    with pytest.raises(FetchError, match=r"Unable to locate package\n.*run `apt-get update`"):
        debian("some-data")(_empty(base / "one"))
    clients(apt_get="exit 0")
    with pytest.raises(FetchError, match="0 files"):
        debian("some-data")(_empty(base / "two"))
    clients(apt_get="touch a.deb", dpkg='echo "no space" >&2; exit 2')
    with pytest.raises(FetchError, match="no space"):
        debian("some-data")(_empty(base / "three"))


def test_a_missing_client_is_named(clients: Clients) -> None:
    base = clients()
    with pytest.raises(FetchError, match="program apt-get is needed"):
        debian("some-data")(_empty(base / "one"))
    with pytest.raises(FetchError, match="program npm is needed"):
        npm("some-data", "1.0.0")(_empty(base / "two"))


def _archive(path: Path, name: str) -> None:
    content = b"content"
    member = tarfile.TarInfo(name)
    member.size = len(content)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))


def test_npm_packs_and_unpacks(clients: Clients) -> None:
    base = clients(npm='test "$3" = some-data@1.0.0 && cp ../archive.tgz .')
    _archive(base / "archive.tgz", "package/src/file")
    contents = npm("some-data", "1.0.0")(_empty(base / "work"))
    assert (contents / "src" / "file").read_text() == "content"


def test_several_packages_lie_side_by_side(clients: Clients) -> None:
    base = clients(npm='cp "../../$3.tgz" "$3.tgz"')
    for package in ("one@1", "two@2"):
        _archive(base / f"{package}.tgz", f"package/{package}")
    contents = several({"first": npm("one", "1"), "second": npm("two", "2")})(_empty(base / "work"))
    assert (contents / "first" / "one@1").is_file()
    assert (contents / "second" / "two@2").is_file()


def test_npm_archives_can_not_write_outside(clients: Clients) -> None:
    base = clients(npm="cp ../archive.tgz .")
    _archive(base / "archive.tgz", "../../escaped")
    with pytest.raises(FetchError, match="damaged"):
        npm("some-data", "1.0.0")(_empty(base / "one"))
    assert not (base / "escaped").exists()
    (base / "archive.tgz").write_text("no archive")
    with pytest.raises(FetchError, match="damaged"):
        npm("some-data", "1.0.0")(_empty(base / "two"))


def test_npm_says_why_it_failed(clients: Clients) -> None:
    base = clients(npm='echo "npm error 404" >&2; exit 1')
    with pytest.raises(FetchError, match="npm error 404"):
        npm("some-data", "1.0.0")(_empty(base / "work"))
