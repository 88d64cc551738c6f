"""The `mirrorme-train` command line."""

from __future__ import annotations

from pathlib import Path

import click

from mirrorme_training.footage.prepare_commands import install_mediapipe, prepare
from mirrorme_training.run_commands import paint, run, speech
from mirrorme_training.speech import SpeechError


class _GainType(click.ParamType):
    """NAME=GAIN."""

    name = "gain"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """See `click.ParamType`."""
        control, _, number = value.partition("=")
        try:
            gain = float(number)
        except ValueError:
            gain = 0.0
        if not control or not 0 < gain < float("inf"):
            self.fail(f"{value!r}: want NAME=GAIN, a number above 0", param, ctx)
        return control, gain


@click.group()
def main() -> None:
    """Data and training for MirrorMe."""


@main.command("make-examples")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("examples"),
    show_default=True,
    help="Folder to write to.",
)
def make_examples(output: Path) -> None:
    """Draw the example portraits and speak the example speech."""
    from mirrorme_training.examples import make_portraits, make_speech

    output.mkdir(parents=True, exist_ok=True)
    try:
        for path in [*make_portraits(output), make_speech(output)]:
            click.echo(f"{path}  {path.stat().st_size / 1000:.0f} kB")
    except SpeechError as error:
        raise click.ClickException(str(error)) from error


@main.command("preview")
@click.option("--seed", type=int, default=0, show_default=True, help="Of speech and movement.")
@click.option("--identity", type=int, default=None, help="Seed of the person; drawn if not given.")
@click.option("--seconds", type=click.FloatRange(0.5, 120), default=8.0, show_default=True)
@click.option("--size", type=click.IntRange(64, 1024), default=384, show_default=True)
@click.option("--close-up", is_flag=True, help="Head and shoulders instead of half a body.")
@click.option("--clean", is_flag=True, help="Leave out rooms, noise and lines.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("clip.mp4")
)
def preview(
    seed: int,
    identity: int | None,
    seconds: float,
    size: int,
    close_up: bool,
    clean: bool,
    output: Path,
) -> None:
    """Make one training clip as MP4, to look at."""
    from mirrorme_training.clip_generator import ClipConfig, ClipGenerator
    from mirrorme_training.clip_video import write_clip
    from mirrorme_training.motion_noise import FRAME_RATE
    from mirrorme_training.speech_augment import AugmentConfig

    config = ClipConfig(
        num_frames=max(FRAME_RATE // 2, round(seconds * FRAME_RATE)),
        framing="close_up" if close_up else "half_body",
        idle=0.0,
        augment=None if clean else AugmentConfig(),
    )
    try:
        clip = ClipGenerator(config).make(seed, identity)
    except SpeechError as error:
        raise click.ClickException(str(error)) from error
    write_clip(clip, output, size)
    voice = clip.voice
    by = f"{voice.engine} {voice.name} {voice.variant}" if voice else "silence"
    click.echo(f"{output}: {by}".rstrip())
    for text in clip.texts:
        click.echo(f"  {text}")


@main.command("publish")
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="weights/demo.safetensors is what `make export` takes.",
)
@click.option(
    "--decoder",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint of a stage vae that trained the decoder of the same latents.",
)
@click.option(
    "--control-gain",
    "control_gains",
    type=_GainType(),
    multiple=True,
    metavar="NAME=GAIN",
    help="Take what is asked of a control for so many times as much, where it does less than that; "
    "NAME may be how several begin: eyeBlink=2. Any number of times.",
)
@click.option(
    "--told-gain",
    "told_gains",
    type=_GainType(),
    multiple=True,
    metavar="NAME=GAIN",
    help="As --control-gain, of what the decoder is told, for one that draws less than that.",
)
@click.option(
    "--unguessed",
    multiple=True,
    metavar="NAME",
    help="Tell the decoder of this control only what is asked, else rest, and not what speech lets "
    "guess; NAME as above. Any number of times.",
)
@click.option(
    "--lips",
    type=(click.FloatRange(min=0), click.FloatRange(min=0)),
    metavar="OVERSHOOT CLOSER",
    help="Tell the decoder that lips close further than heard, for one that draws short closings "
    "open: OVERSHOOT times further where they close, and by CLOSER of the mouth's width always. "
    "Else as CHECKPOINT has it.",
)
@click.option(
    "--blend",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint of another run from the same start: the weights become a mean of both.",
)
@click.option(
    "--blend-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Of --blend in the mean.",
)
def publish(
    checkpoint: Path, output: Path, decoder: Path | None,
    control_gains: tuple[tuple[str, float], ...], told_gains: tuple[tuple[str, float], ...],
    unguessed: tuple[str, ...], lips: tuple[float, float] | None,
    blend: Path | None, blend_share: float,
) -> None:  # fmt: skip
    """Write a CHECKPOINT in half precision, as it is shipped."""
    from mirrorme_model.config import LipsConfig
    from mirrorme_model.errors import CheckpointError

    from mirrorme_training.publish import Blend
    from mirrorme_training.publish import publish as write

    closing = None if lips is None else LipsConfig(*lips)
    mixed = None if blend is None else Blend(blend, blend_share)
    try:
        write(
            checkpoint,
            output,
            decoder=decoder,
            control_gains=dict(control_gains),
            told_gains=dict(told_gains),
            unguessed=unguessed,
            lips=closing,
            blend=mixed,
        )
    except (CheckpointError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{output}  {output.stat().st_size / 1e6:.1f} MB")


main.add_command(speech)
main.add_command(paint)
main.add_command(run)
main.add_command(prepare)
main.add_command(install_mediapipe)
