"""Which models are in memory: loaded when first asked for, once, and the least recently used leave first."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from models.checkpoints import CheckpointError, load_model
from models.loop import Kernel
from models.systems.base import Model
from service.catalog import Catalog, ModelCard
from service.catalog import Model as CatalogModel
from workers.engine import Engine
from workers.exact import Agreement, ClosedError, KnownSizes

log = logging.getLogger(__name__)


@dataclass
class Resident:
    """A model in memory.

    Args:
        model: ready to serve.
        card: what it can do.
        exact: whether its images are the same bits in any company.
    """

    model: Model
    card: ModelCard
    exact: bool
    users: int = field(default=0)


class Residency:
    """The loaded models, within a budget of bytes. Safe to use from many threads.

    Args:
        catalog: where models are found.
        engine: what advances them; learns which batch sizes agree for each.
        device: where they are loaded.
        budget: bytes of parameters; a model larger than that is still loaded, alone.
        exact: what is known of batch sizes that agree; None: batches are not padded.
    """

    def __init__(
        self, catalog: Catalog, engine: Engine, device: torch.device, budget: int, exact: KnownSizes | None = None
    ) -> None:
        self._catalog, self._engine, self._device = catalog, engine, device
        self._budget, self._exact = budget, exact
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._models: OrderedDict[str, Resident] = OrderedDict()
        self._pinned: set[str] = set()
        self._leaving: set[str] = set()
        self.warmed = threading.Event()
        self._closing = threading.Event()
        self.loads = 0
        self.evictions = 0

    @contextmanager
    def use(self, ref: str) -> Iterator[Resident]:
        """The model ``name@version``, loaded if need be, and kept in memory while the block runs.

        Raises:
            NotFoundError, UnprocessableError: the catalog does not have it, or its card is damaged.
            CheckpointError: its files can't be used.
        """
        with self._lock:
            turn = self._loading.setdefault(ref, threading.Lock())
        with turn:  # concurrent first requests load a model once
            resident = self._take(ref) or self._load(ref)
        try:
            yield resident
        finally:
            with self._lock:
                resident.users -= 1
                self._evict(ref)

    def warm(self) -> None:
        """Load the newest version of every model that fits the budget, smallest images first, so that first requests
        need not wait.
        """
        newest = [e for e in self._catalog.list() if e.card and e.ref == self._catalog.get(e.name).ref]
        total = 0
        for entry in sorted(newest, key=_pixels):
            if self._closing.is_set():
                return
            total += sum(file.bytes for file in entry.card.files.values()) if entry.card else 0
            if total > self._budget:
                break
            try:
                with self.use(entry.ref):
                    self.warmed.set()
            except ClosedError:
                return
            except CheckpointError as error:
                log.warning("%s can't be loaded: %s", entry.ref, error)
            except Exception:  # one model must not keep the worker from serving the others
                log.exception("%s can't be loaded", entry.ref)
        self.warmed.set()

    def close(self) -> None:
        """Let :meth:`warm` end soon: a thread that is inside torch when the process ends would abort it."""
        self._closing.set()
        if self._exact:
            self._exact.closing.set()

    def pin(self, ref: str) -> None:
        """Load a model if need be, and keep it in memory until :meth:`unload`; raises as :meth:`use` does."""
        with self._lock:
            self._pinned.add(ref)
            self._leaving.discard(ref)
        with self.use(ref):
            pass

    def unload(self, ref: str) -> None:
        """Drop a model, now or when its last job has ended. The next job that asks for it loads it again."""
        with self._lock:
            self._pinned.discard(ref)
            if ref in self._models:
                self._leaving.add(ref)
            self._evict()

    def resident(self) -> dict[str, int]:
        """The loaded models and their bytes."""
        with self._lock:
            return {ref: resident.model.nbytes for ref, resident in self._models.items()}

    def _take(self, ref: str) -> Resident | None:
        with self._lock:
            resident = self._models.get(ref)
            if resident:
                resident.users += 1
                self._models.move_to_end(ref)
            return resident

    def _load(self, ref: str) -> Resident:
        folder = self._catalog.folder(ref)
        model = load_model(folder, self._device)
        agreements: dict[Kernel, Agreement] = {}
        if self._exact:
            identity = (folder / "card.json").read_bytes()  # it holds the digests of all files
            agreements = self._exact.probe(identity, model.examples(), self._engine.max_rows, self._device)
        self._engine.pad_to(agreements)
        exact = bool(agreements) and all(agreement.sizes for agreement in agreements.values())
        log.info("loaded %s (%d bytes%s)", ref, model.nbytes, "" if exact else ", not bit-exact across batches")
        resident = Resident(model, self._catalog.get(ref), exact, users=1)
        with self._lock:
            self._models[ref] = resident
            self.loads += 1
            self._evict(ref)
        return resident

    def _evict(self, keep: str | None = None) -> None:
        """Drop what was unloaded, then models that nobody uses, oldest use first, until the rest fits the budget."""
        unused = [ref for ref, resident in self._models.items() if resident.users == 0]
        for ref in self._leaving.intersection(unused):
            self._drop(ref)
        for ref in unused:
            if sum(resident.model.nbytes for resident in self._models.values()) <= self._budget:
                return
            if ref in self._models and ref != keep and ref not in self._pinned:
                self._drop(ref)
                self.evictions += 1

    def _drop(self, ref: str) -> None:
        self._leaving.discard(ref)
        self._engine.forget([kernel for kernel, _ in self._models.pop(ref).model.examples()])
        log.info("unloaded %s", ref)


def _pixels(model: CatalogModel) -> int:
    return model.card.image.height * model.card.image.width if model.card else 0
