"""A training on several devices: a process each, begun and tied together by Lightning Fabric.

Fabric starts the processes and carries their messages. Networks are not wrapped: chains differentiate them by their
inputs many times an iteration, which the wrapper of a module would take for steps of learning.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from pydantic import BaseModel
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from models.systems.registry import VARIANTS, system_of
from models.training.configuration import TrainingError
from models.training.memory import batches
from models.training.team import Team

log = logging.getLogger(__name__)

R = TypeVar("R")


def check_several(variant: str, config: BaseModel, size: int, device: str) -> None:
    """Refuse a training that can't be shared out, before any process is begun.

    Args:
        variant: its name.
        config: with the sizes of its batches.
        size: how many devices.
        device: their kind, ``cuda`` or ``cpu``.

    Raises:
        TrainingError: with what to do.
    """
    if reason := VARIANTS[variant].alone:
        raise TrainingError(f"{system_of(variant)} is trained on one device only: {reason}; leave --devices out")
    if device not in _PRESENT:
        raise TrainingError(f"--devices needs the kind of device, cuda or cpu, not {device!r}")
    present, name = _PRESENT[device]()
    if size > present:
        raise TrainingError(f"--devices {size} is more than this machine has: {present} {name}")
    for rows in batches(config):
        if rows % size:
            raise TrainingError(
                f"a batch of {rows} images can't be divided among {size} devices: choose a batch_size that {size} "
                "divides, or another number of devices"
            )


_PRESENT: dict[str, Callable[[], tuple[int, str]]] = {
    "cuda": lambda: (torch.cuda.device_count(), "GPU(s)"),
    "cpu": lambda: (len(os.sched_getaffinity(0)), "core(s), and each process needs one"),
}


def run_several(size: int, device: str, work: Callable[..., R], *given: Any) -> R:
    """Have so many processes do the same work; gives what the first one returns.

    If one of them fails or is killed, the others are ended. Ctrl-C reaches the first process as SIGINT, and SIGTERM is
    passed on to it as that; the others ignore it, and learn from the first what to do.

    Args:
        size: how many processes.
        device: ``cuda`` or ``cpu``; on a GPU each has its own.
        work: a function of a module, called with the :class:`Team`, the device and what is given.
        given: further arguments; they are pickled.

    Raises:
        TrainingError: one of them has failed, or Lightning Fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError:
        raise TrainingError("several devices need Lightning Fabric: pip install 'coopserve[devices]'") from None
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device,
        devices=size,
        strategy=DDPStrategy(start_method="spawn"),
        plugins=[LightningEnvironment()],
    )
    with _signals(), _environment():
        try:
            found: R = fabric.launch(partial(_begin, work=work, given=given))
        except (ProcessExitedException, ProcessRaisedException) as error:
            log.debug("a process of the training has failed", exc_info=error)
            killed = isinstance(error, ProcessExitedException) and error.signal_name
            reason = f"killed by {killed}" if killed else error.msg.strip().splitlines()[-1]
            raise TrainingError(
                f"process {error.error_index + 1} of {size} has failed, so all have ended ({reason}); the same command "
                "goes on from the last save"
            ) from error
    return found


def _begin(fabric: Any, work: Callable[..., R], given: tuple[Any, ...]) -> R:
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // fabric.world_size))
    return work(Team(fabric), fabric.device, *given)


@contextmanager
def _signals() -> Iterator[None]:
    """Processes that are begun inside inherit that SIGINT is ignored, until they say otherwise."""

    def pass_on(*_: object) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGINT)
        signal.setitimer(signal.ITIMER_REAL, 1.0)  # again and again: one that is only beginning ignores it

    chosen: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.SIG_IGN,
        signal.SIGTERM: pass_on,
        signal.SIGALRM: pass_on,
    }
    before = {number: signal.signal(number, handler) for number, handler in chosen.items()}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _environment() -> Iterator[None]:
    """Fabric leaves the port of its processes behind; the next ones choose their own."""
    before = dict(os.environ)
    os.environ.pop("MASTER_PORT", None)
    try:
        yield
    finally:
        os.environ.pop("MASTER_PORT", None)
        os.environ.update(before)
