"""Which models are in memory: loaded when first asked for, once, and the least recently used leave first."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from models.checkpoints import load_model
from models.core.model import LoadedModel
from service.contract.cards import ModelCard
from service.contract.catalog import Catalog
from workers.engine.engine import Engine
from workers.engine.exact import KnownSizes, Subject

log = logging.getLogger(__name__)


@dataclass
class Resident:
    """A model in memory.

    Args:
        model: ready to serve.
        card: what it can do.
        exact: whether its images are the same bits in any company.
        settled: whether it is known for all batch sizes.

    Attributes:
        nbytes: of its parameters, measured once: counting them takes as long as a step of the model.
        users: how many jobs have it now.
    """

    model: LoadedModel
    card: ModelCard
    exact: bool
    settled: bool
    users: int = 0
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.nbytes = self.model.kernels.nbytes


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
        self.budget, self._exact = budget, exact
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
            self._release(resident, ref)

    def close(self) -> None:
        """Let models that are being loaded be given up."""
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

    def unsettled(self) -> str | None:
        """A model in memory of which only a few batch sizes have been tried, if there is one."""
        with self._lock:
            return next((ref for ref, resident in self._models.items() if not resident.settled), None)

    def settle(self, ref: str, pause: Callable[[], None]) -> None:
        """Try all batch sizes of a model in memory; meanwhile its jobs go on with those that are known.

        Args:
            pause: called before each size; it may wait.

        Raises:
            ClosedError: the worker is about to end.
        """
        if self._exact is None or (resident := self._take(ref)) is None:
            return
        resident.settled = True  # or not to be settled: it is tried once
        try:
            self._engine.pad_to(self._exact.try_all(self._subject(self._catalog.folder(ref), resident.model), pause))
        finally:
            self._release(resident, ref)

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

    def _subject(self, folder: Path, model: LoadedModel) -> Subject:
        identity = (folder / "card.json").read_bytes()  # it holds the digests of all files
        return Subject(identity, model.kernels.examples(), self._engine.max_rows, self._device)

    def _load(self, ref: str) -> Resident:
        folder = self._catalog.folder(ref)
        model = load_model(folder, self._device)
        settled, agreements = True, {}
        if self._exact:
            subject = self._subject(folder, model)
            known = self._exact.look(subject)
            settled, agreements = known is not None, known or self._exact.try_few(subject)
        self._engine.pad_to(agreements)
        exact = bool(agreements) and all(agreement.sizes for agreement in agreements.values())
        log.info("loaded %s (%d bytes%s)", ref, model.kernels.nbytes, "" if exact else ", not bit-exact across batches")
        resident = Resident(model, self._catalog.get(ref), exact, settled, users=1)
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
            if sum(resident.nbytes for resident in self._models.values()) <= self.budget:
                return
            if ref in self._models and ref != keep and ref not in self._pinned:
                self._drop(ref)
                self.evictions += 1

    def _drop(self, ref: str) -> None:
        self._leaving.discard(ref)
        self._engine.forget([kernel for kernel, _ in self._models.pop(ref).model.kernels.examples()])
        log.info("unloaded %s", ref)
