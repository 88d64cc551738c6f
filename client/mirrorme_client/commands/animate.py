"""`mirrorme animate`: a portrait and speech in, a video file out."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import click
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.audio_file import AudioFile
from mirrorme_client.commands import async_main
from mirrorme_client.commands.options import (
    FRAME_ENCODINGS,
    PACINGS,
    Connection,
    consent_option,
    crop_mode,
    crop_option,
    json_option,
    server_options,
)
from mirrorme_client.commands.recording_view import RecordingView, print_json, print_summary
from mirrorme_client.contact_sheet import write_contact_sheet
from mirrorme_client.formats import h264, jpeg, pcm_f32le, pcm_s16le
from mirrorme_client.frame_writer import check_free, encodings_for
from mirrorme_client.hand_file import read_hands
from mirrorme_client.pcm_input import PcmInput
from mirrorme_client.portrait import Portrait
from mirrorme_client.recording import Recording, RecordingPlan, record

_STDIN = "-"
_PCM_FORMATS = {"s16le": pcm_s16le, "f32le": pcm_f32le}
_SEED = click.IntRange(0, 2**64 - 1)
_PORTRAIT_ID = re.compile(r"[0-9a-f]{16,}")


@click.command(name="animate")
@click.argument("portrait", callback=lambda ctx, param, value: _portrait(value))
@click.argument(
    "speech", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Video to write: .mp4, .mov or .mkv; or a new folder, or a pattern such as "
    "frames/%05d.jpg, for JPEG frames.",
)
@click.option("-y", "--overwrite", is_flag=True, help="Replace the output if it is there.")
@server_options
@click.option("--preset", default="", help="Preset to animate with. [default: the server's]")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), help="Seed of the noise, to repeat a video."
)
@crop_option
@consent_option
@click.option(
    "--expression", type=float, help="How strongly speech moves the face; 1 is as trained."
)
@click.option("--guidance", type=float, help="Guidance strength.")
@click.option(
    "--control",
    "controls",
    metavar="NAME=VALUE[@WEIGHT]",
    multiple=True,
    callback=lambda ctx, param, values: [_control(value) for value in values],
    help="Facial control to hold throughout, for example head_yaw=10; repeatable. "
    "`mirrorme info` lists the names.",
)
@click.option(
    "--hands",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Hand keypoints a frame, .npz or .json.",
)
@click.option(
    "--encoding",
    type=click.Choice(list(FRAME_ENCODINGS)),
    help="What the server sends. [default: h264 for videos, jpeg for folders]",
)
@click.option("--quality", type=click.IntRange(1, 100), help="JPEG quality.")
@click.option("--bitrate", type=click.IntRange(1), metavar="BPS", help="H.264 bits per second.")
@click.option(
    "--pacing",
    type=click.Choice(list(PACINGS)),
    default="fast",
    show_default=True,
    help="As fast as possible, or on a steady clock with idle motion in the gaps.",
)
@click.option(
    "--audio-format",
    type=click.Choice(list(_PCM_FORMATS)),
    help="Samples of speech from standard input. [default: s16le]",
)
@click.option("--rate", type=click.IntRange(8000, 48000), help="Its sample rate. [default: 16000]")
@click.option("--channels", type=click.IntRange(1, 2), help="Its channels. [default: 1]")
@click.option(
    "--contact-sheet",
    "sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a PNG with frames of the video, too.",
)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
def command(
    portrait: Portrait,
    speech: Path,
    output: Path,
    overwrite: bool,
    connection: Connection,
    preset: str,
    seed: int | None,
    crop: str | None,
    consent_token: str,
    expression: float | None,
    guidance: float | None,
    controls: list[pb.FacialControl],
    hands: Path | None,
    encoding: str | None,
    quality: int | None,
    bitrate: int | None,
    pacing: str,
    audio_format: str | None,
    rate: int | None,
    channels: int | None,
    sheet: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Animate PORTRAIT with SPEECH.

    PORTRAIT is a picture (PNG, JPEG, WebP) or the id that `mirrorme portrait register` printed.
    SPEECH is any audio or video file, or - for raw PCM from standard input, animated while it
    arrives:

        arecord -f S16_LE -r 16000 -t raw | mirrorme animate me.png - -o me.mp4
    """
    if isinstance(portrait, str) and crop is not None:
        raise click.UsageError("--crop goes with a picture: a registered portrait has its crop")
    is_live = str(speech) == _STDIN
    if not is_live and (audio_format or rate or channels):
        raise click.UsageError("--audio-format, --rate and --channels go with SPEECH given as -")
    if sheet is not None and encodings_for(output)[0] != pb.FRAME_ENCODING_H264:
        raise click.UsageError("--contact-sheet goes with a video as output")
    frames = _output_format(output, encoding, quality, bitrate)
    check_free(output, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        if is_live:
            pcm = _PCM_FORMATS[audio_format or "s16le"](rate or 16000, channels or 1)
            source = PcmInput(pcm)
        else:
            source = stack.enter_context(AudioFile(speech))
        view = stack.enter_context(RecordingView(source.duration_s, quiet=quiet))
        plan = RecordingPlan(
            portrait,
            frames,
            crop_mode=crop_mode(crop),
            pacing=PACINGS[pacing],
            seed=seed,
            guidance=guidance,
            expression=expression,
            preset=preset,
            consent_token=consent_token,
            controls=controls,
            hands=read_hands(hands) if hands is not None else (),
            on_started=view.started,
            on_frames=view.advance,
        )

        async def work() -> Recording:
            async with connection.client() as client:
                return await record(client, plan, source, output)

        recording = async_main.run(work())
    if sheet is not None:
        write_contact_sheet(output, sheet)
    if isinstance(source, AudioFile) and source.num_damaged_packets:
        click.echo(f"{source.num_damaged_packets} damaged pieces of {speech} left out", err=True)
    if as_json:
        print_json(recording)
    elif not quiet:
        print_summary(recording)


def _portrait(value: str) -> Portrait:
    """A file if there is one, else an id if it looks like one."""
    path = Path(value)
    if path.is_file():
        return path
    if _PORTRAIT_ID.fullmatch(value):
        return value
    raise click.BadParameter(f"no such file, and not the id of a registered portrait: {value}")


def _control(value: str) -> pb.FacialControl:
    match = re.fullmatch(r"(?P<name>\w+)=(?P<value>[^@]+)(@(?P<weight>.+))?", value)
    try:
        if match is None:
            raise ValueError
        weight = float(match["weight"]) if match["weight"] is not None else None
        return pb.FacialControl(name=match["name"], value=float(match["value"]), weight=weight)
    except ValueError:
        message = f"{value!r}: want NAME=VALUE or NAME=VALUE@WEIGHT, both numbers"
        raise click.BadParameter(message) from None


def _output_format(
    output: Path, encoding: str | None, quality: int | None, bitrate: int | None
) -> pb.OutputFormat:
    """What to ask the server for, so that the output can hold it as it comes."""
    possible = encodings_for(output)
    chosen = FRAME_ENCODINGS[encoding] if encoding is not None else possible[0]
    if chosen not in possible:
        names = [name for name, value in FRAME_ENCODINGS.items() if value in possible]
        raise click.UsageError(f"{output} holds {' or '.join(names)} frames, not {encoding}")
    if chosen == pb.FRAME_ENCODING_JPEG:
        if bitrate is not None:
            raise click.UsageError("--bitrate goes with H.264 frames")
        return jpeg(quality) if quality is not None else jpeg()
    if quality is not None:
        raise click.UsageError("--quality goes with JPEG frames")
    return h264(bitrate or 0)
