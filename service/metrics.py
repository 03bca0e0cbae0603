"""Figures for Prometheus: requests of this process, and jobs, queues and workers of the whole deployment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.jobs import JobRecord
from service.presence import Presence
from service.store import RecordStore
from service.trainings import TrainingRecord

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


class Deployment(Collector):
    """Reads the figures of jobs, trainings and workers from Redis when Prometheus asks."""

    def __init__(
        self, jobs: RecordStore[JobRecord], trainings: RecordStore[TrainingRecord], presence: Presence
    ) -> None:
        self._jobs = jobs
        self._trainings = trainings
        self._presence = presence

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not need Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        for name, store in (("jobs", self._jobs), ("trainings", self._trainings)):
            family = GaugeMetricFamily(f"coopserve_{name}", f"Number of {name} by status.", labels=["status"])
            for status, count in store.counts().items():
                family.add_metric([status.value], count)
            yield family
            yield GaugeMetricFamily(f"coopserve_{name}_waiting", f"Number of {name} in the queue.", value=store.depth())
        yield from self._worker_figures()

    def _worker_figures(self) -> Iterator[Metric]:
        """One gauge for each number that workers announce, labelled by worker."""
        families: dict[str, GaugeMetricFamily] = {}
        alive = GaugeMetricFamily("coopserve_worker_up", "Workers that are alive.", labels=["worker", "kind"])
        for worker, info in self._presence.workers().items():
            kind = str(info.get("kind", ""))
            alive.add_metric([worker, kind], 1)
            for figure, value in info.items():
                if isinstance(value, int | float) and _FIGURE.fullmatch(figure):
                    name = f"coopserve_worker_{figure}"
                    text = f"The worker's figure {figure!r}."
                    family = families.setdefault(figure, GaugeMetricFamily(name, text, labels=["worker", "kind"]))
                    family.add_metric([worker, kind], float(value))
        yield alive
        yield from families.values()
