"""`mirrorme-export onnx`: a preset's model to ONNX engines, manifest and parity report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from mirrorme_export.calibration_folder import calibration_folder

if TYPE_CHECKING:
    from mirrorme_model.avatar import AvatarModel
    from mirrorme_model.model_weights import ModelWeights

    from mirrorme_export.step_printer import StepPrinter
    from mirrorme_export.weights import PublishedFiles, Shape

PRESETS = ("tiny", "demo", "ltx-2b")
CPU_PRECISIONS = ("fp32", "int8")
WEIGHTS = Path("weights")


@click.command("onnx", context_settings={"show_default": True})
@click.argument("preset", type=click.Choice(PRESETS))
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Weights to export.  [default: weights/PRESET.safetensors if that is there, else random; "
    "ltx-2b is random only if asked for]",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    help="ltx-2b: LTX-Video 2B, 0.9.5 to 0.9.8: a safetensors file, or a diffusers folder.",
)
@click.option(
    "--wav2vec2",
    type=click.Path(path_type=Path),
    help="ltx-2b: a Hugging Face wav2vec2 folder, base or large.",
)
@click.option(
    "--adapter",
    type=click.Path(path_type=Path),
    help="ltx-2b: adapters from this project's training, a checkpoint without the base.",
)
@click.option(
    "--no-adapter",
    is_flag=True,
    help="ltx-2b: no --adapter: the base moves as it likes and hears nothing.",
)
@click.option(
    "--text-embedding",
    type=click.Path(path_type=Path),
    help="ltx-2b: T5 embedding of a caption, [tokens, 4096], in safetensors or .npy, baked in.  "
    "[default: the adapter's, else zeros]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("engines/repository"),
    help="Folder of engine repositories; PRESET's folder in it is written or replaced.",
)
@click.option("--random", is_flag=True, help="Random weights, even if a checkpoint is there.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of random weights.")
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    help="Frame size in pixels, multiples of 32.  [default: the checkpoint's]",
)
@click.option(
    "--chunk-latents",
    type=click.IntRange(1),
    help="Latent frames (8 frames each) that one call makes.  [default: the checkpoint's]",
)
@click.option(
    "--also-steps",
    type=click.IntRange(1),
    multiple=True,
    help="Also export a cheaper denoiser of so many steps. May be given again.",
)
@click.option(
    "--cpu-precision",
    type=click.Choice(CPU_PRECISIONS),
    help="int8: also a decoder in 8 bits, which CPUs run instead.  "
    "[default: int8 for demo where examples/ is, else fp32]",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="For int8: portraits (png, jpg) and speech (16 kHz mono WAV).  [default: examples/]",
)
@click.option(
    "--no-compare",
    is_flag=True,
    help="Do not compare engines with torch, which takes ltx-2b many minutes; parity.json says so.",
)
@click.option(
    "--max-batch-size", type=click.IntRange(1), default=8, help="Calls that may share a run."
)
def onnx_command(
    preset: str,
    checkpoint: Path | None,
    base: Path | None,
    wav2vec2: Path | None,
    adapter: Path | None,
    no_adapter: bool,
    text_embedding: Path | None,
    output: Path,
    random: bool,
    seed: int,
    size: str | None,
    chunk_latents: int | None,
    also_steps: tuple[int, ...],
    cpu_precision: str | None,
    calibration: Path | None,
    no_compare: bool,
    max_batch_size: int,
) -> None:
    """Export PRESET's model from torch to the ONNX engines that the gateway runs.

    Writes OUTPUT/PRESET: an ONNX file for each engine, manifest.json, which tells the gateway all
    it knows of the model, and parity.json, which compares each engine with torch at several batch
    sizes. If an engine is off, the export fails and what was there before stays.

    \b
    Examples:
      mirrorme-export onnx demo
      mirrorme-export onnx tiny --random --seed 7 --output /tmp/engines
      mirrorme-export onnx ltx-2b --base ltxv-2b-0.9.8-distilled.safetensors \\
        --wav2vec2 wav2vec2-base-960h --adapter adapter.safetensors --size 768x512
    """
    # torch takes seconds to import: not for --help or a wrong option.
    from mirrorme_model.errors import ModelError

    from mirrorme_export.console import engine_table, int8_line, parity_table
    from mirrorme_export.errors import ExportError, ParityError
    from mirrorme_export.exporter import export_model
    from mirrorme_export.parity import measure_parity
    from mirrorme_export.step_printer import StepPrinter
    from mirrorme_export.weights import PublishedFiles, Shape

    console = Console(stderr=True)
    step = StepPrinter(console)
    files = PublishedFiles(base, wav2vec2, adapter, no_adapter, text_embedding)
    if sum((checkpoint is not None, random, files.given)) > 1:
        raise click.UsageError(
            "--checkpoint, --random and published weights (--base and the like) exclude each other."
        )
    if adapter and no_adapter:
        raise click.UsageError("--adapter and --no-adapter exclude each other.")
    default = WEIGHTS / f"{preset}.safetensors"
    if not (checkpoint or random or files.given) and default.exists():
        checkpoint = default
    try:
        shape = Shape(*_parse_size(size), chunk_latents)
        model, trained = _open_model(preset, shape, checkpoint, files, random, seed, step)
        export = export_model(
            model,
            output / preset,
            trained=trained,
            step=step,
            max_batch_size=max_batch_size,
            other_steps=also_steps,
            measure=None if no_compare else measure_parity,
            calibration=_calibration(preset, cpu_precision, calibration, console),
        )
    except ParityError as error:
        console.print(parity_table(error.report))
        raise click.ClickException(str(error)) from error
    except (ExportError, ModelError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if export.parity.rows:
        console.print(parity_table(export.parity))
    console.print(engine_table(export))
    if export.parity.int8:
        console.print(int8_line(export.parity.int8))
    if not trained:
        told = (
            "There is no trained adapter: these engines do not follow speech."
            if files.given
            else "The weights are random: these engines animate noise."
        )
        console.print(
            f"[bold yellow]{told} They are for development only (manifest: trained is false).[/]"
        )
    if files.given and not (adapter or text_embedding):
        console.print(
            "[yellow]The text that the base attends to is 32 vectors of zeros, which it was never "
            "trained on: --text-embedding gives it a caption.[/]"
        )


def _open_model(
    preset: str,
    shape: Shape,
    checkpoint: Path | None,
    files: PublishedFiles,
    random: bool,
    seed: int,
    step: StepPrinter,
) -> tuple[AvatarModel | ModelWeights, bool]:
    """The model, and whether it was trained."""
    from mirrorme_model.presets import preset as preset_config

    from mirrorme_export import weights

    large = weights.is_large(preset_config(preset))
    if checkpoint:
        with step(f"load {checkpoint}"):
            if large:
                opened = weights.large_checkpoint_model(preset, shape, checkpoint)
                return opened, opened.trained
            return weights.checkpoint_model(preset, shape, checkpoint)
    if files.given or (weights.wants_published_weights(preset) and not random):
        with step("check published weights"):
            opened = weights.published_weights(preset, shape, files)
            return opened, opened.trained
    with step(f"make random weights, seed {seed}"):
        if large:
            return weights.large_random_model(preset, shape, seed), False
        return weights.random_model(preset, shape, seed), False


def _calibration(
    preset: str, cpu_precision: str | None, folder: Path | None, console: Console
) -> Path | None:
    """What the decoder is quantised with; None: it is not, which is said where it would be but for
    want of examples."""
    given = calibration_folder(folder)
    match cpu_precision:
        case "int8" if given is None:
            raise click.UsageError(
                "--cpu-precision int8 wants portraits and speech: say --calibration FOLDER"
            )
        case "fp32" if folder is not None:
            raise click.UsageError("--calibration is for --cpu-precision int8.")
        case "int8":
            return given
        case None if preset == "demo" or folder is not None:
            if given is None:
                console.print(
                    "[yellow]The decoder is in 32 bits alone, for want of portraits and speech: "
                    "--calibration FOLDER, or examples/ in the working folder, gives CPUs one in "
                    "8 bits.[/]"
                )
            return given
    return None


def _parse_size(size: str | None) -> tuple[int | None, int | None]:
    if size is None:
        return None, None
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{size!r}: want WIDTHxHEIGHT, like 768x512.", param_hint="--size")
    return int(width), int(height)
