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
from models.systems.base import Model
from service.catalog import Catalog
from workers.engine import Engine
from workers.exact import probe

log = logging.getLogger(__name__)


@dataclass
class Resident:
    """A model in memory.

    Args:
        model: ready to serve.
        exact: whether its images are the same bits in any company.
    """

    model: Model
    exact: bool
    users: int = field(default=0)


class Residency:
    """The loaded models, within a budget of bytes. Safe to use from many threads.

    Args:
        catalog: where models are found.
        engine: what advances them; learns which batch sizes agree for each.
        device: where they are loaded.
        budget: bytes of parameters; a model larger than that is still loaded, alone.
        exact: probe batch sizes when a model is loaded.
    """

    def __init__(self, catalog: Catalog, engine: Engine, device: torch.device, budget: int, exact: bool = True) -> None:
        self._catalog, self._engine, self._device = catalog, engine, device
        self._budget, self._exact = budget, exact
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._models: OrderedDict[str, Resident] = OrderedDict()

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
        """Load the newest version of every model that fits the budget, so that first requests need not wait."""
        total = 0
        for entry in self._catalog.list():
            if entry.card is None or entry.ref != self._catalog.get(entry.name).ref:
                continue
            total += sum(file.bytes for file in entry.card.files.values())
            if total > self._budget:
                return
            try:
                with self.use(entry.ref):
                    pass
            except CheckpointError as error:
                log.warning("%s can't be loaded: %s", entry.ref, error)

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
        model = load_model(self._catalog.folder(ref), self._device)
        sizes = probe(model.examples(), self._engine.max_rows) if self._exact else {}
        self._engine.pad_to(sizes)
        exact = bool(sizes) and all(sizes.values())
        log.info("loaded %s (%d bytes%s)", ref, model.nbytes, "" if exact else ", not bit-exact across batches")
        resident = Resident(model, exact, users=1)
        with self._lock:
            self._models[ref] = resident
            self._evict(ref)
        return resident

    def _evict(self, keep: str) -> None:
        """Drop models that nobody uses, oldest use first, until the rest fits the budget."""
        total = sum(r.model.nbytes for r in self._models.values())
        for ref in [ref for ref, r in self._models.items() if ref != keep and r.users == 0]:
            if total <= self._budget:
                return
            model = self._models.pop(ref).model
            total -= model.nbytes
            self._engine.forget([kernel for kernel, _ in model.examples()])
            log.info("unloaded %s", ref)
