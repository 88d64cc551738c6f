"""Prometheus metrics of the gateway, in a registry of their own. Names and labels are stable.

`docs/metrics.md` says what each one means; a test compares the two.
"""

from __future__ import annotations

from datetime import datetime

from mirrorme_engines.observer import AttemptOutcome, BatchRecord, CallRecord
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from mirrorme_service.identity_cache import Eviction, IdentityCacheObserver, Lookup
from mirrorme_service.picture_decoders import DecoderObserver
from mirrorme_service.picture_process import DecoderEnd
from mirrorme_service.queue_time import add_queue_time

_SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LATENCY_S = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2, 5, 10)
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
# A frame lasts 42 ms.
_LATENESS_S = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.0417, 0.0833, 0.167, 0.333, 1)
_BARGE_IN_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.4, 1)


class Metrics(IdentityCacheObserver, DecoderObserver):
    """All metrics of one gateway; also the observer of its engines, identity cache and decoders."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

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
        self.first_frame_part = histogram(
            "first_frame_part_seconds", "What the first frame waited for.", _LATENCY_S, "part"
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
        self.engine_cpu = counter(
            "engine_cpu_seconds", "CPU time of an engine's threads.", "engine"
        )
        self.engine_waiting = gauge("engine_calls_waiting", "Engine calls queued.", "engine")
        self.identity_lookups = counter("identity_lookups", "Portraits sent.", "result")
        self.identity_evictions = counter("identity_evictions", "Portraits forgotten.", "reason")
        self.decoder_ends = counter(
            "portrait_decoder_ends", "Processes that decode portraits, replaced.", "reason"
        )
        self.frames = counter("frames_sent", "Frames sent.", "encoding")
        self.frame_bytes = counter("frame_bytes_sent", "Bytes of frames sent.", "encoding")
        self.frames_idle = counter("frames_idle", "Frames sent that no speech drove.")
        self.frames_skipped = counter("frames_skipped", "Frames left out.", "reason")
        self.frame_lateness = histogram(
            "frame_lateness_seconds", "A frame's time to its sending, real-time.", _LATENESS_S
        )
        self.deadline_misses = counter(
            "deadline_misses", "Frames sent half a frame or more too late."
        )
        self.barge_in = histogram(
            "barge_in_seconds", "Interrupt received to last stale frame sent.", _BARGE_IN_S
        )
        self.degradations = counter("degradations", "Quality or rate lowered, restored.", "level")
        self.triton_attempts = counter(
            "triton_attempts", "Attempts of calls by server.", "endpoint", "outcome"
        )
        self.triton_ejections = counter(
            "triton_ejections", "Servers taken out after a failure.", "endpoint"
        )
        self.triton_serving = gauge("triton_serving", "1: the server gets calls.", "endpoint")
        self.ready = gauge("ready", "1: the gateway takes sessions.")
        self.tasks = gauge("tasks", "Tasks of the event loop.")
        self.store_up = gauge("store_up", "1: the session store answers.", "store")
        self.store_operations = counter(
            "store_operations", "Operations of the session store.", "operation", "outcome"
        )
        self.store_operation = histogram(
            "store_operation_seconds", "An operation's time.", _SHORT_S, "operation"
        )
        self.takeovers = counter("takeovers", "Sessions taken up from elsewhere.", "outcome")
        self.certificate_expiry = gauge(
            "certificate_expiry_timestamp_seconds", "When the TLS certificate in use expires."
        )
        self.certificate_reloads = counter(
            "certificate_reloads", "Looks at changed certificate files.", "outcome"
        )
        self.errors = counter("errors", "Calls ended with an error.", "rpc", "status", "reason")

    def first_frame_sent(
        self, latency_s: float, compute_s: float, algorithmic_s: float, *, is_live: bool
    ) -> None:
        """A session's first frame of speech was sent.

        Args:
            latency_s: since the audio of its chunk was complete; in real time, since it began.
            compute_s: the time in which the chunk was made and encoded.
            algorithmic_s: how long that audio is.
            is_live: in real time.
        """
        self.first_frame.observe(latency_s)
        left_s = max(latency_s - algorithmic_s, 0.0) if is_live else latency_s
        compute_s = min(compute_s, left_s)
        self.first_frame_part.labels("algorithmic").observe(algorithmic_s)
        self.first_frame_part.labels("compute").observe(compute_s)
        self.first_frame_part.labels("queue").observe(left_s - compute_s)

    def call_ended(self, record: CallRecord) -> None:
        """See `EngineObserver`."""
        self.engine_calls.labels(record.engine, record.outcome).inc()
        self.engine_queue.labels(record.engine).observe(record.queue_s)
        add_queue_time(record.queue_s)
        self.engine_waiting.labels(record.engine).set(record.num_waiting)

    def batch_ended(self, record: BatchRecord) -> None:
        """See `EngineObserver`."""
        self.engine_batch_size.labels(record.engine).observe(record.batch_size)
        self.engine_run.labels(record.engine).observe(record.run_s)
        self.engine_cpu.labels(record.engine).inc(record.cpu_s)

    def attempt_ended(self, endpoint: str, outcome: AttemptOutcome) -> None:
        """See `EngineObserver`."""
        self.triton_attempts.labels(endpoint, outcome).inc()

    def server_admitted(self, endpoint: str) -> None:
        """See `EngineObserver`."""
        self.triton_serving.labels(endpoint).set(1)

    def server_ejected(self, endpoint: str) -> None:
        """See `EngineObserver`."""
        self.triton_serving.labels(endpoint).set(0)
        self.triton_ejections.labels(endpoint).inc()

    def server_gone(self, endpoint: str) -> None:
        """See `EngineObserver`. Addresses come and go: what is not there any more is not kept."""
        for metric in (self.triton_serving, self.triton_ejections, self.triton_attempts):
            metric.remove_by_labels({"endpoint": endpoint})

    def certificate_loaded(self, ok: bool, expiry: datetime) -> None:
        """A TLS certificate was read, or could not be and another stays in use until `expiry`."""
        self.certificate_expiry.set(expiry.timestamp())
        self.certificate_reloads.labels("ok" if ok else "failed").inc()

    def looked_up(self, result: Lookup) -> None:
        """See `IdentityCacheObserver`."""
        self.identity_lookups.labels(result).inc()

    def evicted(self, reason: Eviction) -> None:
        """See `IdentityCacheObserver`."""
        self.identity_evictions.labels(reason).inc()

    def decoder_ended(self, end: DecoderEnd) -> None:
        """See `DecoderObserver`."""
        self.decoder_ends.labels(end).inc()
