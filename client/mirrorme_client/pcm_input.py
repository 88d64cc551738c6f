"""Speech from a pipe: raw PCM as it arrives, for example from a microphone's recorder."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from typing import BinaryIO

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.formats import bytes_per_sample

_READ_BYTES = 16 * 1024


class PcmInput:
    """Standard input, or another open file, read as raw PCM to its end. Iterate once."""

    def __init__(self, audio_format: pb.AudioFormat, file: BinaryIO | None = None) -> None:
        self.format = audio_format
        self._file = file if file is not None else sys.stdin.buffer
        status = os.fstat(self._file.fileno())
        self._is_stream = not stat.S_ISREG(status.st_mode)
        num_bytes_per_s = audio_format.sample_rate_hz * bytes_per_sample(audio_format)
        self.duration_s = None if self._is_stream else status.st_size / num_bytes_per_s
        """Of a redirected file; None for a pipe, which ends when its writer closes it."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """What arrives, as soon as it arrives."""
        if not self._is_stream:
            while data := self._file.read(_READ_BYTES):
                yield data
            return
        # Not in a thread: one that waits in read() cannot be cancelled, and Ctrl-C would hang.
        reader = asyncio.StreamReader(limit=_READ_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._file
        )
        try:
            while data := await reader.read(_READ_BYTES):
                yield data
        finally:
            transport.close()
