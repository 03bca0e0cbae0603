"""The Celery queue, seen from the sender: messages go by the task's name and carry an id alone.

The record in the store is the truth. A message that is lost, late or doubled does no harm: workers claim the record,
and a sweep sends messages again for records that nobody claims.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

import redis
from celery import Celery

from service.settings import Settings
from service.store.types import Message

RUN_JOB = "coopserve.run_job"
RUN_TRAINING = "coopserve.run_training"
INFERENCE_QUEUE = "inference"
TRAINING_QUEUE = "training"

_SEPARATOR = ":"


def celery_options(settings: Settings) -> dict[str, Any]:
    """Celery's settings, the same for those who send and those who work."""
    return {
        "broker_url": settings.broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            # Recovery rests on the leases of the store: the broker keeps no account of messages that are in work, so it
            # never starts a long job twice, and three commands a message are saved.
            "ack_emulation": False,
            "priority_steps": list(range(10)),
            "queue_order_strategy": "priority",
            "sep": _SEPARATOR,
            "socket_keepalive": True,
            "socket_connect_timeout": 2.0,
            # A connection that fell silent is given up: by a worker that waits for messages.
            "socket_timeout": 5.0,
            "health_check_interval": 5,
        },
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_default_queue": INFERENCE_QUEUE,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "worker_enable_remote_control": False,
        "enable_utc": True,
    }


class JobQueue:
    """Makes and sends messages. Safe to use from many threads.

    Celery makes what a message says; the list it goes to and the envelope around it are written here, for Celery's own
    sender takes longer than all else that a request needs, and so the script that stores a record can send its message.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        task: the name of the Celery task.
        queue: the name of the queue.
    """

    def __init__(self, client: redis.Redis, task: str, queue: str) -> None:
        self._client, self._queue = client, queue
        made = Celery(set_as_current=False).amqp.create_task_message("", task, args=[], kwargs={})
        self._headers, (_, *self._rest) = made.headers, made.body

    def message(self, id: str, priority: int = 5) -> Message:
        """The message for one record. Greater priorities (0 to 9) are taken first."""
        task_id, place = uuid4().hex, 9 - priority  # in the broker 0 comes first
        headers = {**self._headers, "id": task_id, "root_id": task_id, "argsrepr": repr([id])}
        body = json.dumps([[id], *self._rest]).encode()
        properties = {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": self._queue},
            "delivery_tag": uuid4().hex,
            "priority": place,
            "body_encoding": "base64",
        }
        envelope = {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
        return Message(f"{self._queue}{_SEPARATOR}{place}" if place else self._queue, json.dumps(envelope))

    def send(self, id: str, priority: int = 5) -> None:
        """Send one message.

        Raises:
            redis.RedisError: the broker does not answer.
        """
        self._client.lpush(*self.message(id, priority))
