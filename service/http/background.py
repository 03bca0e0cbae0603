"""Work that runs beside something else, and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

log = logging.getLogger(__name__)

_CANCEL_AGAIN_SECONDS = 0.5


@contextlib.asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run ``work``, and cancel it at the end. Work that fails before is logged, and nothing else ends by it."""
    pending = {asyncio.create_task(each) for each in work}
    for task in pending:
        task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        # Once is not enough: asyncio.wait_for of Python 3.11, which redis-py sends its commands through, drops a
        # cancellation that comes in the moment of its result.
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s has failed and runs no longer", task.get_coro(), exc_info=error)
