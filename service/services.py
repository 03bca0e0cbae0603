"""Everything that routes call, built once at start and handed to them by a dependency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

import redis
import redis.asyncio
from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from pictures.budget import ByteBudget
from service.access.keys import Keys
from service.access.limits import RateLimits
from service.access.security import Guard
from service.access.signatures import Signatures
from service.access.streams import OpenStreams
from service.contract.catalog import Catalog
from service.contract.jobs import JobRecord
from service.contract.trainable import Trainable
from service.contract.trainings import TrainingRecord
from service.datasets.store import DataSets
from service.datasets.unpacking import DataLimits
from service.observe.metrics import HttpMetrics, StorageCollector, StoreCollector, WebhookMetrics, WorkerCollector
from service.pictures.blobs import Blobs
from service.pictures.intake import Intake
from service.pictures.room import Room
from service.pictures.shelf import Shelf
from service.pictures.uploads import Uploads
from service.settings import Settings
from service.store import connection, events
from service.store.control import Control
from service.store.events import Finished
from service.store.ledger import Ledger
from service.store.presence import Presence
from service.store.queue import INFERENCE_QUEUE, RUN_JOB, RUN_TRAINING, TRAINING_QUEUE, JobQueue
from service.store.queue_figures import QueueFigures
from service.store.store import RecordStore
from service.store.submission import Submissions
from service.store.types import StorageLimits
from service.webhooks.deliveries import Deliveries
from service.webhooks.post import GuardedPost
from service.webhooks.sender import WebhookSecrets, WebhookSender


@dataclass(frozen=True)
class Services:
    """The parts of the running API."""

    settings: Settings
    client: redis.Redis
    streams: redis.asyncio.Redis
    calls: redis.asyncio.Redis
    jobs: RecordStore[JobRecord]
    trainings: RecordStore[TrainingRecord]
    submissions: Submissions[JobRecord]
    training_submissions: Submissions[TrainingRecord]
    presence: Presence
    control: Control
    guard: Guard
    signatures: Signatures
    open_streams: OpenStreams
    post: GuardedPost
    webhooks: WebhookSender
    finished: Finished
    job_queue: JobQueue
    training_queue: JobQueue
    catalog: Catalog
    trainable: Trainable
    datasets: DataSets
    blobs: Blobs
    storage: StorageLimits
    shelf: Shelf
    room: Room
    uploads: Uploads
    intake: Intake
    registry: CollectorRegistry
    http_metrics: HttpMetrics

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """Connect the parts; nothing is sent to Redis yet, so it may start later than the API."""
        client = connection.connect(settings.broker_url)
        streams, calls = events.connect(settings.broker_url), connection.connect_async(settings.broker_url)
        jobs = RecordStore(client, JobRecord)
        trainings = RecordStore(client, TrainingRecord)
        presence = Presence(client)
        blobs = Blobs(settings.blobs)
        storage = StorageLimits(settings.max_owner_bytes, settings.max_stored_bytes, settings.max_records_bytes)
        room = Room(None if settings.blobs_url else settings.blobs_dir, settings.min_free_bytes)
        ledger = Ledger(client)
        shelf = Shelf(blobs, ledger, storage, room)
        uploads = Uploads(shelf, settings.keep_hours)
        budget = ByteBudget(settings.picture_memory_bytes)
        trainable = Trainable.shipped()
        datasets = DataSets(
            settings.datasets_dir,
            trainable.data,
            DataLimits(settings.max_dataset_bytes, settings.max_dataset_files, settings.picture_limits),
            settings.max_owner_dataset_bytes,
            Room(settings.datasets_dir, settings.min_free_bytes),
        )
        registry = CollectorRegistry()
        registry.register(StoreCollector("jobs", jobs, QueueFigures(client, JobRecord)))
        registry.register(StoreCollector("trainings", trainings, QueueFigures(client, TrainingRecord)))
        registry.register(WorkerCollector(presence))
        registry.register(StorageCollector(ledger))
        keys, signatures = Keys(client), Signatures(client)
        post = GuardedPost(
            allow_http=settings.webhook_allow_http,
            allow_private=settings.webhook_allow_private,
            ports=settings.webhook_port_numbers,
            allow_local=settings.webhook_local,
        )
        secrets = WebhookSecrets(keys, settings.shared_webhook_secret)
        queues: list[Deliveries[Any]] = [Deliveries(client, JobRecord), Deliveries(client, TrainingRecord)]
        return cls(
            settings=settings,
            client=client,
            streams=streams,
            calls=calls,
            jobs=jobs,
            trainings=trainings,
            submissions=Submissions(calls, JobRecord, settings.keep_seconds),
            training_submissions=Submissions(calls, TrainingRecord, settings.keep_seconds),
            presence=presence,
            control=Control(client),
            guard=Guard(settings, keys, RateLimits(settings.broker_url, client), signatures),
            signatures=signatures,
            open_streams=OpenStreams(settings.max_streams),
            post=post,
            webhooks=WebhookSender(queues, secrets, post, WebhookMetrics(registry).count, root=settings.root_path),
            finished=Finished(streams, jobs.finished_channel),
            job_queue=JobQueue(client, RUN_JOB, INFERENCE_QUEUE),
            training_queue=JobQueue(client, RUN_TRAINING, TRAINING_QUEUE),
            catalog=Catalog(settings.model_dirs),
            trainable=trainable,
            datasets=datasets,
            blobs=blobs,
            storage=storage,
            shelf=shelf,
            room=room,
            uploads=uploads,
            intake=Intake(
                shelf, uploads, settings.picture_limits, settings.mesh_limits, settings.max_restored_pixels, budget
            ),
            registry=registry,
            http_metrics=HttpMetrics(registry),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.post.aclose()
        self.client.close()
        await self.streams.aclose()
        await self.calls.aclose()


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Parts = Annotated[Services, Depends(_services)]
"""The parameter by which a route gets the :class:`Services`."""
