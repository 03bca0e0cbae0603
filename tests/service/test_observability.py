"""Log lines, traces and figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, generate_latest

from service.contract.jobs import JobRecord
from service.contract.records import Status
from service.observe import logs
from service.observe import process as observability
from service.observe.metrics import StorageCollector, StoreCollector, WorkerCollector
from service.settings import Settings
from service.store.ledger import Ledger
from service.store.presence import Presence
from service.store.queue_figures import Move, QueueFigures
from tests.service.serving import serving
from tests.service.submitting import SubmittingStore

Jobs = SubmittingStore[JobRecord]


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    """Log lines as pytest has set them up, again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("untouched_logging")
def test_json_lines_name_request_and_job(
    new_job: Callable[[], JobRecord], capsys: pytest.CaptureFixture[str], jobs: Jobs
) -> None:
    logs.configure("info", "json")
    record = new_job().model_copy(update={"context": {"request_id": "req-1"}})
    jobs.submit(record)
    claimed = jobs.claim(record.id, "w", 10)
    assert claimed is not None
    with observability.working_on(claimed):
        logging.getLogger("a.b").warning("it %s", "works")
        logging.getLogger("a.b").debug("not shown")
    try:
        raise ValueError("oops")
    except ValueError:
        logging.getLogger("a.b").exception("after it")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first.pop("time").startswith("20")
    assert first == {
        "level": "WARNING",
        "logger": "a.b",
        "request_id": "req-1",
        "job_id": record.id,
        "message": "it works",
    }
    assert (second["job_id"], second["request_id"]) == ("-", "-")
    assert "ValueError: oops" in second["exc_info"]


@pytest.mark.usefixtures("untouched_logging")
def test_text_lines_name_them_too(new_job: Callable[[], JobRecord], capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning")
    record = new_job()
    with observability.working_on(record):
        logging.getLogger("a.b").warning("it works")
    assert capsys.readouterr().err.endswith(f"WARNING a.b [- {record.id}] it works\n")


def test_a_job_carries_the_id_of_its_request(api: httpx.Client, jobs: Jobs) -> None:
    job = api.post("/v1/generate", json={"model": "toy"}, headers={"X-Request-ID": "mine-7"}).json()
    assert "context" not in job
    assert jobs.get(job["id"]).context == {"request_id": "mine-7"}


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that end while the test runs."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # possible once a process: no other test may
    yield exporter
    provider.shutdown()


def test_one_trace_leads_from_the_request_to_the_job(
    settings: Settings, jobs: Jobs, spans: InMemorySpanExporter
) -> None:
    client_trace, client_span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with serving(settings.model_copy(update={"otel": True})) as url:
        headers = {"traceparent": f"00-{client_trace}-{client_span}-01"}
        job = httpx.post(f"{url}/v1/generate", json={"model": "toy"}, headers=headers).json()
        httpx.get(f"{url}/v2/health/live")
    claimed = jobs.claim(job["id"], "w", 10)
    assert claimed is not None
    with observability.working_on(claimed):
        pass
    ended = spans.get_finished_spans()
    (request,) = [span for span in ended if span.kind is SpanKind.SERVER]
    (attempt,) = [span for span in ended if span.kind is SpanKind.CONSUMER]
    assert (request.name, attempt.name) == ("POST /v1/generate", "attempt job")
    for span in (request, attempt):
        assert f"{span.context.trace_id:032x}" == client_trace
    assert f"{request.parent.span_id:016x}" == client_span
    below_the_request = {request.context.span_id} | {
        span.context.span_id for span in ended if span.parent and span.parent.span_id == request.context.span_id
    }
    assert attempt.parent.span_id in below_the_request
    assert attempt.attributes == {"coopserve.id": job["id"], "coopserve.attempt": 1}


def test_figures_of_the_queue(jobs: Jobs, new_job: Callable[[], JobRecord], client: redis.Redis) -> None:
    figures = QueueFigures(client, JobRecord)
    assert figures.queues() == figures.moves() == []
    first = jobs.submit(new_job(), queue="a@1", priority=2)[0]
    for priority in (9, 0):
        jobs.submit(new_job(), queue="a@1", priority=priority)
    claimed = jobs.submit(new_job(), queue="b@1")[0]
    jobs.claim(claimed.id, "w", 10)
    jobs.release(claimed.id, 1)
    jobs.claim(claimed.id, "w", 10)
    ((name, waiting, age),) = figures.queues()
    assert (name, waiting) == ("a@1", 3)
    assert 0 <= age < 60
    assert figures.moves() == [
        Move(Status.QUEUED, Status.RUNNING, 2),
        Move(Status.RUNNING, Status.QUEUED, 1),
    ]
    for id in (first.id, claimed.id):
        jobs.cancel(id)
    assert Move(Status.QUEUED, Status.CANCELLED, 1) in figures.moves()


def test_the_oldest_counts_whatever_its_priority(
    jobs: Jobs, new_job: Callable[[], JobRecord], client: redis.Redis
) -> None:
    old = jobs.submit(new_job(), queue="a@1", priority=1)[0]
    client.zincrby("{coopserve:job}:ages:a@1", -100, old.id)
    jobs.submit(new_job(), queue="a@1", priority=8)
    (queue,) = QueueFigures(client, JobRecord).queues()
    assert 100 <= queue.oldest_seconds < 110


def test_figures_in_the_format_of_prometheus(
    jobs: Jobs, new_job: Callable[[], JobRecord], client: redis.Redis, presence: Presence
) -> None:
    registry = CollectorRegistry()
    registry.register(StoreCollector("jobs", jobs, QueueFigures(client, JobRecord)))
    registry.register(WorkerCollector(presence))
    registry.register(StorageCollector(Ledger(client)))
    jobs.submit(new_job(), queue='odd"model')
    jobs.cancel(jobs.submit(new_job(), queue="a@1")[0].id)
    info = {"kind": "inference", "state": "ready", "steps_total": 7, "active": 2, "models": {"a@1": 1024}}
    presence.announce("w1", info, 10)
    lines = generate_latest(registry).decode().splitlines()
    assert {
        'coopserve_jobs{status="cancelled"} 1.0',
        'coopserve_jobs_queue_depth{model="odd\\"model"} 1.0',
        'coopserve_jobs_moves_total{from="queued",to="cancelled"} 1.0',
        "coopserve_jobs_waiting 1.0",
        "coopserve_jobs_webhooks_waiting 0.0",
        'coopserve_worker_up{kind="inference",worker="w1"} 1.0',
        "# TYPE coopserve_worker_steps_total counter",
        'coopserve_worker_steps_total{kind="inference",worker="w1"} 7.0',
        "# TYPE coopserve_worker_active gauge",
        'coopserve_worker_model_bytes{model="a@1",worker="w1"} 1024.0',
        f"coopserve_stored_bytes {float(Ledger(client).stored().all)}",
    } <= set(lines)
