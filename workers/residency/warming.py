"""Loads the models that jobs will ask for, while the engine has nothing to do."""

from __future__ import annotations

import logging
import threading
import time

from service.contract.catalog import Catalog
from service.contract.catalog import Model as CatalogModel
from workers.engine.engine import Engine
from workers.engine.tickets import StoppedError
from workers.residency.residency import Residency, UnusableModelError

log = logging.getLogger(__name__)


class Warming(threading.Thread):
    """One thread a worker process.

    Loads the newest version of every model that fits the budget, smallest images first, so that first requests need not
    wait; the first one at once, since without any model a worker is not ready.

    Args:
        catalog: where models are found.
        residency: where they are loaded.
        engine: what has to rest.
        rest_seconds: how long the engine must have had nothing to do: on a processor that both share, jobs come first.
        patience_seconds: but a worker that never rests loads a model after so long.
    """

    def __init__(
        self,
        catalog: Catalog,
        residency: Residency,
        engine: Engine,
        *,
        rest_seconds: float = 2.0,
        patience_seconds: float = 10.0,
    ) -> None:
        super().__init__(name="warming", daemon=True)
        self._catalog, self._residency, self._engine = catalog, residency, engine
        self._rest_seconds, self._patience_seconds = rest_seconds, patience_seconds
        self._closing = threading.Event()
        self.ready = threading.Event()
        """Set once a model is loaded, or none can be."""

    def stop(self, timeout: float) -> None:
        """End the thread after the model that it loads, if that does not take longer."""
        self._closing.set()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """Load the models. On a device that is lost the worker never becomes ready."""
        try:
            self._load_all()
        except StoppedError:
            return
        self.ready.set()

    def _load_all(self) -> None:
        newest = [e for e in self._catalog.list() if e.card and e.ref == self._catalog.get(e.name).ref]
        total = 0
        for entry in sorted(newest, key=_pixels):
            total += sum(file.bytes for file in entry.card.files.values()) if entry.card else 0
            if total > self._residency.budget or self._closing.is_set():
                break
            if self.ready.is_set() and not self._rest():
                break
            self._load(entry.ref)

    def _load(self, ref: str) -> None:
        try:
            with self._residency.use(ref):
                self.ready.set()
        except UnusableModelError as error:
            log.warning("%s can't be loaded: %s", ref, error)
        except Exception as error:  # one model must not keep the worker from serving the others
            self._engine.examine(error)
            log.exception("%s can't be loaded", ref)

    def _rest(self) -> bool:
        """Wait until the engine has rested for a while, or for as long as it takes to lose patience; False: it ends."""
        end = time.monotonic() + self._patience_seconds
        while not self._closing.is_set():
            lacking = min(self._rest_seconds - self._engine.idle_seconds, end - time.monotonic())
            if lacking <= 0:
                return True
            self._closing.wait(lacking)
        return False


def _pixels(model: CatalogModel) -> int:
    return model.card.image.height * model.card.image.width if model.card else 0
