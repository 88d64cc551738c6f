"""The config of a session: checked field by field, defaults filled in. Knows no session."""

from __future__ import annotations

import secrets
from typing import cast

from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.manifest import Manifest

from mirrorme_service import request_validation as check
from mirrorme_service.audio_input import resolve_audio_format
from mirrorme_service.frame_encoder import check_frame_size
from mirrorme_service.output_format import effective_output


def effective_config(config: pb.SessionConfig, manifest: Manifest) -> pb.SessionConfig:
    """The config in force: what was sent, with every default filled in.

    The portrait is left as it was sent. That the server serves the fields was checked before.

    Raises:
        InvalidRequest: the first field that is wrong, in the order of the contract.
        NotServed: a strength that the model has not.
    """
    check_portrait_source("config.portrait", config)
    if not config.HasField("audio_format"):
        expected = "encoding and sample_rate_hz of the audio that follows"
        raise check.missing("config.audio_format", expected)
    result = pb.SessionConfig()
    result.CopyFrom(config)
    audio_format = resolve_audio_format(config.audio_format, field="config.audio_format")
    result.audio_format.CopyFrom(audio_format)
    output = effective_output("config.output", config.output)
    video = manifest.video
    check_frame_size(output.encoding, video.width_px, video.height_px, field="config.output")
    result.output.CopyFrom(output)
    fast = pb.PACING_AS_FAST_AS_POSSIBLE
    pacing = check.check_enum("config.pacing", config.pacing, pb.Pacing, fast)
    result.pacing = cast(pb.Pacing, pacing)
    if not config.HasField("seed"):
        result.seed = secrets.randbits(64)
    for name in ("guidance", "expression"):
        range_ = getattr(manifest, name)
        if config.HasField(name) and range_ is not None:
            check.check_number(f"config.{name}", getattr(config, name), range_)
        elif range_ is not None:
            setattr(result, name, range_.default)
    result.preset = check.check_preset("config.preset", config.preset, manifest)
    check.check_client_reference("config.client_reference", config.client_reference)
    return result


def check_portrait_source(field: str, holder: pb.SessionConfig | pb.ChangePortrait) -> None:
    """Refuses a portrait without a source, and a crop of a portrait that has one already."""
    source = holder.portrait
    kind = source.WhichOneof("source") if holder.HasField("portrait") else None
    if kind is None:
        raise check.missing(field, "image or portrait_id")
    check.check_crop_mode(f"{field}.crop_mode", source.crop_mode)
    if kind == "portrait_id" and source.crop_mode != pb.CROP_MODE_UNSPECIFIED:
        reason = "is set together with portrait_id, whose crop is fixed: leave one of them out"
        raise check.conflict(f"{field}.crop_mode", reason)
