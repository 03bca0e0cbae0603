"""Does what administrators ask of a worker: loads models and keeps them, or lets them go."""

from __future__ import annotations

import logging
import threading

from redis import RedisError

from service.store.control import Command, Control
from workers.residency.residency import Residency, UnusableModelError

log = logging.getLogger(__name__)

_WAIT_SECONDS = 1.0


class Controller(threading.Thread):
    """One thread an inference worker.

    Args:
        control: where the commands come from.
        residency: the models of this worker.
    """

    def __init__(self, control: Control, residency: Residency) -> None:
        super().__init__(name="control", daemon=True)
        self._control, self._residency = control, residency
        self._position: str | None = None
        self._stop_event = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stop_event.set()
        if self.is_alive():
            self.join(5.0)

    def run(self) -> None:
        while not self._stop_event.is_set():
            try:
                self.follow(_WAIT_SECONDS)
            except RedisError as error:
                log.warning("no commands: %s", error)
                self._stop_event.wait(_WAIT_SECONDS)

    def follow(self, wait_seconds: float) -> None:
        """Load what is pinned, once; then do what is asked, and wait for it at most so long.

        Raises:
            RedisError: the commands can't be read.
        """
        if self._position is None:
            position = self._control.position()  # before the pins are read, so that nothing falls between
            for ref in sorted(self._control.pinned()):
                self._do(Command("load", ref))
            self._position = position
        self._position, commands = self._control.commands(self._position, wait_seconds)
        for command in commands:
            self._do(command)

    def _do(self, command: Command) -> None:
        """A model that can't be loaded is a warning: its jobs fail with the reason, if there are any."""
        try:
            if command.action == "load":
                self._residency.pin(command.ref)
            else:
                self._residency.unload(command.ref)
        except UnusableModelError as error:
            log.warning("could not %s %s: %s", command.action, command.ref, error)
