"""A process that decodes pictures, seen from the gateway: `picture_worker` is the other side.

It is killed when it is over its time. What it answers is not believed: it may be a hostile file's
by then. So answers are JSON and pixels of a known number, and nothing of them is unpickled.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from PIL import Image

from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.picture_refusal import PictureRefused

DecoderEnd = Literal["cpu", "memory", "timeout", "died"]
"""Why a process had to be replaced: over its processor time, its memory, its time; or by itself."""

_PROGRAM = ("-P", "-m", "mirrorme_service.picture_worker")
_MAX_ANSWER_BYTES = 64 << 10
_MIB = 1 << 20
# The program itself, and what a picture takes at most: copies of it in several colour models.
_BASE_BYTES = 128 * _MIB
_BYTES_PER_PIXEL = 24


@dataclass(frozen=True)
class DecoderBounds:
    """What decoding one picture may take."""

    max_cpu_s: int = 10
    max_time_s: float = 20.0
    """On the clock, with finding the face."""
    max_memory_bytes: int = 1024 * _MIB
    """Address space of the process."""

    @classmethod
    def of_pixels(cls, max_pixels: int) -> DecoderBounds:
        """With memory for pictures of so many pixels."""
        return cls(max_memory_bytes=_BASE_BYTES + _BYTES_PER_PIXEL * max_pixels)


class DecoderEnded(Exception):
    """The process is gone, and the picture with it."""

    def __init__(self, end: DecoderEnd, message: str) -> None:
        super().__init__(message)
        self.end: DecoderEnd = end


class PictureProcess:
    """One process, from its start to `close`; one picture at a time, for one thread at a time.

    Apart from the gateway: no connection is inherited, and Ctrl-C at a terminal is not its own.
    """

    def __init__(self, bounds: DecoderBounds) -> None:
        self._bounds = bounds
        self._is_overdue = False
        self._socket, theirs = multiprocessing.Pipe()
        with theirs:
            numbers = (theirs.fileno(), bounds.max_memory_bytes, bounds.max_cpu_s)
            self._process = subprocess.Popen(
                [sys.executable, *_PROGRAM, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it waits for a picture, or works on one."""
        return self._process.poll() is None

    @contextmanager
    def opened(self, file: bytes, limits: PictureLimits) -> Iterator[RemotePicture]:
        """Decodes a file; its picture is there inside.

        Raises:
            PictureRefused: as `decode_picture` says.
            DecoderEnded: the process was over its bounds, or ended by itself; here or inside.
        """
        timer = threading.Timer(self._bounds.max_time_s, self._kill_overdue)
        timer.start()
        try:
            yield self._open(file, limits)
        finally:
            with suppress(OSError):  # it is gone
                self._send(do="close")
            timer.cancel()
            timer.join()

    def pixels(self, size: tuple[int, int], **request: Any) -> bytes:
        """RGB of the open picture in another size.

        Raises:
            DecoderEnded: as `opened` says.
        """
        num_bytes = size[0] * size[1] * 3
        self._ask(do="resize", size=size, **request)
        try:
            pixels = self._socket.recv_bytes(num_bytes)
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if len(pixels) != num_bytes:
            raise self._broken(f"{len(pixels)} bytes of pixels")
        return pixels

    def end(self) -> None:
        """Kills it. Idempotent; for any thread."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kills it and lets go of it. Idempotent."""
        self.end()
        self._socket.close()

    def _open(self, file: bytes, limits: PictureLimits) -> RemotePicture:
        match self._ask(file, do="open", **asdict(limits)):
            case {"size": [int(width), int(height)]} if (
                min(width, height) > 0 and width * height <= limits.max_pixels
            ):
                return RemotePicture(self, width, height)
            case answer:
                raise self._broken(f"{answer}")

    def _ask(self, file: bytes | None = None, **request: Any) -> dict[str, Any]:
        """The answer to a request, and a file with it."""
        try:
            self._send(**request)
            if file is not None:
                self._socket.send_bytes(file)
            answer = self._socket.recv_bytes(_MAX_ANSWER_BYTES)
        except (EOFError, OSError) as error:
            raise self._ended() from error
        match _parsed(answer):
            case {"refused": {"reason": str(reason), "message": str(message), **more}}:
                got, expected = str(more.get("got", "")), str(more.get("expected", ""))
                raise PictureRefused(reason, message, got=got, expected=expected)
            case {"is_out_of_memory": True}:
                self.end()
                most_mib = self._bounds.max_memory_bytes // _MIB
                raise DecoderEnded("memory", f"takes more than {most_mib} MiB of memory")
            case dict(parsed):
                return parsed
            case other:
                raise self._broken(f"{other}")

    def _send(self, **request: Any) -> None:
        self._socket.send_bytes(json.dumps(request).encode())

    def _kill_overdue(self) -> None:
        self._is_overdue = True
        self.end()

    def _ended(self) -> DecoderEnded:
        """Why nothing comes from it any more."""
        self.end()  # for one that closed its socket alone
        if self._is_overdue:
            return DecoderEnded("timeout", f"takes more than {self._bounds.max_time_s:g} s")
        if self._process.returncode == -signal.SIGXCPU:
            message = f"takes more than {self._bounds.max_cpu_s} s of processor time"
            return DecoderEnded("cpu", message)
        return DecoderEnded("died", f"ended by itself ({self._process.returncode})")

    def _broken(self, answer: str) -> DecoderEnded:
        """It answers what `picture_worker` would not."""
        self.end()
        return DecoderEnded("died", f"answered {answer[:100]!r}")


class RemotePicture:
    """The open picture of a process."""

    def __init__(self, process: PictureProcess, width: int, height: int) -> None:
        self._process = process
        self.size = (width, height)
        self.width = width
        self.height = height

    def resize(
        self,
        size: tuple[int, int],
        resample: int | None = None,
        box: tuple[float, float, float, float] | None = None,
        reducing_gap: float | None = None,
    ) -> Image.Image:
        """As `Picture` says.

        Raises:
            DecoderEnded: as `PictureProcess.opened` says.
        """
        resample = None if resample is None else int(resample)
        pixels = self._process.pixels(size, resample=resample, box=box, reducing_gap=reducing_gap)
        return Image.frombytes("RGB", size, pixels)


def _parsed(answer: bytes) -> object:
    """None: it is not JSON."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None
