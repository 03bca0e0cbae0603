"""The composition root of the HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service import logs, problems
from service.middleware import BodyLimit, Observe, RequestContext
from service.problems import ProblemDocument
from service.routes import docs, health, jobs, models, tasks, trainings
from service.services import Services
from service.settings import Settings

_TITLE = "coopserve"
_DESCRIPTION = """Makes images with cooperative, energy-based models: a fast initializer proposes, a slow solver
refines.

Post a task, get a **job**; follow it by its events or ask for it again; fetch its images. Every error is a problem
document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)) whose `type` is stable and can be opened."""
_TAGS = [
    {"name": "tasks", "description": "What models can do. Each request makes a job."},
    {"name": "jobs", "description": "Follow, cancel and list jobs, and fetch their images."},
    {"name": "models", "description": "Which models there are, what they can do and how good they are."},
    {"name": "trainings", "description": "Fit new models on the server's data sets."},
    {"name": "health", "description": "For load balancers and monitoring."},
    {"name": "errors", "description": "What each kind of error means."},
]


def create_app(settings: Settings) -> FastAPI:
    """The API for these settings; ``settings.redis_url`` is needed. Redis may start later than the API."""
    services = Services.build(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        listener = asyncio.create_task(services.finished.run())
        try:
            yield
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener
            await services.close()

    app = FastAPI(
        title=_TITLE,
        description=_DESCRIPTION,
        version=version("coopserve"),
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = services
    problems.install(app)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(Observe, metrics=services.http_metrics)
    app.add_middleware(RequestContext)
    for router in (tasks.build(), jobs.router, models.router, trainings.starting, trainings.router, health.router):
        app.include_router(router)
    app.include_router(docs.build(_TITLE, "/openapi.json"))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def from_environment() -> FastAPI:
    """The API for the settings of the environment: ``uvicorn --factory service.app:from_environment``."""
    settings = Settings()
    logs.configure(settings.log_level)
    return create_app(settings)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The API's description, made once, with the schema of errors that all routes refer to."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"].update(problem.pop("$defs"), Problem=problem)
        app.openapi_schema = schema
    return app.openapi_schema
