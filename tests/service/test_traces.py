"""What is recorded of sessions, and that nothing is where no traces are asked for."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from mirrorme_engines.call_context import traceparent
from mirrorme_service.otel_traces import OtelTraces
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.service.gateway import animate, audio, config, refusal, running_gateway, speech

STAGES = ("audio_encoder", "denoiser", "decoder")


def recording() -> tuple[OtelTraces, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    return OtelTraces(SimpleSpanProcessor(exporter), "1.2.3"), exporter


def children(spans: tuple[ReadableSpan, ...], parent: ReadableSpan) -> list[ReadableSpan]:
    return [s for s in spans if s.parent and s.parent.span_id == parent.context.span_id]


async def test_one_span_a_session_and_a_chunk_with_its_stages() -> None:
    traces, exporter = recording()
    async with running_gateway(traces=traces) as gateway:
        animation = await animate(
            gateway.stub, [config(client_reference="call 7"), audio(speech(16_000))]
        )
    spans = exporter.get_finished_spans()
    (session,) = [span for span in spans if span.name == "session"]
    assert animation.started is not None
    assert session.attributes is not None
    assert session.attributes["mirrorme.session_id"] == animation.started.session_id
    assert session.attributes["mirrorme.client_reference"] == "call 7"
    assert session.status.is_ok or session.status.is_unset
    assert session.resource.attributes["service.version"] == "1.2.3"
    chunks = children(spans, session)
    numbers = [span.attributes["mirrorme.chunk"] for span in chunks if span.attributes]
    assert sorted(numbers) == [0, 1, 2]
    for chunk in chunks:
        assert chunk.name == "chunk"
        stages = children(spans, chunk)
        assert Counter(span.name for span in stages) == Counter(STAGES)
        for stage in stages:
            assert chunk.start_time <= stage.start_time <= stage.end_time <= chunk.end_time
    assert {span.context.trace_id for span in spans} == {session.context.trace_id}


async def test_the_clients_trace_goes_on_to_the_engines() -> None:
    traces, exporter = recording()
    seen = []
    async with running_gateway(traces=traces) as gateway:
        infer = gateway.engines.denoiser.infer

        async def watched(*args, **kwargs):
            seen.append(traceparent.get())
            return await infer(*args, **kwargs)

        gateway.engines.denoiser.infer = watched
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),)
        call = gateway.stub.StreamAnimate([config(), audio(speech(6000))], metadata=metadata)
        async for _ in call:
            pass
        assert traceparent.get() == ""
    spans = {f"{span.context.span_id:016x}": span for span in exporter.get_finished_spans()}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {trace_id}
    (session,) = [span for span in spans.values() if span.name == "session"]
    assert f"{session.parent.span_id:016x}" == "b7ad6b7169203331"
    assert seen
    for header in seen:
        version, trace, span_id, flags = header.split("-")
        assert (version, trace, flags) == ("00", trace_id, "01")
        assert spans[span_id].name == "denoiser"


async def test_how_a_session_ended_is_recorded() -> None:
    traces, exporter = recording()
    async with running_gateway(traces=traces) as gateway:
        await refusal(gateway.stub, [config(), audio(b"\0")])
        gateway.engines.denoiser.faults.fail_when(lambda inputs: True)
        await refusal(gateway.stub, [config(), audio(speech(16_000))])
        call = gateway.stub.StreamAnimate()
        await call.write(config())
        await call.read()
        call.cancel()
        await gateway.until_idle()
    sessions = [span for span in exporter.get_finished_spans() if span.name == "session"]
    reasons = [span.attributes["mirrorme.reason"] for span in sessions]
    assert reasons == ["AUDIO_TRUNCATED_SAMPLE", "ENGINE_FAULT", "CANCELLED"]
    (failed,) = [s for s in exporter.get_finished_spans() if s.name == "denoiser"]
    assert not failed.status.is_ok


def test_without_traces_the_library_is_not_even_imported() -> None:
    program = (
        "import sys, mirrorme_service.server; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
