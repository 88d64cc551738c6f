"""`make demo`: a real server, a real client, a video.

Starts the gateway with exported engines, waits until it is healthy, animates a bundled portrait
with bundled speech over gRPC, checks the video, and stops the server again.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

EXAMPLES = Path(__file__).parent
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 60
LOG_TAIL_LINES = 40


class DemoFailed(Exception):
    """Something did not work; the message says what."""


@click.command()
@click.option(
    "--engines",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of exported engines.",
)
@click.option("--portrait", type=click.Path(path_type=Path), default=EXAMPLES / "portrait_1.png")
@click.option("--speech", type=click.Path(path_type=Path), default=EXAMPLES / "speech.wav")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("demo.mp4"))
def main(engines: Path, portrait: Path, speech: Path, output: Path) -> None:
    """Animate a bundled portrait with bundled speech, end to end."""
    sheet = output.with_suffix(".png")
    # SIGTERM must not leave the server behind, either.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryFile("w+") as log:
        try:
            with running_server(engines, log) as target:
                click.echo(f"server ready at {target}; animating {portrait} with {speech}")
                result = animate(target, portrait, speech, output, sheet)
            check_video(output, speech)
        except DemoFailed as failure:
            click.echo(f"\n--- the server's last {LOG_TAIL_LINES} lines ---", err=True)
            log.seek(0)
            click.echo("".join(log.readlines()[-LOG_TAIL_LINES:]), err=True)
            click.echo(f"demo failed: {failure}", err=True)
            sys.exit(1)
    print_summary(result, sheet)


@contextlib.contextmanager
def running_server(engines: Path, log: Any) -> Iterator[str]:
    """The gateway in a process of its own; gives its address once it serves.

    Raises:
        DemoFailed: it does not start, or does not stop cleanly.
    """
    port, metrics_port = free_ports(2)
    command = [sys.executable, "-m", "mirrorme_service", "--engines", str(engines)]
    command += ["--port", str(port), "--metrics-port", str(metrics_port)]
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        target = f"127.0.0.1:{port}"
        wait_until_serving(server, target)
        yield target
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT_S)
        if server.returncode is None:
            raise DemoFailed(f"the server did not stop within {STOP_TIMEOUT_S} s of SIGTERM")
        if server.returncode != 0:
            raise DemoFailed(f"the server stopped with exit code {server.returncode}")
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def wait_until_serving(server: subprocess.Popen[bytes], target: str) -> None:
    """Asks the server's health service until it says SERVING."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    with grpc.insecure_channel(target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline_s:
            if server.poll() is not None:
                raise DemoFailed(f"the server ended at its start with code {server.returncode}")
            with contextlib.suppress(grpc.RpcError):
                # Waits for the connection, so this does not spin while the server loads.
                request = health_pb2.HealthCheckRequest()
                answer = health.Check(request, timeout=1.0, wait_for_ready=True)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                time.sleep(0.1)
    raise DemoFailed(f"the server was not healthy within {START_TIMEOUT_S} s")


def animate(target: str, portrait: Path, speech: Path, output: Path, sheet: Path) -> dict[str, Any]:
    """Runs `mirrorme animate`; gives what it reports."""
    command = [sys.executable, "-m", "mirrorme_client", "animate", str(portrait), str(speech)]
    command += ["-o", str(output), "--contact-sheet", str(sheet), "--overwrite", "--json"]
    ended = subprocess.run([*command, "--server", target], stdout=subprocess.PIPE, check=False)
    if ended.returncode != 0:
        raise DemoFailed(f"`mirrorme animate` ended with exit code {ended.returncode}")
    return json.loads(ended.stdout)


def check_video(output: Path, speech: Path) -> None:
    """The video is H.264 and AAC, 24 frames a second, and as long as the speech."""
    with av.open(str(speech)) as container:
        speech_s = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    with av.open(str(output)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        codecs = (video.codec_context.name, audio.codec_context.name)
        if codecs != ("h264", "aac") or video.average_rate != 24:
            raise DemoFailed(f"{output} holds {codecs} at {video.average_rate} frames/s")
        video_s = sum(1 for _ in container.decode(video)) / 24
    if abs(video_s - speech_s) > 1 / 24:
        raise DemoFailed(f"{output} lasts {video_s:.3f} s, the speech {speech_s:.3f} s")


def print_summary(result: dict[str, Any], sheet: Path) -> None:
    """The table at the end."""
    model = result["model"]
    trained = "trained" if model["trained"] else "[yellow]random: a demonstration of the service[/]"
    table = Table(title="MirrorMe demo", title_justify="left", show_header=False)
    table.add_row("model", f"{model['preset']}, {model['engine']}")
    table.add_row("weights", f"{model['weights_sha256'][:12]}, {trained}")
    size = f"{result['width_px']} x {result['height_px']} px"
    table.add_row("frames", f"{result['num_frames']} of {size}, {result['frame_rate_fps']:g}/s")
    table.add_row("duration", f"{result['duration_s']:.2f} s")
    factor = result["real_time_factor"]
    table.add_row("real-time factor", f"{factor:.3f} ({1 / factor:.1f} times real time)")
    server_ms = result["server"]["first_frame_latency_ms"]
    client_ms = result["first_frame_latency_ms"]
    table.add_row("first frame", f"after {client_ms:.0f} ms ({server_ms:.0f} ms in the server)")
    table.add_row("video", f"{result['output']} ({result['num_bytes'] / 1000:.0f} kB)")
    table.add_row("contact sheet", str(sheet))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
