"""Which batch sizes give the same bits.

Sums of floats depend on how a library splits the work, and that depends on the batch size at a few sizes. So when a
model is loaded its kernels are tried at a few sizes, later, when there is nothing else to do, at many, and batches are
padded to those that agree. A row alone is the one that clients see most, and padding would double its work: where it
can be, it is made to agree by :func:`models.serving.convolutions.as_in_company` instead.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from models.core.loop import Kernel, Rows
from models.core.noise import Key, Noise
from models.serving.convolutions import as_in_company, differing

log = logging.getLogger(__name__)

_SHIFT = 2
"""Rows are tried at two places of the batch, beside other neighbours."""

_MOVE = 37
"""Each row holds the example's numbers so many places further on: rows that only differ in scale agree too easily."""


class Agreement(NamedTuple):
    """Where a kernel gives a row the same bits as in a full batch.

    Args:
        sizes: of the batch, ascending, the last one the full batch; empty: no padding helps.
        corrected: the convolutions that need care when a row is alone.
    """

    sizes: tuple[int, ...] = ()
    corrected: frozenset[str] = frozenset()


def candidate_sizes(max_rows: int) -> list[int]:
    """Sizes worth trying: all small ones, then in steps of an eighth: neither padding nor trying costs much."""
    sizes, size = [], 1
    while size < max_rows:
        sizes.append(size)
        size += max(1, size // 8)
    return [*sizes, max_rows]


def few_sizes(max_rows: int) -> list[int]:
    """Sizes that take a third of the time to try: the powers of two. Up to half of a batch is then padding."""
    return [*(1 << k for k in range((max_rows - 1).bit_length())), max_rows]


def agreement(
    kernel: Kernel, example: Rows, candidates: Sequence[int], pause: Callable[[], None] = lambda: None
) -> Agreement:
    """The batch sizes among ``candidates`` at which every row gets the same bits as in a full batch.

    Args:
        kernel: one step.
        example: one row of state that it accepts.
        candidates: ascending, the last one the full batch.
        pause: called before each size.

    Returns:
        No sizes if not even two full batches with other neighbours agree.
    """
    max_rows = candidates[-1]
    rows = {k: _varied(v, max_rows + _SHIFT) for k, v in example.items()}

    def advance(start: int, size: int) -> Rows:
        keys = [Key(1 + row, 0, 0) for row in range(start, start + size)]
        part = {k: v[start : start + size].contiguous() for k, v in rows.items()}
        device = next(iter(part.values())).device
        return kernel(part, torch.zeros(size, dtype=torch.int64, device=device), Noise(keys, device))

    full, shifted = advance(0, max_rows), advance(_SHIFT, max_rows)
    if any(not torch.equal(v[_SHIFT:], shifted[k][: max_rows - _SHIFT]) for k, v in full.items()):
        return Agreement()

    def agrees(size: int) -> bool:
        pause()
        return all(torch.equal(v, shifted[k][:size]) for k, v in advance(_SHIFT, size).items())

    sizes = tuple(size for size in candidates if agrees(size))
    if 1 in sizes:
        return Agreement(sizes)
    with differing() as found:
        advance(_SHIFT, max_rows)
    with as_in_company(frozenset(found)):
        alone = agrees(1)
    return Agreement((1, *sizes), frozenset(found)) if alone else Agreement(sizes)


def _varied(value: torch.Tensor, rows: int) -> torch.Tensor:
    """Copies of one row that differ, moved on and scaled, where they are not plain numbers of the row."""
    row = value[0].flatten()
    if not value.is_floating_point() or row.numel() == 1:
        return value.expand(rows, *value.shape[1:]).clone()
    scales = torch.linspace(1.0, 0.5, rows).tolist()
    moved = torch.stack([row.roll(_MOVE * k) * scale for k, scale in enumerate(scales)])
    return moved.reshape(rows, *value.shape[1:])


def probe(
    kernels: Sequence[tuple[Kernel, Rows]], candidates: Sequence[int], pause: Callable[[], None] = lambda: None
) -> dict[Kernel, Agreement]:
    """The :func:`agreement` of every kernel of a model."""
    return {kernel: agreement(kernel, example, candidates, pause) for kernel, example in kernels}


@dataclass(frozen=True)
class Subject:
    """A model whose sizes are asked for.

    Args:
        identity: tells this model from all others, with its weights.
        kernels: all that it has, in the same order each time, each with one row of state that it accepts.
        max_rows: the full batch.
        device: where the model is.
    """

    identity: bytes
    kernels: Sequence[tuple[Kernel, Rows]]
    max_rows: int
    device: torch.device


class ClosedError(Exception):
    """The process is about to end; nothing more is tried."""


class KnownSizes:
    """What was found out in earlier runs, in a folder: a worker that is started again need not try all sizes anew.

    Args:
        folder: one small file for each model, device and batch size; anything may be deleted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.closing = threading.Event()

    def look(self, of: Subject) -> dict[Kernel, Agreement] | None:
        """What :meth:`try_all` found before for the same model, code, machine and versions; None: nothing."""
        try:
            entries = json.loads(self._path(of).read_text())
            known = [Agreement(tuple(entry["sizes"]), frozenset(entry["corrected"])) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if len(known) != len(of.kernels):
            return None
        return {kernel: entry for (kernel, _), entry in zip(of.kernels, known, strict=True)}

    def try_few(self, of: Subject) -> dict[Kernel, Agreement]:
        """The :func:`agreement` of every kernel among :func:`few_sizes`, to begin with.

        Raises:
            ClosedError: the process is about to end.
        """
        return self._try(of, few_sizes(of.max_rows), lambda: None)

    def try_all(self, of: Subject, pause: Callable[[], None]) -> dict[Kernel, Agreement]:
        """The same among :func:`candidate_sizes`; it is noted for later runs.

        Args:
            pause: called before each size; it may wait.
        """
        found = self._try(of, candidate_sizes(of.max_rows), pause)
        self._write(self._path(of), [found[kernel] for kernel, _ in of.kernels])
        return found

    def _try(self, of: Subject, sizes: Sequence[int], pause: Callable[[], None]) -> dict[Kernel, Agreement]:
        def between() -> None:
            pause()
            if self.closing.is_set():
                raise ClosedError

        return probe(of.kernels, sizes, between)

    def _path(self, of: Subject) -> Path:
        return self._folder / f"{_fingerprint(of.identity, of.max_rows, of.device)}.json"

    def _write(self, path: Path, found: Sequence[Agreement]) -> None:
        draft = path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps([{"sizes": a.sizes, "corrected": sorted(a.corrected)} for a in found]))
            draft.replace(path)
        except OSError as error:  # the next start takes longer
            log.warning("what batch sizes agree was not noted: %s", error)


def _fingerprint(identity: bytes, max_rows: int, device: torch.device) -> str:
    """A name for all that the bits of a result may depend on."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()
    facts = [torch.__version__, str(device), machine, torch.get_num_threads(), max_rows, _code()]
    return hashlib.sha256(identity + json.dumps(facts).encode()).hexdigest()


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line for line in lines if line.startswith("model name")), platform.processor())
    return f"{model} {torch.backends.cpu.get_cpu_capability()}"


@cache
def _code() -> str:
    """A digest of the code of all models, and of this file."""
    here = Path(__file__).resolve()
    digest = hashlib.sha256()
    for file in [*sorted((here.parents[2] / "models").rglob("*.py")), here]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
