"""What a person, or a program, sees of a recording: progress, warnings, summary."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import Any, Self

import click
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from mirrorme.animate.v1 import animation_pb2 as pb
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mirrorme_client.formats import frame_rate_fps
from mirrorme_client.recording import Recording


class RecordingView:
    """A progress bar on standard error, from connecting to the last frame.

    Without a terminal there is no bar; `quiet` leaves out all but warnings.
    """

    def __init__(self, duration_s: float | None, *, quiet: bool = False) -> None:
        self._duration_s = duration_s
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[frames]}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("connecting", total=None, frames="", speed="")
        self._frame_rate_fps = 24.0
        self._start_s = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def started(self, started: pb.SessionStarted) -> None:
        """The server has accepted the session."""
        self._start_s = time.monotonic()
        self._frame_rate_fps = float(frame_rate_fps(started.timing))
        total = None if self._duration_s is None else self._duration_s * self._frame_rate_fps
        self._progress.update(self._task, description="animating", total=total)
        if not started.model.trained:
            self._console.print(
                Panel(
                    f"The server's [bold]{started.model.preset}[/] model has random weights: it "
                    "was never trained. The video will not look like the portrait speaking.",
                    title="untrained weights",
                    style="yellow",
                    expand=False,
                )
            )

    def advance(self, num_frames: int) -> None:
        """So many frames are written."""
        media_s = num_frames / self._frame_rate_fps
        factor = (time.monotonic() - self._start_s) / media_s if media_s else 0
        self._progress.update(
            self._task,
            completed=num_frames,
            frames=f"{num_frames} frames, {media_s:.1f} s",
            speed=f"real-time factor {factor:.2f}",
        )


def print_summary(recording: Recording) -> None:
    """A table on standard output."""
    model, size = recording.started.model, recording.started.frame_size
    server_latency_s = _seconds(recording.summary.first_frame_latency)
    factor = recording.real_time_factor
    table = Table(show_header=False)
    table.add_row("file", str(recording.path))
    table.add_row("size", f"{recording.num_bytes / 1000:,.0f} kB")
    table.add_row(
        "model", f"{model.preset}, {'trained' if model.trained else '[yellow]random weights[/]'}"
    )
    table.add_row("frames", f"{recording.num_frames} of {size.width_px} x {size.height_px} px")
    table.add_row("duration", f"{recording.duration_s:.2f} s")
    table.add_row(
        "first frame",
        f"after {recording.first_frame_latency_s * 1000:.0f} ms "
        f"({server_latency_s * 1000:.0f} ms in the server)",
    )
    table.add_row("time", f"{recording.wall_s:.2f} s")
    table.add_row("real-time factor", f"{factor:.3f} ({_speed(recording):.1f} times real time)")
    table.add_row("seed", str(recording.started.effective_config.seed))
    Console(highlight=False).print(table)


def print_json(recording: Recording) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(_as_dict(recording), indent=2))


def _as_dict(recording: Recording) -> dict[str, Any]:
    started, model = recording.started, recording.started.model
    return {
        "output": str(recording.path),
        "num_bytes": recording.num_bytes,
        "num_frames": recording.num_frames,
        "duration_s": recording.duration_s,
        "wall_s": recording.wall_s,
        "real_time_factor": recording.real_time_factor,
        "first_frame_latency_ms": 1000 * recording.first_frame_latency_s,
        "width_px": started.frame_size.width_px,
        "height_px": started.frame_size.height_px,
        "frame_rate_fps": float(frame_rate_fps(started.timing)),
        "session_id": started.session_id,
        "portrait_id": started.portrait.portrait_id,
        "seed": started.effective_config.seed,
        "model": MessageToDict(
            model, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        ),
        "server": {
            "num_frames": recording.summary.num_frames,
            "num_chunks": recording.summary.num_chunks,
            "num_audio_samples": recording.summary.num_audio_samples,
            "first_frame_latency_ms": 1000 * _seconds(recording.summary.first_frame_latency),
            "chunk_time_p50_ms": 1000 * _seconds(recording.summary.chunk_time_p50),
            "chunk_time_p99_ms": 1000 * _seconds(recording.summary.chunk_time_p99),
            "session_time_s": _seconds(recording.summary.session_time),
        },
    }


def _speed(recording: Recording) -> float:
    return recording.duration_s / recording.wall_s


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
