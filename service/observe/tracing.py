"""Traces by OpenTelemetry: one from a client's request to the end of its job.

The record carries the trace from the API to the worker, for the message on the queue only tells a worker that there is
something to do. Without the SDK, which the extra `otel` installs, or without the setting, all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

from service.contract.records import Record


class MissingExtraError(Exception):
    """The packages for traces are not installed."""


def configure(name: str) -> None:
    """Send this process's traces by OTLP, as OpenTelemetry's own environment variables say.

    Args:
        name: what the process is called in traces, unless OTEL_SERVICE_NAME says otherwise.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.instrumentation") is None:
        raise MissingExtraError("traces need further packages: pip install 'coopserve[otel]', or set COOPSERVE_OTEL=0")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: name}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    RedisInstrumentor().instrument()


def carried() -> dict[str, str]:
    """The trace of the request that is being answered, for the record's ``context``."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


@contextmanager
def attempt(record: Record) -> Iterator[None]:
    """A span for one attempt at a job or training, in the trace of its request."""
    parent = propagate.extract(record.context)
    tracer = trace.get_tracer("coopserve")
    with tracer.start_as_current_span(f"attempt {record.prefix}", parent, SpanKind.CONSUMER) as span:
        span.set_attributes({"coopserve.id": record.id, "coopserve.attempt": record.attempt})
        yield
