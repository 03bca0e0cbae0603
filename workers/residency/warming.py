"""Makes ready what jobs will need, while the engine has nothing to do."""

from __future__ import annotations

import logging
import threading
import time

from models.checkpoints import CheckpointError
from service.contract.catalog import Catalog
from service.contract.catalog import Model as CatalogModel
from workers.engine.engine import Engine
from workers.engine.exact import ClosedError
from workers.residency.residency import Residency

log = logging.getLogger(__name__)

REST_SECONDS = 2.0
"""So long must the engine have had nothing to do: on a processor that both share, jobs come first."""

PATIENCE_SECONDS = 10.0
"""But a worker that never rests gets ready as well: after so long it does one small thing, a size or a model."""

LOOK_SECONDS = 0.5
"""How often it is seen whether there is anything to do."""


class Warming(threading.Thread):
    """One thread a worker process.

    Loads the newest version of every model that fits the budget, smallest images first, so that first requests need not
    wait; the first one at once, since without any model a worker is not ready. Then it settles which batch sizes agree,
    for these and for models that are loaded later.

    Args:
        catalog: where models are found.
        residency: where they are loaded.
        engine: what has to rest.
    """

    def __init__(self, catalog: Catalog, residency: Residency, engine: Engine) -> None:
        super().__init__(name="warming", daemon=True)
        self._catalog, self._residency, self._engine = catalog, residency, engine
        self._closing = threading.Event()
        self.ready = threading.Event()
        """Set once a model is loaded, or none can be."""

    def stop(self, timeout: float) -> None:
        """End the thread soon: one that is inside torch when the process ends would abort it."""
        self._closing.set()
        self._residency.close()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        try:
            self.load()
            while not self._closing.wait(LOOK_SECONDS):
                self.settle()
        except ClosedError:
            return

    def load(self) -> None:
        """Load the models.

        Raises:
            ClosedError: the worker is about to end.
        """
        newest = [e for e in self._catalog.list() if e.card and e.ref == self._catalog.get(e.name).ref]
        total = 0
        for entry in sorted(newest, key=_pixels):
            total += sum(file.bytes for file in entry.card.files.values()) if entry.card else 0
            if total > self._residency.budget:
                break
            if self.ready.is_set():
                self._rest()
            try:
                with self._residency.use(entry.ref):
                    self.ready.set()
            except CheckpointError as error:
                log.warning("%s can't be loaded: %s", entry.ref, error)
            except ClosedError:
                raise
            except Exception:  # one model must not keep the worker from serving the others
                log.exception("%s can't be loaded", entry.ref)
        self.ready.set()

    def settle(self) -> None:
        """Find out about the batch sizes of one model of which that is not known, if there is one.

        Raises:
            ClosedError: the worker is about to end.
        """
        if ref := self._residency.unsettled():
            try:
                self._residency.settle(ref, self._rest)
            except ClosedError:
                raise
            except Exception:  # the sizes that are known do
                log.exception("the batch sizes of %s could not be tried", ref)

    def _rest(self) -> None:
        """Wait until the engine has rested for a while, or for as long as it takes to lose patience."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._closing.is_set():
            lacking = min(REST_SECONDS - self._engine.idle_seconds, end - time.monotonic())
            if lacking <= 0:
                return
            self._closing.wait(lacking)
        raise ClosedError


def _pixels(model: CatalogModel) -> int:
    return model.card.image.height * model.card.image.width if model.card else 0
