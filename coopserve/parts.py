"""Processes that are kept running."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import click

STOP_SECONDS = 5.0
"""How long a part may take to end before it is killed; workers have ``drain_seconds`` more."""

HOPELESS = 78
"""The exit status of a part that would end again however often it is started (EX_CONFIG of sysexits.h)."""

_HEALTHY_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """The parts can't be started; the message gives the reason and what to do."""


@dataclass
class Part:
    """One process that is kept running.

    Args:
        name: for messages.
        command: what to run.
        environment: added to the supervisor's own.
        nice: added to its niceness.
        private: whether only its user may read the files that it creates.
        keep_open: descriptors of this process that it holds open, too.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0
    private: bool = False
    keep_open: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    not_before: float = 0.0
    delay: float = 1.0

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.environment},
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the parts in order
            preexec_fn=self._in_child,
            pass_fds=self.keep_open,
        )
        self.started = time.monotonic()

    def _in_child(self) -> None:
        os.nice(self.nice)
        if self.private:
            os.umask(0o077)
        if sys.platform == "linux":  # should the supervisor be killed, no part is left behind
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def restart_if_dead(self) -> None:
        """Start it again if it has ended, after a pause that doubles each time that it ends soon after its start.

        Raises:
            click.exceptions.Exit: that would be in vain; the part has said why.
        """
        if self.process is None or self.process.poll() is None:
            return
        if self.process.returncode == HOPELESS:
            raise click.exceptions.Exit(1)
        now = time.monotonic()
        if self.not_before < self.started:
            if now - self.started > _HEALTHY_SECONDS:
                self.delay = 1.0
            status = self.process.returncode
            click.echo(f"{self.name} ended with status {status}; starting it again in {self.delay:.0f} s", err=True)
            self.not_before, self.delay = now + self.delay, min(self.delay * 2, 30.0)
        elif now >= self.not_before:
            self.start()

    def ask_to_end(self) -> None:
        """Ask it to finish its work and end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, and kill it if it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            click.echo(f"{self.name} did not end within {seconds:.0f} s; killing it", err=True)
            self.process.kill()
            self.process.wait()
