"""Pictures are decoded elsewhere: same pixels, bounds that hold, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.errors import InvalidRequest
from mirrorme_service.face_detector import Face
from mirrorme_service.metrics import Metrics
from mirrorme_service.picture import Picture
from mirrorme_service.picture_decoders import DecoderObserver, PictureDecoders
from mirrorme_service.picture_file import decode_picture
from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.picture_process import DecoderBounds, DecoderEnd, DecoderEnded
from mirrorme_service.picture_refusal import PictureRefused
from mirrorme_service.portrait import PortraitReader
from PIL import Image

from tests.service.gateway import (
    SECOND,
    NoFaces,
    Refusal,
    animate,
    audio,
    config,
    portrait_png,
    refusal,
    running_gateway,
    speech,
)

LIMITS = PictureLimits()
MIB = 1 << 20


class Ends(DecoderObserver):
    """Remembers them."""

    def __init__(self) -> None:
        self.ends: list[DecoderEnd] = []

    def decoder_ended(self, end: DecoderEnd) -> None:
        self.ends.append(end)


def large_picture() -> bytes:
    """36 million pixels in a small file, which are accepted; they fill 144 MB."""
    file = io.BytesIO()
    Image.new("RGB", (6000, 6000), (200, 120, 90)).save(file, "PNG", compress_level=1)
    return file.getvalue()


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
def decoders(ends: Ends) -> Iterator[PictureDecoders]:
    decoders = PictureDecoders(observer=ends)
    yield decoders
    decoders.close()
    assert not decoders.pids


def bounded(ends: Ends, **bounds: float) -> PictureDecoders:
    return PictureDecoders(DecoderBounds(**bounds), ends)  # pyright: ignore[reportArgumentType]


def decode(decoders: PictureDecoders, file: bytes) -> tuple[int, int]:
    with decoders.opened(file, LIMITS) as picture:
        return picture.size


# What it gives


@pytest.mark.parametrize("box", [None, (10.5, 0.25, 300.75, 299.0)])
def test_the_pixels_are_those_of_this_process(
    decoders: PictureDecoders, box: tuple[float, float, float, float] | None
) -> None:
    file = portrait_png(3, (400, 300))
    wanted = decode_picture(file).resize((96, 64), Image.Resampling.LANCZOS, box, 3.0)
    with decoders.opened(file, LIMITS) as picture:
        assert (picture.size, picture.width, picture.height) == ((400, 300), 400, 300)
        got = picture.resize((96, 64), Image.Resampling.LANCZOS, box, 3.0)
    assert np.array_equal(np.asarray(got), np.asarray(wanted))


def test_refusals_come_through(decoders: PictureDecoders, ends: Ends) -> None:
    with pytest.raises(PictureRefused) as here:
        decode_picture(portrait_png(), PictureLimits(max_pixels=10))
    few = PictureLimits(max_pixels=10)
    with pytest.raises(PictureRefused) as there, decoders.opened(portrait_png(), few):
        pass
    assert vars(there.value) == vars(here.value)
    assert decode(decoders, portrait_png()) == (64, 64)
    assert ends.ends == []


def test_one_process_serves_pictures_in_turn_and_two_at_once(decoders: PictureDecoders) -> None:
    assert decoders.pids == []
    decode(decoders, portrait_png(1))
    decode(decoders, portrait_png(2))
    assert len(decoders.pids) == 1
    with decoders.opened(portrait_png(1), LIMITS), decoders.opened(portrait_png(2), LIMITS):
        assert len(decoders.pids) == 2


def test_it_is_small_and_gives_a_large_picture_back(decoders: PictureDecoders) -> None:
    decode(decoders, portrait_png())
    process = psutil.Process(decoders.pids[0])
    assert process.memory_info().rss < 40 * MIB
    decode(decoders, large_picture())
    decode(decoders, portrait_png())
    assert process.memory_info().rss < 60 * MIB


def test_it_has_nothing_of_the_gateway(decoders: PictureDecoders) -> None:
    """No connection, no file but its socket; where memory runs out it goes first."""
    decode(decoders, portrait_png())
    (pid,) = decoders.pids
    folder = Path(f"/proc/{pid}")
    links = [str(file.readlink()) for file in (folder / "fd").iterdir()]
    assert len([link for link in links if link.startswith("socket:")]) == 1
    assert (folder / "oom_score_adj").read_text().strip() == "1000"
    modules = subprocess.run(
        [sys.executable, "-c", "import sys, mirrorme_service.picture_worker; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"grpc", "numpy", "onnxruntime", "google.protobuf"} & set(modules)


# Bounds


def test_a_picture_that_takes_too_long_is_given_up(ends: Ends) -> None:
    decoders = bounded(ends, max_time_s=0.05)
    with pytest.raises(DecoderEnded) as caught:
        decode(decoders, large_picture())
    assert (caught.value.end, ends.ends) == ("timeout", ["timeout"])
    assert decoders.pids == []


def test_a_picture_that_takes_too_much_work_is_ended_by_the_kernel(ends: Ends) -> None:
    decoders = bounded(ends, max_cpu_s=1, max_time_s=300)
    opened = decoders.opened(large_picture(), LIMITS)
    with pytest.raises(DecoderEnded, match="more than 1 s of") as caught, opened as picture:
        while True:
            picture.resize((1000, 1000), Image.Resampling.LANCZOS)
    assert (caught.value.end, ends.ends) == ("cpu", ["cpu"])
    assert decode(decoders, portrait_png()) == (64, 64)
    decoders.close()


def test_a_picture_that_takes_too_much_memory_is_given_up(ends: Ends) -> None:
    decoders = bounded(ends, max_memory_bytes=128 * MIB)
    with pytest.raises(DecoderEnded, match="more than 128 MiB") as caught:
        decode(decoders, large_picture())
    assert (caught.value.end, ends.ends) == ("memory", ["memory"])
    assert decode(decoders, portrait_png()) == (64, 64)
    decoders.close()


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "CMYK", "P"])
def test_all_that_is_accepted_fits_into_the_memory(ends: Ends, mode: str) -> None:
    """Smaller ones than by default, and as much less memory for them."""
    side = 1600
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"transparency": 0} if mode == "P" else {}
    file = io.BytesIO()
    image = Image.new("RGB", (side, side), (200, 120, 90))
    image = Image.new("I;16", image.size, 9000) if mode == "I;16" else image.convert(mode)
    image.save(file, "JPEG" if mode == "CMYK" else "PNG", exif=exif, **options)
    decoders = PictureDecoders(DecoderBounds.of_pixels(side * side), ends)
    assert decode(decoders, file.getvalue()) == (side, side)
    decoders.close()


def test_it_can_write_nothing(decoders: PictureDecoders) -> None:
    decode(decoders, portrait_png())
    limits = psutil.Process(decoders.pids[0]).rlimit
    assert limits(psutil.RLIMIT_FSIZE) == limits(psutil.RLIMIT_CORE) == (0, 0)
    assert limits(psutil.RLIMIT_AS) == (1024 * MIB,) * 2


# Ends


def test_killed_while_it_waits_it_is_replaced(decoders: PictureDecoders, ends: Ends) -> None:
    decode(decoders, portrait_png())
    (pid,) = decoders.pids
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)], timeout=0.2)
    assert decode(decoders, portrait_png()) == (64, 64)
    assert ends.ends == []
    assert decoders.pids != [pid]


def test_killed_at_work_it_fails_that_picture_alone(decoders: PictureDecoders, ends: Ends) -> None:
    with decoders.opened(portrait_png(1), LIMITS) as other:
        before = set(decoders.pids)
        opened = decoders.opened(portrait_png(2), LIMITS)
        with pytest.raises(DecoderEnded) as caught, opened as picture:
            (pid,) = set(decoders.pids) - before
            os.kill(pid, signal.SIGKILL)
            picture.resize((32, 32))
        assert other.resize((32, 32)).size == (32, 32)
    assert (caught.value.end, ends.ends) == ("died", ["died"])
    assert len(decoders.pids) == 1


def test_stopped_at_work_it_is_killed(ends: Ends) -> None:
    decoders = bounded(ends, max_time_s=2.0)
    opened = decoders.opened(portrait_png(), LIMITS)
    with pytest.raises(DecoderEnded) as caught, opened as picture:
        os.kill(decoders.pids[0], signal.SIGSTOP)
        picture.resize((32, 32))
    assert caught.value.end == "timeout"
    decoders.close()


HOSTILE_ANSWERS = (
    "gateway.send_bytes(b'{')",
    "gateway.send_bytes(b'[' * 60000)",
    "gateway.send_bytes(b'[]')",
    """gateway.send_bytes(b'{"size": [-5, 3]}')""",
    """gateway.send_bytes(b'{"size": [100000, 100000]}')""",
    """gateway.send_bytes(b'{"refused": 7}')""",
    "gateway.send_bytes(b'x' * 100000)",
    "gateway.send('an object')",
    """gateway.send_bytes(b'{"size": [64, 64]}'); gateway.send_bytes(b'{}'); """
    "gateway.send_bytes(b'pixels')",
    """gateway.send_bytes(b'{"size": [64, 64]}'); gateway.send_bytes(b'{}'); """
    "gateway.send_bytes(bytes(1 << 20))",
    "gateway.close()",
)


@pytest.mark.parametrize("answer", HOSTILE_ANSWERS)
def test_what_it_answers_is_not_believed(
    decoders: PictureDecoders, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    program = "import sys, time\nfrom multiprocessing.connection import Connection\n"
    program += f"gateway = Connection(int(sys.argv[1]))\n{answer}\ntime.sleep(60)"
    monkeypatch.setattr("mirrorme_service.picture_process._PROGRAM", ("-S", "-c", program))
    opened = decoders.opened(portrait_png(), LIMITS)
    with pytest.raises(DecoderEnded) as caught, opened as picture:
        picture.resize((32, 32))
    assert caught.value.end == "died"
    assert decoders.pids == []


def test_closing_ends_what_is_at_work() -> None:
    decoders = PictureDecoders()
    decode(decoders, portrait_png())
    (pid,) = decoders.pids
    with pytest.raises(DecoderEnded), decoders.opened(portrait_png(), LIMITS) as picture:
        decoders.close()
        picture.resize((32, 32))
    assert not psutil.pid_exists(pid)
    assert decoders.pids == []


def test_it_ends_with_its_gateway() -> None:
    program = (
        "import sys, time\nfrom mirrorme_service.picture_decoders import PictureDecoders\n"
        "from mirrorme_service.picture_format import PictureLimits\n"
        "decoders = PictureDecoders()\n"
        "with decoders.opened(sys.stdin.buffer.read(), PictureLimits()): pass\n"
        "print(*decoders.pids, flush=True)\ntime.sleep(600)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as gateway:
        assert gateway.stdin
        assert gateway.stdout
        gateway.stdin.write(portrait_png())
        gateway.stdin.close()
        worker = psutil.Process(int(gateway.stdout.readline()))
        assert worker.is_running()
        gateway.kill()
    gone, _ = psutil.wait_procs([worker], timeout=30)
    assert gone or worker.status() == psutil.STATUS_ZOMBIE


# For clients


class Saboteur:
    """Looks for faces, and meanwhile does something to the process that has the picture."""

    def __init__(self, decoders: PictureDecoders, number: signal.Signals) -> None:
        self._decoders = decoders
        self._number = number

    def detect(self, _picture: Picture) -> list[Face]:
        (pid,) = self._decoders.pids
        os.kill(pid, self._number)
        return [Face(20, 10, 50, 54, 0.9)]


async def refused(file: bytes, decoders: PictureDecoders, harm: signal.Signals) -> Refusal:
    """What the client of this picture is told, while a session beside it goes on."""
    async with running_gateway(face_finder=Saboteur(decoders, harm), decoders=decoders) as gateway:
        good = [config(), *(audio(speech(SECOND // 4, seed=i)) for i in range(8))]
        alone = await animate(gateway.stub, good)
        portrait = pb.PortraitSource(image=file, crop_mode=pb.CROP_MODE_FACE)
        bad = [config(portrait=portrait)]
        beside, told = await asyncio.gather(animate(gateway.stub, good), refusal(gateway.stub, bad))
        assert beside.pixels == alone.pixels
        other = pb.PortraitSource(image=portrait_png(8), crop_mode=pb.CROP_MODE_PAD)
        assert (await animate(gateway.stub, [config(portrait=other)])).summary
    assert told.field == "config.portrait.image"
    return told


async def test_a_client_is_told_that_its_picture_took_too_long(ends: Ends) -> None:
    decoders = bounded(ends, max_time_s=4.0)
    told = await refused(portrait_png(7), decoders, signal.SIGSTOP)
    assert (told.status, told.reason) == ("DEADLINE_EXCEEDED", "PORTRAIT_TIMED_OUT")
    assert told.retry_delay_s is not None
    assert ends.ends == ["timeout"]
    decoders.close()


async def test_a_client_is_told_that_its_picture_takes_too_much(ends: Ends) -> None:
    decoders = bounded(ends, max_memory_bytes=128 * MIB)
    told = await refused(large_picture(), decoders, signal.SIGCONT)
    assert (told.status, told.reason) == ("INVALID_ARGUMENT", "PORTRAIT_TOO_COSTLY")
    assert "128 MiB" in told.message
    assert told.retry_delay_s is None
    decoders.close()


async def test_a_client_is_told_that_the_decoder_died(ends: Ends) -> None:
    decoders = PictureDecoders(observer=ends)
    told = await refused(portrait_png(7), decoders, signal.SIGKILL)
    assert (told.status, told.reason) == ("INTERNAL", "PORTRAIT_DECODER_DIED")
    assert ends.ends == ["died"]
    decoders.close()


async def test_a_gateway_counts_and_logs_what_ends(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    decoders = PictureDecoders(DecoderBounds(max_memory_bytes=128 * MIB), metrics)
    reader = PortraitReader(64, 64, NoFaces(), decoders)
    with pytest.raises(InvalidRequest):
        await reader.read(large_picture(), pb.CROP_MODE_CENTER, field="image")
    name, labels = "mirrorme_portrait_decoder_ends_total", {"reason": "memory"}
    assert metrics.registry.get_sample_value(name, labels) == 1
    assert "a decoder of portraits is replaced: it takes more than 128 MiB" in caplog.text
    reader.close()
    decoders.close()
