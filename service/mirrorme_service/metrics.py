"""Prometheus metrics of the gateway, in a registry of their own. Names and labels are stable.

| metric | type, labels | what it says |
|---|---|---|
| `mirrorme_build_info` | gauge; version, preset, weights, engine, trained | 1; what runs here |
| `mirrorme_sessions_active` | gauge | sessions that hold a place |
| `mirrorme_sessions_capacity` | gauge | places |
| `mirrorme_sessions_total` | counter; outcome | sessions ended: completed, cancelled (by the \
client), refused (before `started`), failed |
| `mirrorme_first_frame_seconds` | histogram | first audio that completes a chunk, to first frame \
sent |
| `mirrorme_chunk_stage_seconds` | histogram; stage | a chunk's time in audio_encoder, denoiser, \
decoder (queues and retries included), frame_encoding |
| `mirrorme_engine_calls_total` | counter; engine, outcome | calls: ok, invalid, fault, \
overloaded, timeout, unavailable, cancelled |
| `mirrorme_engine_retries_total` | counter; engine | calls made again after a retryable error |
| `mirrorme_engine_queue_seconds` | histogram; engine | a call's wait before its run |
| `mirrorme_engine_batch_size` | histogram; engine | rows of a run |
| `mirrorme_engine_run_seconds` | histogram; engine | duration of a run |
| `mirrorme_engine_calls_waiting` | gauge; engine | calls in the queue when last looked at |
| `mirrorme_identity_lookups_total` | counter; result | portraits sent: hit, miss (encoded), \
joined (waited for one that was being encoded) |
| `mirrorme_identity_evictions_total` | counter; reason | portraits forgotten: expired, size |
| `mirrorme_frames_sent_total` | counter; encoding | frames |
| `mirrorme_frame_bytes_sent_total` | counter; encoding | bytes of encoded frames |
| `mirrorme_errors_total` | counter; rpc, status, reason | calls that ended with an error |
"""

from __future__ import annotations

from mirrorme_engines.observer import BatchRecord, CallRecord
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mirrorme_service.identity_cache import Eviction, IdentityCacheObserver, Lookup

_SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LATENCY_S = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2, 5, 10)
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics(IdentityCacheObserver):
    """All metrics of one gateway; also the observer of its engines and of its identity cache."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mirrorme_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"mirrorme_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            name = f"mirrorme_{name}"
            return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

        build_labels = ("version", "preset", "weights", "engine", "trained")
        self.build_info = gauge("build_info", "What runs here.", *build_labels)
        self.sessions_active = gauge("sessions_active", "Sessions that hold a place.")
        self.sessions_capacity = gauge("sessions_capacity", "Places for sessions.")
        self.sessions = counter("sessions", "Sessions ended.", "outcome")
        self.first_frame = histogram(
            "first_frame_seconds", "First complete chunk of audio to first frame sent.", _LATENCY_S
        )
        self.chunk_stage = histogram(
            "chunk_stage_seconds", "A chunk's time by stage.", _SHORT_S, "stage"
        )
        self.engine_calls = counter("engine_calls", "Engine calls.", "engine", "outcome")
        self.engine_retries = counter("engine_retries", "Engine calls made again.", "engine")
        self.engine_queue = histogram(
            "engine_queue_seconds", "A call's wait before its run.", _SHORT_S, "engine"
        )
        self.engine_batch_size = histogram(
            "engine_batch_size", "Rows of an engine's run.", _ROWS, "engine"
        )
        self.engine_run = histogram(
            "engine_run_seconds", "Duration of an engine's run.", _SHORT_S, "engine"
        )
        self.engine_waiting = gauge("engine_calls_waiting", "Engine calls queued.", "engine")
        self.identity_lookups = counter("identity_lookups", "Portraits sent.", "result")
        self.identity_evictions = counter("identity_evictions", "Portraits forgotten.", "reason")
        self.frames = counter("frames_sent", "Frames sent.", "encoding")
        self.frame_bytes = counter("frame_bytes_sent", "Bytes of frames sent.", "encoding")
        self.errors = counter("errors", "Calls ended with an error.", "rpc", "status", "reason")

    def call_ended(self, record: CallRecord) -> None:
        """See `EngineObserver`."""
        self.engine_calls.labels(record.engine, record.outcome).inc()
        self.engine_queue.labels(record.engine).observe(record.queue_s)
        self.engine_waiting.labels(record.engine).set(record.num_waiting)

    def batch_ended(self, record: BatchRecord) -> None:
        """See `EngineObserver`."""
        self.engine_batch_size.labels(record.engine).observe(record.batch_size)
        self.engine_run.labels(record.engine).observe(record.run_s)

    def looked_up(self, result: Lookup) -> None:
        """See `IdentityCacheObserver`."""
        self.identity_lookups.labels(result).inc()

    def evicted(self, reason: Eviction) -> None:
        """See `IdentityCacheObserver`."""
        self.identity_evictions.labels(reason).inc()
