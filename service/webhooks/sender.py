"""Sends webhooks when records have ended, and again when a receiver fails. Each is sent at least once.

One task in the API's event loop asks the database for webhooks that are due, so a delivery survives the process: what
was taken but not noted as done is due again a little later, here or in another API process. A receiver tells a message
that it gets twice by its ``webhook-id``, which is the id of the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import httpx
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool

from service.access.keys import Keys
from service.access.signing import signed_headers
from service.contract.addresses import json_under
from service.contract.records import Delivery, Record, now
from service.webhooks.deliveries import Deliveries
from service.webhooks.post import TIMEOUT_SECONDS, BlockedError, Post

log = logging.getLogger(__name__)

RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0)
"""The pauses after attempts that failed; when they are used up the webhook is given up."""

_JITTER = 0.2
_POLL_SECONDS = 0.5
_AT_A_TIME = 64
OWNERS_SHARE = _AT_A_TIME // 8
"""Webhooks of one owner that are sent at a time: receivers that never answer hold up their own owner's alone."""

_HOLD_SECONDS = 6 * TIMEOUT_SECONDS
_GONE = 410

Outcome = Literal["delivered", "retried", "failed"]


class WebhookSecrets:
    """What webhooks are signed with.

    Args:
        keys: each key has a secret for its owner's webhooks.
        shared: signs those of records that nobody owns; None: there is no such secret.
    """

    def __init__(self, keys: Keys, shared: str | None) -> None:
        self._keys, self._shared = keys, shared

    def __call__(self, owner: str | None) -> list[str]:
        """The secrets of an owner, or of the service."""
        if owner is not None:
            return self._keys.webhook_secrets(owner)
        return [self._shared] if self._shared else []


class _Result(NamedTuple):
    outcome: Outcome
    error: str | None = None


class WebhookSender:
    """The sending side of webhooks.

    Args:
        queues: what is due, of each type of record.
        secrets: what signs those of an owner; called from other threads.
        post: sends them.
        count: told of every attempt.
        retry_seconds: the pauses after attempts that failed.
        root: the path with which addresses of the API begin.
    """

    def __init__(
        self,
        queues: Sequence[Deliveries[Any]],
        secrets: Callable[[str | None], list[str]],
        post: Post,
        count: Callable[[Outcome], None],
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        root: str = "",
    ) -> None:
        self._queues, self._secrets, self._post, self._count = queues, secrets, post, count
        self._retry_seconds, self._root = retry_seconds, root
        self._sending: Counter[str | None] = Counter()  # by owner
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Send what is due until cancelled."""
        async with asyncio.TaskGroup() as sending:
            while True:
                self._freed.clear()
                for queue in self._queues:
                    await self._take(queue, sending)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await self._freed.wait()

    async def _take(self, queue: Deliveries[Any], sending: asyncio.TaskGroup) -> None:
        free = _AT_A_TIME - self._sending.total()
        if not free:
            return
        try:
            sending_now = dict(self._sending)
            due: list[Record] = await run_in_threadpool(queue.due, free, _HOLD_SECONDS, OWNERS_SHARE, sending_now)
        except RedisError as error:
            log.warning("can't look for webhooks: %s", error)
            return
        except Exception:  # such as a record that can't be read: the other webhooks go on
            log.exception("can't look for webhooks")
            return
        for record in due:
            self._sending[record.owner] += 1
            sending.create_task(self._deliver(queue, record)).add_done_callback(partial(self._end, record.owner))

    def _end(self, owner: str | None, _: asyncio.Task[None]) -> None:
        """The place is free: what waits for it is looked for at once."""
        self._sending[owner] -= 1
        if not self._sending[owner]:
            del self._sending[owner]
        self._freed.set()

    async def _deliver(self, queue: Deliveries[Any], record: Record) -> None:
        delivery = record.webhook
        assert delivery is not None  # only such records are due
        result = await self._attempt(record, delivery)
        pauses = self._retry_seconds[delivery.attempts :]
        if result.outcome == "retried" and not pauses:
            result = _Result("failed", result.error)
        attempts = delivery.attempts + 1
        status: Literal["pending", "delivered", "failed"] = "pending" if result.outcome == "retried" else result.outcome
        noted = delivery.model_copy(update={"status": status, "attempts": attempts, "last_error": result.error})
        again = pauses[0] * random.uniform(1 - _JITTER, 1 + _JITTER) if status == "pending" else None
        self._count(result.outcome)
        level = logging.INFO if status == "delivered" else logging.WARNING
        log.log(level, "webhook of %s, attempt %d: %s", record.id, attempts, result.error or "delivered")
        try:
            await run_in_threadpool(queue.note, record, noted, again)
        except RedisError as error:
            log.warning("the webhook of %s will be sent again, its end could not be noted: %s", record.id, error)

    async def _attempt(self, record: Record, delivery: Delivery) -> _Result:
        """One try to send it."""
        try:
            secrets = await run_in_threadpool(self._secrets, record.owner)
            if not secrets:
                return _Result("retried", "there is no secret to sign it with any more")
            body = json_under(self._root, record)
            headers = signed_headers(record.id, body, now(), secrets)
            headers["Content-Type"] = "application/json"
            status = await self._post(delivery.url, body.encode(), headers)
        except BlockedError as error:
            return _Result("failed", str(error))
        except TimeoutError:
            return _Result("retried", f"no answer within {TIMEOUT_SECONDS:.0f} s")
        except (httpx.HTTPError, RedisError, OSError) as error:
            return _Result("retried", f"{type(error).__name__}: {error}"[:300])
        except Exception as error:  # the other deliveries go on
            log.exception("the webhook of %s could not be sent", record.id)
            return _Result("retried", f"unexpected {type(error).__name__}")
        if 200 <= status < 300:
            return _Result("delivered")
        return _Result("failed" if status == _GONE else "retried", f"the receiver answered {status}")
