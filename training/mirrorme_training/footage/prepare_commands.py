"""`mirrorme-train prepare` and `mirrorme-train install-mediapipe`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_FRAMINGS = {"both": ("close_up", "half_body"), "close-up": ("close_up",),
             "half-body": ("half_body",)}  # fmt: skip
_PATH = click.Path(path_type=Path)


class ProgressWatch:
    """A bar for each video in work, where there is a terminal; a line for each that is done."""

    def __init__(self, console: Console, num_videos: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._all = self._progress.add_task("all videos", total=num_videos)
        self._bars: dict[Path, TaskID] = {}

    def __enter__(self) -> ProgressWatch:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def begin(self, video: Path) -> None:
        """See `PrepareWatch`."""
        self._bars[video] = self._progress.add_task(video.name, total=1.0)

    def advance(self, video: Path, share: float) -> None:
        """See `PrepareWatch`."""
        self._progress.update(self._bars[video], completed=share)

    def end(self, video: Path, said: str) -> None:
        """See `PrepareWatch`."""
        if video in self._bars:
            self._progress.remove_task(self._bars.pop(video))
        self._progress.advance(self._all)
        self._console.print(f"{video.name}: {said}", markup=False, highlight=False, soft_wrap=True)


@click.command("prepare")
@click.argument("videos", type=_PATH, nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True,
    help="Folder for shards, index and report.html.",
)  # fmt: skip
@click.option(
    "--size", type=int, default=256, show_default=True,
    help="Pixels of a clip's side, a multiple of 32.",
)  # fmt: skip
@click.option(
    "--framing", type=click.Choice(list(_FRAMINGS)), default="both", show_default=True,
    help="Squares around the head and shoulders, around the upper body, or both of each moment.",
)  # fmt: skip
@click.option(
    "--min-seconds", type=float, default=5.5, show_default=True,
    help="Of a clip. Training windows of k latents need (k + 1) / 3 s.",
)  # fmt: skip
@click.option("--max-seconds", type=float, default=12.0, show_default=True)
@click.option("--keep-silent", is_flag=True, help="Keep clips of people who rest in silence, too.")
@click.option(
    "--face-landmarker", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="MediaPipe's face_landmarker.task: measures all blendshapes. Without it: jaw and blinks.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True,
              help="Videos at a time.")  # fmt: skip
@click.option(
    "--mediapipe", type=click.Path(file_okay=False, path_type=Path),
    help="Folder where install-mediapipe put it, if not the default.",
)  # fmt: skip
def prepare(
    videos: tuple[Path, ...], output: Path, size: int, framing: str, min_seconds: float,
    max_seconds: float, keep_silent: bool, face_landmarker: Path | None, workers: int,
    mediapipe: Path | None,
) -> None:  # fmt: skip
    """Turn VIDEOS, files or folders of people who talk, into clips to train on.

    Needs MediaPipe: run `mirrorme-train install-mediapipe` once. Stopped at any time, the same
    command goes on where it was; a finished video is not done again. Look at report.html: it
    shows what was kept, and why the rest was not.
    """
    from mirrorme_training.footage.errors import FootageError
    from mirrorme_training.footage.footage_config import FootageConfig
    from mirrorme_training.footage.mediapipe_install import default_folder, mediapipe_python
    from mirrorme_training.footage.mediapipe_process import MediapipeProcess
    from mirrorme_training.footage.preparation import find_videos
    from mirrorme_training.footage.preparation import prepare as prepare_videos
    from mirrorme_training.footage.report import REPORT_NAME

    try:
        config = FootageConfig(
            size_px=size,
            framings=_FRAMINGS[framing],
            min_s=min_seconds,
            max_s=max_seconds,
            keep_silent=keep_silent,
        )
        python = mediapipe_python(mediapipe or default_folder())
        paths = find_videos(list(videos))
        with ProgressWatch(Console(), len(paths)) as watch:
            stories = prepare_videos(
                paths, output, config, lambda: MediapipeProcess(python, face_landmarker), watch,
                workers,
            )  # fmt: skip
    except FootageError as error:
        raise click.ClickException(str(error)) from error
    num_clips = sum(len(story["clips"]) for story in stories)
    click.echo(f"{num_clips} clips of {len(stories)} videos; see {output / REPORT_NAME}")


@click.command("install-mediapipe")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path),
    help="Where to; by default inside of this environment.",
)  # fmt: skip
@click.option(
    "--python", type=_PATH, default=Path(sys.executable),
    help="Python 3.9 to 3.12 to make it from; by default this one.",
)  # fmt: skip
def install_mediapipe(folder: Path | None, python: Path) -> None:
    """Install MediaPipe for `prepare`, in an environment of its own: it needs an older numpy."""
    from mirrorme_training.footage.errors import FootageError
    from mirrorme_training.footage.mediapipe_install import default_folder, install

    target = folder or default_folder()
    try:
        install(target, python)
    except FootageError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"MediaPipe is in {target}")
