"""Traces recorded by OpenTelemetry: a span a session, below it one a chunk, below that its stages.

A client's `traceparent` is taken up, and engines on Triton get that of the stage that calls them.
Needs the `otel` extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mirrorme_engines.call_context import traceparent
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanContext, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mirrorme_service.error_border import as_animation_error, is_client_gone
from mirrorme_service.traces import Metadata, SessionTrace, Traces, traced_session

_PREFIX = "mirrorme."


class OtelTraces(Traces):
    """Owns a provider and its exporter until `close`."""

    def __init__(self, processor: SpanProcessor, version: str) -> None:
        resource = Resource.create({SERVICE_NAME: "mirrorme", SERVICE_VERSION: version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("mirrorme_service", version)

    @contextmanager
    def session(self, session_id: str, metadata: Metadata) -> Iterator[SessionTrace]:
        """See `Traces.session`."""
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        parent = TraceContextTextMapPropagator().extract(carrier)
        span = self._tracer.start_span(
            "session", parent, attributes={f"{_PREFIX}session_id": session_id}
        )
        recorded = _RecordedSession(self._tracer, span)
        try:
            with traced_session(recorded):
                yield recorded
        except BaseException as error:
            is_gone = is_client_gone(error)
            reason = "CANCELLED" if is_gone else as_animation_error(error).reason
            recorded.describe(reason=reason)
            span.set_status(Status(StatusCode.ERROR, reason))
            raise
        finally:
            recorded.end()

    def close(self) -> None:
        """See `Traces.close`."""
        self._provider.shutdown()


class _RecordedSession(SessionTrace):
    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._chunks: dict[int, Span] = {}
        """Begun and not ended."""

    def describe(self, **attributes: str | int) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(f"{_PREFIX}{name}", value)

    @contextmanager
    def stage(self, chunk: int, name: str) -> Iterator[None]:
        span = self._chunks.get(chunk)
        if span is None:
            span = self._chunks[chunk] = self._child(self._span, "chunk")
            span.set_attribute(f"{_PREFIX}chunk", chunk)
        stage = self._child(span, name)
        token = traceparent.set(_header(stage.get_span_context()))
        try:
            yield
        except BaseException as error:
            stage.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            traceparent.reset(token)
            stage.end()

    def end_chunk(self, chunk: int) -> None:
        if (span := self._chunks.pop(chunk, None)) is not None:
            span.end()

    def end(self) -> None:
        """Ends all: chunks that were dropped too."""
        for chunk in list(self._chunks):
            self.end_chunk(chunk)
        self._span.end()

    def _child(self, parent: Span, name: str) -> Span:
        return self._tracer.start_span(name, trace.set_span_in_context(parent))


def open_otlp_traces(endpoint: str, version: str) -> OtelTraces:
    """Traces sent to a collector by OTLP over HTTP, from a thread of their own.

    Args:
        endpoint: URL of its traces, such as `http://localhost:4318/v1/traces`.
        version: of the gateway.
    """
    return OtelTraces(BatchSpanProcessor(OTLPSpanExporter(endpoint)), version)


def _header(context: SpanContext) -> str:
    """W3C trace context."""
    return (
        f"00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}-"
        f"{int(context.trace_flags):02x}"
    )
