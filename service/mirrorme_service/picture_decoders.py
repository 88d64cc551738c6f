"""The processes that decode a gateway's pictures: as many as were at work at once, no more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mirrorme_service.picture import Picture
from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.picture_process import (
    DecoderBounds,
    DecoderEnd,
    DecoderEnded,
    PictureProcess,
)

log = logging.getLogger(__name__)


class DecoderObserver:
    """Told what happens; this one does nothing. Called from any thread: to be quick."""

    def decoder_ended(self, end: DecoderEnd) -> None:
        """A process is replaced: it was over its bounds, or ended by itself."""


class PictureDecoders:
    """Starts processes when they are needed and keeps them, from its start to `close`.

    For several threads: each has a process of its own while it has a picture open.
    """

    def __init__(
        self, bounds: DecoderBounds | None = None, observer: DecoderObserver | None = None
    ) -> None:
        self._bounds = bounds or DecoderBounds()
        self._observer = observer or DecoderObserver()
        self._lock = threading.Lock()
        self._idle: list[PictureProcess] = []
        self._busy: set[PictureProcess] = set()
        self._is_closed = False

    @property
    def pids(self) -> list[int]:
        """Of the processes now."""
        with self._lock:
            return [process.pid for process in (*self._idle, *self._busy)]

    @contextmanager
    def opened(self, file: bytes, limits: PictureLimits) -> Iterator[Picture]:
        """Decodes a file; its picture is there inside. Blocks.

        Raises:
            PictureRefused: as `decode_picture` says.
            DecoderEnded: decoding took more than it may, or its process ended by itself.
        """
        process = self._acquire()
        try:
            with process.opened(file, limits) as picture:
                yield picture
        except DecoderEnded as ended:
            log.warning("a decoder of portraits is replaced: it %s", ended)
            self._observer.decoder_ended(ended.end)
            raise
        finally:
            self._release(process)

    def close(self) -> None:
        """Kills all, at work or not. Idempotent."""
        with self._lock:
            self._is_closed = True
            idle, busy = self._idle, list(self._busy)
            self._idle = []
        for process in idle:
            process.close()
        for process in busy:
            process.end()  # the thread that has it closes it

    def _acquire(self) -> PictureProcess:
        with self._lock:
            while self._idle and not self._idle[-1].is_running:
                self._idle.pop().close()
            process = self._idle.pop() if self._idle else PictureProcess(self._bounds)
            self._busy.add(process)
            return process

    def _release(self, process: PictureProcess) -> None:
        with self._lock:
            self._busy.discard(process)
            if process.is_running and not self._is_closed:
                self._idle.append(process)
                return
        process.close()
