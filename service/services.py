"""Everything that routes call, built once at start and handed to them by a dependency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

import redis
import redis.asyncio
from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from service import events, store
from service.blobs import Blobs
from service.catalog import Catalog
from service.events import Finished
from service.jobs import JobRecord
from service.metrics import Deployment, HttpMetrics
from service.presence import Presence
from service.queue import JobQueue
from service.settings import Settings
from service.store import RecordStore
from service.trainings import TrainingRecord


@dataclass(frozen=True)
class Services:
    """The parts of the running API."""

    settings: Settings
    client: redis.Redis
    streams: redis.asyncio.Redis
    jobs: RecordStore[JobRecord]
    trainings: RecordStore[TrainingRecord]
    presence: Presence
    finished: Finished
    queue: JobQueue
    catalog: Catalog
    blobs: Blobs
    registry: CollectorRegistry
    http_metrics: HttpMetrics

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """Connect the parts; nothing is sent to Redis yet, so it may start later than the API."""
        client = store.connect(settings.broker_url)
        streams = events.connect(settings.broker_url)
        jobs = RecordStore(client, JobRecord)
        trainings = RecordStore(client, TrainingRecord)
        presence = Presence(client)
        registry = CollectorRegistry()
        registry.register(Deployment(jobs, trainings, presence))
        return cls(
            settings=settings,
            client=client,
            streams=streams,
            jobs=jobs,
            trainings=trainings,
            presence=presence,
            finished=Finished(streams, jobs.finished_channel),
            queue=JobQueue(settings),
            catalog=Catalog(settings.model_dirs),
            blobs=Blobs(settings.blobs_dir),
            registry=registry,
            http_metrics=HttpMetrics(registry),
        )

    async def close(self) -> None:
        """Close all connections."""
        self.queue.close()
        self.client.close()
        await self.streams.aclose()


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Parts = Annotated[Services, Depends(_services)]
"""The parameter by which a route gets the :class:`Services`."""
