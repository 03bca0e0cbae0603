"""Figures for Prometheus: requests of this process, and jobs, queues and workers of the whole deployment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.store.ledger import Ledger
from service.store.presence import Presence
from service.store.queue_figures import QueueFigures
from service.store.store import RecordStore

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_FIGURE = re.compile(r"[a-z][a-z0-9_]*")


class HttpMetrics:
    """Counts and times of requests, by method and route template; clients can't invent label values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "coopserve_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "coopserve_http_request_seconds",
            "Time to answer a request, in seconds.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)


class WebhookMetrics:
    """Counts attempts to send webhooks, by how they ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "coopserve_webhook_attempts", "Attempts to send webhooks.", ["outcome"], registry=registry
        )
        for outcome in ("delivered", "retried", "failed"):  # so that the first failure is a change
            self._attempts.labels(outcome)

    def count(self, outcome: str) -> None:
        """Count one attempt: ``delivered``, ``retried`` or ``failed``."""
        self._attempts.labels(outcome).inc()


class StoreCollector(Collector):
    """Reads the figures of one record store from Redis when Prometheus asks.

    Args:
        name: what the records are called: ``jobs`` or ``trainings``.
        store: the records.
        figures: their queue.
    """

    def __init__(self, name: str, store: RecordStore[Any], figures: QueueFigures) -> None:
        self._name, self._store, self._figures = name, store, figures

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not need Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        name = self._name
        statuses = GaugeMetricFamily(f"coopserve_{name}", f"Number of {name} by status.", labels=["status"])
        for status, count in self._store.counts().items():
            statuses.add_metric([status.value], count)
        yield statuses
        yield GaugeMetricFamily(f"coopserve_{name}_waiting", f"Number of {name} in the queue.", self._store.depth())
        yield from self._queues()
        moves = CounterMetricFamily(f"coopserve_{name}_moves", f"Changes of status of {name}.", labels=["from", "to"])
        for move in self._figures.moves():
            moves.add_metric([move.source.value, move.target.value], move.times)
        yield moves
        text = f"Webhooks of {name} that wait to be sent, or to be sent again."
        yield GaugeMetricFamily(f"coopserve_{name}_webhooks_waiting", text, self._figures.webhooks())

    def _queues(self) -> Iterator[Metric]:
        name = self._name
        depth = GaugeMetricFamily(f"coopserve_{name}_queue_depth", f"Waiting {name} by model.", labels=["model"])
        age = GaugeMetricFamily(
            f"coopserve_{name}_queue_oldest_seconds", f"How long the oldest of the {name} has waited.", labels=["model"]
        )
        for queue in self._figures.queues():
            depth.add_metric([queue.model], queue.waiting)
            age.add_metric([queue.model], queue.oldest_seconds)
        yield depth
        yield age


class StorageCollector(Collector):
    """Reads from the ledger how much is stored."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not need Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        stored = self._ledger.stored()
        text = "Bytes of pictures and records of jobs and uploads, with the room that unfinished jobs were given."
        yield GaugeMetricFamily("coopserve_stored_bytes", text, stored.all)
        yield GaugeMetricFamily("coopserve_stored_records_bytes", "Bytes of records of jobs.", stored.records)


class WorkerCollector(Collector):
    """Shows the figures that workers announce: those whose names end in ``_total`` are counters, others gauges."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not need Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures as they were last announced."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        alive = GaugeMetricFamily("coopserve_worker_up", "Workers that are alive.", labels=["worker", "kind"])
        models = GaugeMetricFamily(
            "coopserve_worker_model_bytes", "Memory of models that are loaded.", labels=["worker", "model"]
        )
        for worker, info in self._presence.workers().items():
            kind = str(info.get("kind", ""))
            alive.add_metric([worker, kind], 1)
            for model, size in info.get("models", {}).items():
                models.add_metric([worker, model], float(size))
            for figure, value in _numbers(info):
                family = families.setdefault(figure, _family(figure))
                family.add_metric([worker, kind], value)
        yield from (alive, models)
        yield from families.values()


def _numbers(info: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for figure, value in info.items():
        if isinstance(value, int | float) and _FIGURE.fullmatch(figure):
            yield figure, float(value)


def _family(figure: str) -> CounterMetricFamily | GaugeMetricFamily:
    family = CounterMetricFamily if figure.endswith("_total") else GaugeMetricFamily
    return family(f"coopserve_worker_{figure}", f"The worker's figure {figure!r}.", labels=["worker", "kind"])
