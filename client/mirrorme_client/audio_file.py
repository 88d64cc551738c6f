"""Speech from any audio or video file that ffmpeg reads, as a stream of mono PCM."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from mirrorme_client.errors import UnreadableInput
from mirrorme_client.formats import pcm_s16le

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 48_000
_BYTES_PER_SAMPLE = 2
_CHUNK_S = 0.1


class AudioFile:
    """The first audio track of a file, decoded piece by piece; the file never lies in memory.

    It keeps its own sample rate within 8 to 48 kHz and is mixed down to mono. Iterate once, either
    way: `for` decodes in place, `async for` in a thread. Close it, or use it in a `with`.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file and reads its header.

        Raises:
            UnreadableInput: it is missing, not a media file, or has no audio.
        """
        self.path = path
        self.num_damaged_packets = 0
        """Packets that could not be decoded and were left out."""
        # Held while ffmpeg works, so that closing waits for a decoding thread.
        self._lock = threading.Lock()
        try:
            self._container = av.open(str(path), metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            reason = error.strerror or "not a media file"
            raise UnreadableInput(f"cannot read the speech file {path}: {reason}") from error
        stream = next(iter(self._container.streams.audio), None)
        if stream is None:
            self.close()
            raise UnreadableInput(f"the speech file {path} has no audio")
        self._stream = stream
        rate_hz = min(max(stream.rate or MAX_RATE_HZ, MIN_RATE_HZ), MAX_RATE_HZ)
        self.format = pcm_s16le(rate_hz)
        self.duration_s = self._duration_s()
        """As the header says; None where it does not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file. Idempotent."""
        with self._lock:
            self._container.close()

    def __iter__(self) -> Iterator[bytes]:
        """PCM in `format`, about 0.1 s a piece.

        Raises:
            UnreadableInput: nothing of the track can be decoded.
        """
        chunk_bytes = int(_CHUNK_S * self.format.sample_rate_hz) * _BYTES_PER_SAMPLE
        pending = bytearray()
        num_bytes = 0
        for frame in self._resampled():
            pending += bytes(frame.planes[0])[: frame.samples * _BYTES_PER_SAMPLE]
            if len(pending) >= chunk_bytes:
                num_bytes += len(pending)
                yield bytes(pending)
                pending.clear()
        if pending:
            yield bytes(pending)
        elif not num_bytes:
            state = "is damaged" if self.num_damaged_packets else "is empty"
            raise UnreadableInput(f"the audio of {self.path} {state}: nothing to speak")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """As `__iter__`, without holding up the event loop."""
        pieces = iter(self)

        def decode_next() -> bytes | None:
            with self._lock:
                return next(pieces, None)

        while (piece := await asyncio.to_thread(decode_next)) is not None:
            yield piece

    def _resampled(self) -> Iterator[AudioFrame]:
        resampler = AudioResampler(format="s16", layout="mono", rate=self.format.sample_rate_hz)
        try:
            for frame in self._decoded():
                # With timestamps the resampler would fill gaps; what was decoded counts.
                frame.pts = None
                yield from resampler.resample(frame)
            yield from resampler.resample(None)
        except ValueError as error:
            reason = f"its audio changes its format midway ({error})"
            raise UnreadableInput(f"cannot read {self.path} further: {reason}") from error

    def _decoded(self) -> Iterator[AudioFrame]:
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError:
                    self.num_damaged_packets += 1
        except av.error.FFmpegError as error:
            raise UnreadableInput(f"cannot read {self.path} further: {error.strerror}") from error

    def _duration_s(self) -> float | None:
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        if self._container.duration is not None:
            return self._container.duration / av.time_base
        return None
