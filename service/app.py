"""The composition root of the HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from redis.exceptions import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from service.access.keys import Scope
from service.contract.jobs import TASKS
from service.http import problems
from service.http.authentication import Authenticate, needs
from service.http.background import beside
from service.http.bodies import BodyBudget, BodyLimit
from service.http.hosts import OwnSite
from service.http.middleware import HeadAsGet, Observe, RequestContext
from service.http.openai_images import routes as openai
from service.http.openai_images.errors import ErrorsInItsShape
from service.http.openapi import describe
from service.http.problems import responses
from service.http.root import UnderRoot
from service.http.routes import (
    datasets,
    docs,
    health,
    images,
    jobs,
    models,
    playground,
    presets,
    tasks,
    trainings,
    webhooks,
)
from service.observe import process as observability
from service.pictures.intake import PICTURES_A_REQUEST
from service.pictures.shelf import Shelf
from service.services import Services
from service.settings import Settings

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 600.0
_GUARDED = ("unauthenticated", "forbidden", "foreign-site", "rate-limited")
_UNTRACED = "v2/health,metrics"  # machines ask for these again and again
_CORS: dict[str, Any] = {
    "allow_methods": ["GET", "HEAD", "POST", "DELETE"],
    "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "Prefer", "Last-Event-ID", "X-Request-ID"],
    "expose_headers": [
        *("Location", "ETag", "Retry-After", "Preference-Applied", "X-Request-ID"),
        *("RateLimit", "RateLimit-Policy", "WWW-Authenticate"),
    ],
}
_TITLE = "coopserve"
_DESCRIPTION = """Makes images with cooperative, energy-based models: a fast initializer proposes, a slow solver
refines.

Post a task and get a **job**; follow its events or read it again; fetch its images. Upload pictures once and use their
ids, or send them with the task as data URIs. A server that is open to a network wants an **API key**:
`Authorization: Bearer csk_...`. Every error is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457))
with a stable `type`, which is also the address of its explanation."""
_TAGS = [
    {"name": "tasks", "description": "What models can do. Each request creates a job."},
    {"name": "images", "description": "Upload pictures once and use their ids in any task."},
    {"name": "openai", "description": "OpenAI's images API, for programs that know that one."},
    {"name": "jobs", "description": "List, follow and cancel jobs, and fetch their images."},
    {"name": "models", "description": "The models: what they can do, their limits, and how good they are."},
    {"name": "trainings", "description": "Upload data sets, and fit new models on them."},
    {"name": "health", "description": "For load balancers and monitoring."},
    {"name": "errors", "description": "What each kind of error means."},
]


def create_app(settings: Settings) -> FastAPI:
    """The API for these settings; ``settings.redis_url`` is needed. Redis may start later than the API."""
    services = Services.build(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        jobs = (services.finished.run(), services.webhooks.run(), _sweep(services.shelf))
        try:
            async with beside(*jobs):
                yield
        finally:
            await services.close()

    app = FastAPI(
        title=_TITLE,
        description=_DESCRIPTION,
        version=version("coopserve"),
        openapi_tags=_TAGS,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = services
    problems.install(app)
    app.add_middleware(
        BodyLimit,
        limit=settings.max_body_bytes,
        limits=_body_limits(settings),
        seconds=settings.body_seconds,
        budget=BodyBudget(settings.max_bodies_bytes),
        streamed={"/v1/datasets": settings.max_body_bytes + settings.max_dataset_bytes},
    )
    app.add_middleware(Authenticate, guard=services.guard)
    if not settings.auth_on:
        app.add_middleware(OwnSite, settings=settings)
    app.add_middleware(ErrorsInItsShape, paths=[openai.GENERATIONS, openai.EDITS])
    app.add_middleware(HeadAsGet)
    if settings.cors_origin_list:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origin_list, **_CORS)
    app.add_middleware(Observe, metrics=services.http_metrics)
    app.add_middleware(UnderRoot, path=settings.root_path)
    app.add_middleware(RequestContext)
    for scope, routers in _routers().items():
        for router in routers:
            app.include_router(router, dependencies=[needs(scope)], responses=responses(_GUARDED))
    for router in (openai.router, openai.edits):
        app.include_router(router, dependencies=[needs(Scope.USE)])  # whose errors have a shape of their own
    app.include_router(health.router)
    app.include_router(docs.build(_TITLE, "/openapi.json"))
    app.include_router(playground.build())
    if settings.otel:
        _trace(app)
    webhooks.describe(app.webhooks)
    app.openapi = lambda: describe(app, settings.root_path)  # type: ignore[method-assign]
    return app


def from_environment() -> FastAPI:
    """The API for the settings of the environment: ``uvicorn --factory service.app:from_environment``."""
    settings = Settings()
    observability.start(settings, _TITLE)
    return create_app(settings)


def _routers() -> dict[Scope, tuple[APIRouter, ...]]:
    """The routes that need an API key, by the scope that it must have."""
    return {
        Scope.USE: (tasks.build(), images.router, jobs.router, models.router),
        Scope.TRAIN: (trainings.starting, trainings.router, datasets.router, presets.router),
        Scope.ADMIN: (models.managing,),
    }


def _body_limits(settings: Settings) -> dict[str, int]:
    """The limits of bodies that carry pictures or a mesh, by path; base64 makes four bytes of three."""
    file = settings.max_body_bytes + settings.max_image_bytes
    uris = settings.max_body_bytes + PICTURES_A_REQUEST * math.ceil(settings.max_image_bytes * 4 / 3)
    mesh = settings.max_body_bytes + math.ceil(settings.max_mesh_bytes * 4 / 3)
    return {
        "/v1/images": file,
        openai.EDITS: uris,
        **{f"/v1/{name}": uris for name, task in TASKS.items() if task.pictures},
        **{f"/v1/{name}": max(uris, mesh) for name, task in TASKS.items() if task.surfaces},
    }


async def _sweep(shelf: Shelf) -> None:
    """Remove images whose time is over, now and again; workers do it too."""
    while True:
        try:
            await run_in_threadpool(shelf.sweep)
        except (OSError, RedisError) as error:
            log.warning("expired images could not be removed: %s", error)
        await asyncio.sleep(_SWEEP_SECONDS)


def _trace(app: FastAPI) -> None:
    """A span for each request; what the process does with its spans is set up in :mod:`service.observe.tracing`."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # of the extra `otel`

    FastAPIInstrumentor.instrument_app(app, excluded_urls=_UNTRACED)
