"""`mirrorme info`: what a server offers, as tables or JSON."""

from __future__ import annotations

import click
from google.protobuf.duration_pb2 import Duration
from mirrorme.animate.v1 import animation_pb2 as pb
from rich.console import Console
from rich.table import Table

from mirrorme_client.commands import async_main
from mirrorme_client.commands.options import Connection, json_option, json_text, server_options
from mirrorme_client.formats import frame_rate_fps


@click.command(name="info")
@server_options
@json_option
def command(connection: Connection, as_json: bool) -> None:
    """Show what the server animates with, and its limits."""

    async def call() -> pb.GetCapabilitiesResponse:
        async with connection.client() as client:
            return await client.capabilities()

    capabilities = async_main.run(call())
    if as_json:
        click.echo(json_text(capabilities))
        return
    console = Console(highlight=False)
    console.print(f"MirrorMe [bold]{capabilities.service_version}[/] at {connection.server}")
    for preset in capabilities.presets:
        console.print(_preset_table(preset))
        if preset.controls:
            console.print(_controls_table(preset))
    console.print(_server_table(capabilities))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=bool(columns))
    for column in columns or ("", ""):
        table.add_column(column)
    return table


def _preset_table(preset: pb.PresetCapabilities) -> Table:
    table = _table(f"Preset {preset.model.preset}")
    trained = "trained" if preset.model.trained else "[bold yellow]random, for development only[/]"
    table.add_row("weights", f"{preset.model.weights_sha256[:16]} ({trained})")
    table.add_row("engines", preset.model.engine)
    rate = float(frame_rate_fps(preset.timing)) if preset.timing.frame_rate_denominator else 0
    size = preset.frame_size
    table.add_row("video", f"{size.width_px} x {size.height_px} px, {rate:g} frames/s")
    table.add_row("latency", f"{preset.algorithmic_latency_ms:.0f} ms algorithmic")
    table.add_row("hands", "served" if preset.hands else "not served")
    for name in ("guidance", "expression"):
        served = preset.HasField(name)
        table.add_row(name, _range(getattr(preset, name)) if served else "not served")
    return table


def _controls_table(preset: pb.PresetCapabilities) -> Table:
    table = _table(f"Facial controls of {preset.model.preset}", "name", "range", "unit")
    for control in preset.controls:
        table.add_row(control.name, _range(control.range), control.unit)
    return table


def _server_table(capabilities: pb.GetCapabilitiesResponse) -> Table:
    limits = capabilities.limits
    table = _table("Server")
    table.add_row("sessions at once", str(limits.max_sessions))
    table.add_row(
        "audio",
        f"{limits.min_sample_rate_hz}-{limits.max_sample_rate_hz} Hz, "
        + _names(pb.AudioEncoding, capabilities.audio_encodings, "AUDIO_ENCODING_"),
    )
    table.add_row("frames", _names(pb.FrameEncoding, capabilities.encodings, "FRAME_ENCODING_"))
    table.add_row("pacing", _names(pb.Pacing, capabilities.pacings, "PACING_"))
    table.add_row("crop", _names(pb.CropMode, capabilities.crop_modes, "CROP_MODE_"))
    table.add_row(
        "portrait", f"{_size(limits.max_portrait_bytes)}, {limits.max_portrait_pixels:,} pixels"
    )
    table.add_row("one message", _size(limits.max_message_bytes))
    table.add_row("audio that may wait", _time(limits.max_buffered_audio))
    table.add_row("session", _time(limits.max_session_length))
    table.add_row("silence of a client", _time(limits.max_idle_time))
    table.add_row("unused portrait kept", _time(limits.portrait_ttl))
    table.add_row("not served", ", ".join(capabilities.unimplemented_fields) or "-")
    return table


def _names(enum: type, values: object, prefix: str) -> str:
    names = [enum.Name(value) for value in values]  # type: ignore[attr-defined]
    return ", ".join(name.removeprefix(prefix).lower().replace("_", "-") for name in names)


def _range(range_: pb.FloatRange) -> str:
    return f"{range_.min:g} to {range_.max:g}, default {range_.default:g}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:g} MiB"


def _time(duration: Duration) -> str:
    return f"{duration.ToMilliseconds() / 1000:g} s"
