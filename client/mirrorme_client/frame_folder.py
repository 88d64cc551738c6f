"""A session's JPEG frames as numbered files."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.errors import UnwritableOutput
from mirrorme_client.partial_path import PartialPath

DEFAULT_PATTERN = "%06d.jpg"


class FrameFolder:
    """A new folder of pictures, named by frame index. Speech is not written."""

    def __init__(self, folder: Path, pattern: str = DEFAULT_PATTERN) -> None:
        """
        Args:
            folder: must not exist, or be empty.
            pattern: file name with one number in it, for example `frame%05d.jpg`.
        """
        self._partial = PartialPath(folder)
        self._pattern = pattern

    def __enter__(self) -> Self:
        self._partial.__enter__()
        try:
            self._partial.path.mkdir()
        except OSError as error:
            target = self._partial.target
            raise UnwritableOutput(f"cannot write {target}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._partial.__exit__(exc_type, exc, traceback)

    def write_frames(self, batch: pb.FrameBatch) -> None:
        """Writes a file a frame."""
        for index, frame in enumerate(batch.frames, batch.first_frame_index):
            path = self._partial.path / (self._pattern % index)
            try:
                path.write_bytes(frame.data)
            except OSError as error:
                raise UnwritableOutput(f"cannot write {path}: {error.strerror}") from error

    def write_audio(self, data: bytes) -> None:
        """Does nothing: a folder of pictures has no speech."""
