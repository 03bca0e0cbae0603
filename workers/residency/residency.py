"""Which models are in memory: loaded when first asked for, once, and the least recently used leave first."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from models.checkpoints import CheckpointError, load_model
from models.core.devices import settle
from models.core.loop import Kernel
from models.core.model import LoadedModel
from models.serving import fast_networks
from service.contract.cards import ModelCard
from service.contract.catalog import Catalog
from service.contract.errors import ServiceError
from workers.engine.engine import Engine
from workers.engine.room import Meter, rows_within
from workers.engine.sizes import Sizes, probe, tried_sizes

log = logging.getLogger(__name__)


class UnusableModelError(Exception):
    """This worker can't load a model: it does not have it, or its files can't be used. The message gives the reason."""


@dataclass
class Resident:
    """A model in memory.

    Args:
        model: ready to serve.
        card: what it can do.
        exact: whether it is batch-invariant: its images are the same bits whatever shares their batch.

    Attributes:
        nbytes: of its parameters, measured once: counting them takes as long as a step of the model.
        digest: of its weights.
        users: how many jobs have it now.
    """

    model: LoadedModel
    card: ModelCard
    exact: bool
    users: int = 0
    nbytes: int = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.nbytes = self.model.kernels.nbytes
        files = sorted((name, entry["sha256"]) for name, entry in self.model.card["files"].items())
        self.digest = hashlib.sha256(repr(files).encode()).hexdigest()


class Residency:
    """The loaded models, within a budget of bytes. Safe to use from many threads.

    Args:
        catalog: where models are found.
        engine: what advances them; learns which batch sizes agree for each.
        device: where they are loaded.
        budget: bytes of parameters; a model larger than that is still loaded, alone.
        exact: whether batch sizes are probed, so that batches are padded to those that agree bit for bit.
        fast: whether networks are made fast; else they run as they are written.
        meter: of the device's memory, by which batches are bounded; None: they are not.
    """

    def __init__(
        self,
        catalog: Catalog,
        engine: Engine,
        device: torch.device,
        budget: int,
        *,
        exact: bool = True,
        fast: bool = True,
        meter: Meter | None = None,
    ) -> None:
        self._catalog, self._engine, self._device = catalog, engine, device
        self.budget, self._exact, self._fast, self._meter = budget, exact, fast, meter
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._models: OrderedDict[str, Resident] = OrderedDict()
        self._pinned: set[str] = set()
        self._leaving: set[str] = set()
        self.loads = 0
        self.evictions = 0

    @contextmanager
    def use(self, ref: str) -> Iterator[Resident]:
        """The model ``name@version``, loaded if need be, and kept in memory while the block runs.

        Raises:
            UnusableModelError: it can't be loaded here.
        """
        with self._lock:
            turn = self._loading.setdefault(ref, threading.Lock())
        with turn:  # concurrent first requests load a model once
            resident = self._take(ref) or self._load(ref)
        try:
            yield resident
        finally:
            self._release(resident, ref)

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
            return {ref: resident.nbytes for ref, resident in self._models.items()}

    def _take(self, ref: str) -> Resident | None:
        with self._lock:
            resident = self._models.get(ref)
            if resident:
                resident.users += 1
                self._models.move_to_end(ref)
            return resident

    def _release(self, resident: Resident, ref: str) -> None:
        with self._lock:
            resident.users -= 1
            self._evict(ref)

    def _load(self, ref: str) -> Resident:
        model, card = self._read(ref)
        try:
            sizes = self._sizes(model)
        except torch.OutOfMemoryError as error:
            raise UnusableModelError(f"there is no memory for one of its images: {error}") from error
        settle(self._device)  # before the engine's own lane reads what this thread has put there
        self._engine.pad_to(sizes)
        exact = self._exact and all(sizes.values())
        log.info("loaded %s (%d bytes%s)", ref, model.kernels.nbytes, "" if exact else ", not bit-exact across batches")
        resident = Resident(model, card, exact, users=1)
        with self._lock:
            self._models[ref] = resident
            self.loads += 1
            self._evict(ref)
        return resident

    def _sizes(self, model: LoadedModel) -> dict[Kernel, Sizes]:
        """The batch sizes of kernels for which they matter: they must agree, or memory bounds them."""
        usual, found = self._engine.max_rows, dict[Kernel, Sizes]()
        for kernel, example in model.kernels.examples():
            most = rows_within(kernel, example, usual, self._meter) if self._meter else usual
            if self._exact:
                found |= probe([(kernel, example)], most, self._device)
            elif most < usual:
                found[kernel] = tuple(tried_sizes(most, self._device))
        return found

    def _read(self, ref: str) -> tuple[LoadedModel, ModelCard]:
        try:
            folder, card = self._catalog.folder(ref), self._catalog.get(ref)
            with fast_networks(self._fast):
                return load_model(folder, self._device), card
        except ServiceError as error:
            raise UnusableModelError(error.detail) from error
        except (CheckpointError, torch.OutOfMemoryError, MemoryError) as error:
            raise UnusableModelError(str(error) or "there is not enough memory for it") from error

    def _evict(self, keep: str | None = None) -> None:
        """Drop what was unloaded, then models that nobody uses, oldest use first, until the rest fits the budget."""
        unused = [ref for ref, resident in self._models.items() if resident.users == 0]
        for ref in self._leaving.intersection(unused):
            self._drop(ref)
        for ref in unused:
            if sum(resident.nbytes for resident in self._models.values()) <= self.budget:
                return
            if ref in self._models and ref != keep and ref not in self._pinned:
                self._drop(ref)
                self.evictions += 1

    def _drop(self, ref: str) -> None:
        self._leaving.discard(ref)
        self._engine.forget([kernel for kernel, _ in self._models.pop(ref).model.kernels.examples()])
        log.info("unloaded %s", ref)
