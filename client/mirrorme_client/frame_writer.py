"""Where a session's frames and speech go: the contract of writers, and the choice among them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.errors import UnwritableOutput
from mirrorme_client.frame_folder import DEFAULT_PATTERN, FrameFolder
from mirrorme_client.video_writer import CONTAINERS, VideoWriter


class FrameWriter(Protocol):
    """Takes a session's frames and speech.

    Leaving its `with` without an exception completes the output, with one removes it.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def write_frames(self, batch: pb.FrameBatch) -> None:
        """The next frames."""
        ...

    def write_audio(self, data: bytes) -> None:
        """The next speech, cut anywhere; its first sample belongs to the first frame."""
        ...


def encodings_for(path: Path) -> tuple[pb.FrameEncoding, ...]:
    """Frame encodings that this output can hold, the preferred one first.

    Raises:
        UnwritableOutput: the name's ending is none that is written.
    """
    if _is_folder(path):
        return (pb.FRAME_ENCODING_JPEG,)
    match CONTAINERS.get(path.suffix.lower()):
        case "matroska" | "mov":
            return (pb.FRAME_ENCODING_H264, pb.FRAME_ENCODING_JPEG)
        case "mp4":
            return (pb.FRAME_ENCODING_H264,)
    raise UnwritableOutput(
        f"cannot write {path}: want a name that ends in {', '.join(CONTAINERS)}, a folder, "
        "or a pattern such as frames/%05d.jpg"
    )


def open_writer(
    path: Path, started: pb.SessionStarted, audio_format: pb.AudioFormat
) -> FrameWriter:
    """The writer for an output path. `encodings_for` says which encodings it takes."""
    if "%" in path.name:
        return FrameFolder(path.parent, path.name)
    if _is_folder(path):
        return FrameFolder(path, DEFAULT_PATTERN)
    return VideoWriter(path, started, audio_format)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuses an output that would destroy something.

    Raises:
        UnwritableOutput: a file is there and `overwrite` is not given, or a folder is not empty.
    """
    if _is_folder(path):
        folder = path.parent if "%" in path.name else path
        if folder.is_dir() and any(folder.iterdir()):
            raise UnwritableOutput(f"the folder {folder} is not empty: name a new one")
    elif path.exists() and not overwrite:
        raise UnwritableOutput(f"{path} exists already: give --overwrite to replace it")


def _is_folder(path: Path) -> bool:
    is_pattern = "%" in path.name and path.suffix.lower() in (".jpg", ".jpeg")
    return is_pattern or path.is_dir() or not path.suffix
