"""Feels whether a worker's device is still there, also while no job uses it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

EVERY_SECONDS = 15.0
SILENT_SECONDS = 60.0
"""A device that has not answered for so long is taken for dead."""


class Pulse(threading.Thread):
    """One thread a worker on an accelerator. It may hang with the device, which :attr:`silent` tells others.

    Args:
        feel: asks the device for a number; gives why it can't, or None.
        failed: called once if it can't.
        every: seconds between two looks.
        patience: after so many seconds without an answer the device is silent.
    """

    def __init__(
        self,
        feel: Callable[[], str | None],
        failed: Callable[[Exception], None],
        every: float = EVERY_SECONDS,
        patience: float = SILENT_SECONDS,
    ) -> None:
        super().__init__(name="pulse", daemon=True)
        self._feel, self._failed, self._every, self._patience = feel, failed, every, patience
        self._stop_event = threading.Event()
        self._asked: float | None = None

    @property
    def silent(self) -> bool:
        """Whether the device has not answered for long."""
        asked = self._asked
        return asked is not None and time.monotonic() - asked > self._patience

    def stop(self) -> None:
        """End the thread, unless it hangs with its device."""
        self._stop_event.set()
        if self.is_alive():
            self.join(1.0)

    def run(self) -> None:
        while not self._stop_event.wait(self._every):
            self._asked = time.monotonic()
            why = self._feel()
            self._asked = None
            if why is not None:
                log.critical("the device does not answer: %s", why)
                self._failed(RuntimeError(f"the device can't be used any more: {why}"))
                return
