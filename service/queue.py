"""The Celery queue, seen from the sender: messages go by the task's name and carry an id alone.

The record in the store is the truth. A message that is lost, late or doubled does no harm: workers claim the record,
and a sweep sends messages again for records that nobody claims.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from celery import Celery

from service.settings import Settings

RUN_JOB = "coopserve.run_job"
RUN_TRAINING = "coopserve.run_training"
INFERENCE_QUEUE = "inference"
TRAINING_QUEUE = "training"

_SEVEN_DAYS = 7 * 24 * 3600
# One quick retry: it mends a stale connection, and a sweep sends again what is lost all the same.
_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.1}


def celery_options(settings: Settings) -> dict[str, Any]:
    """Celery's settings, the same for those who send and those who work."""
    return {
        "broker_url": settings.broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            # Recovery rests on the leases of the store: the broker must never start a long job twice by itself.
            "visibility_timeout": _SEVEN_DAYS,
            "priority_steps": list(range(10)),
            "queue_order_strategy": "priority",
            "sep": ":",
            "socket_keepalive": True,
            "socket_connect_timeout": 2.0,
            # A connection that fell silent is given up: by senders, and by a worker that waits for messages.
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
    """Sends ids of records to the workers. Safe to use from many threads."""

    def __init__(self, settings: Settings) -> None:
        self._app = Celery("coopserve", set_as_current=False)
        self._app.conf.update(celery_options(settings))

    def send(self, task: str, id: str, queue: str, priority: int = 5) -> None:
        """Send one message. Greater priorities (0 to 9) are taken first.

        Raises:
            kombu.exceptions.OperationalError: the broker does not answer.
        """
        # The message is Celery's own; publishing it without send_task's routing takes half the time.
        message = self._app.amqp.create_task_message(uuid4().hex, task, args=[id], kwargs={})
        with self._app.producer_or_acquire() as producer:
            producer.publish(
                message.body,
                exchange="",
                routing_key=queue,
                priority=9 - priority,  # in the broker 0 comes first
                serializer="json",
                headers=message.headers,
                retry=True,
                retry_policy=_RETRY,
                **message.properties,
            )

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.close()
