"""A `Landmarker` that asks MediaPipe in its own interpreter: it needs another numpy than ours."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from mirrorme_training.footage.errors import FootageError, VideoError
from mirrorme_training.footage.landmarks import (
    BLENDSHAPE_NAMES,
    NUM_FACE_POINTS,
    FaceBox,
    Floats,
    FrameLandmarks,
    Pixels,
)

_PROGRAM = Path(__file__).with_name("mediapipe_program.py")
_STOP_S = 5.0
_SHOWN_LOG_LINES = 6


class MediapipeProcess:
    """Owns the other process between `__enter__` and `__exit__`. See `Landmarker`."""

    def __init__(self, python: Path, face_landmarker: Path | None = None) -> None:
        """
        Args:
            python: interpreter that has MediaPipe.
            face_landmarker: model file of MediaPipe's Face Landmarker, which measures blendshapes;
                without it the face mesh of the wheel is used.
        """
        self._command = [str(python), "-I", str(_PROGRAM)]
        if face_landmarker is not None:
            self._command.append(str(face_landmarker))

    def __enter__(self) -> MediapipeProcess:
        """
        Raises:
            FootageError: it does not start.
        """
        self._log: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
            )
        except OSError as error:
            self._log.close()
            raise FootageError(f"MediaPipe does not start: {error}") from error
        try:
            self.restart()
        except VideoError as error:
            self.__exit__(None, None, None)
            raise FootageError(str(error)) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def restart(self) -> None:
        """See `Landmarker`.

        Raises:
            VideoError: here and below: the process has died of this video.
        """
        self._ask(b"r", b"")

    def faces(self, picture: Pixels) -> list[FaceBox]:
        """See `Landmarker`."""
        rows = self._ask(b"f", _packed(picture)).reshape(-1, 5)
        return [
            FaceBox(float(x), float(y), float(x + w), float(y + h), float(score))
            for x, y, w, h, score in rows
        ]

    def landmarks(self, picture: Pixels) -> FrameLandmarks:
        """See `Landmarker`."""
        values = self._ask(b"l", _packed(picture))
        face, hands, shapes = np.split(values, [NUM_FACE_POINTS * 3, len(values) - _NUM_SHAPES])
        return FrameLandmarks(
            face=face.reshape(NUM_FACE_POINTS, 3), hands=hands.reshape(2, -1, 2), blendshapes=shapes
        )

    def _ask(self, operation: bytes, picture: bytes) -> Floats:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(operation + picture)
            stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        header = stdout.read(4)
        if len(header) < 4:
            raise self._ended()
        num_bytes = 4 * struct.unpack("<I", header)[0]
        answer = stdout.read(num_bytes)
        if len(answer) < num_bytes:
            raise self._ended()
        return np.frombuffer(answer, "<f4")

    def _ended(self) -> VideoError:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = "\n".join(lines[-_SHOWN_LOG_LINES:])
        return VideoError(f"MediaPipe ended. It said last:\n{said}")


_NUM_SHAPES = len(BLENDSHAPE_NAMES)


def _packed(picture: Pixels) -> bytes:
    height, width, _ = picture.shape
    return struct.pack("<II", height, width) + np.ascontiguousarray(picture).tobytes()
