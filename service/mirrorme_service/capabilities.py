"""What the server offers, as GetCapabilities says it: manifest, limits and one table."""

from __future__ import annotations

from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.manifest import RangeSpec

from mirrorme_service import audio_input
from mirrorme_service.config import ServiceConfig
from mirrorme_service.model import Model
from mirrorme_service.served_fields import unserved_fields
from mirrorme_service.session_counts import as_duration


def capabilities(
    model: Model, config: ServiceConfig, service_version: str
) -> pb.GetCapabilitiesResponse:
    """Everything that a client may want to know before it opens a session."""
    manifest = model.manifest
    unserved = unserved_fields(manifest, consent=config.consent_keys is not None)
    preset = pb.PresetCapabilities(
        model=model.version(service_version),
        frame_size=model.frame_size(),
        timing=model.timing(),
        algorithmic_latency_ms=manifest.algorithmic_latency_ms,
        controls=[
            pb.ControlInfo(name=control.name, unit=control.unit, range=_range(control.range))
            for control in manifest.controls
        ],
        hands=manifest.hands,
        guidance=manifest.guidance and _range(manifest.guidance),
        expression=manifest.expression and _range(manifest.expression),
    )
    return pb.GetCapabilitiesResponse(
        presets=[preset],
        limits=_limits(config),
        encodings=pb.FrameEncoding.keys()[1:],
        audio_encodings=audio_input.ENCODINGS,
        pacings=pb.Pacing.keys()[1:],
        crop_modes=pb.CropMode.keys()[1:],
        unimplemented_fields=[str(field) for field in unserved],
        service_version=service_version,
    )


def _limits(config: ServiceConfig) -> pb.Limits:
    return pb.Limits(
        max_sessions=config.max_sessions,
        max_portrait_bytes=config.max_portrait_bytes,
        max_portrait_pixels=config.max_portrait_pixels,
        max_message_bytes=config.max_message_bytes,
        max_buffered_audio=as_duration(config.max_buffered_audio_s),
        max_session_length=as_duration(config.max_session_s),
        max_idle_time=as_duration(config.max_idle_s),
        min_sample_rate_hz=audio_input.MIN_SAMPLE_RATE_HZ,
        max_sample_rate_hz=audio_input.MAX_SAMPLE_RATE_HZ,
        portrait_ttl=as_duration(config.portrait_ttl_s),
        max_audio_ahead=as_duration(config.max_audio_ahead_s),
        max_stall=as_duration(config.max_stall_s),
        max_requests_per_second=config.max_requests_per_s,
    )


def _range(spec: RangeSpec) -> pb.FloatRange:
    return pb.FloatRange(min=spec.min, max=spec.max, default=spec.default)
