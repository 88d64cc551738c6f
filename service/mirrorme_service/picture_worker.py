"""The program that decodes pictures for a gateway, so that a hostile file harms no session.

    python -m mirrorme_service.picture_worker SOCKET MAX_MEMORY_BYTES MAX_CPU_S

Answers one gateway over an inherited socket, and ends with it. Bounded by the kernel in memory, in
processor time for each picture, and in what it may write: nothing. `PictureProcess` is the other
side, which bounds the time on the clock. Imports little: it starts in a tenth of a second.
"""

from __future__ import annotations

import gc
import json
import math
import resource
import sys
import time
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image

from mirrorme_service.picture_file import decode_picture
from mirrorme_service.picture_format import PictureLimits
from mirrorme_service.picture_refusal import PictureRefused


def main() -> None:
    """Until the gateway closes the socket, or is gone."""
    socket, max_memory_bytes, max_cpu_s = (int(number) for number in sys.argv[1:])
    warnings.simplefilter("ignore")  # of files, to nobody
    _go_first()
    gc.collect()
    gc.freeze()  # so that looking for cycles after each picture costs nothing
    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (0, 0))
    with Connection(socket) as gateway, suppress(EOFError, ConnectionError):
        PictureWorker(gateway, max_cpu_s).run()


class PictureWorker:
    """Holds one picture at a time. Requests and answers are JSON objects."""

    def __init__(self, gateway: Connection, max_cpu_s: int) -> None:
        self._gateway = gateway
        self._max_cpu_s = max_cpu_s
        self._picture: Image.Image | None = None

    def run(self) -> None:
        """Answers until the socket ends.

        Raises:
            EOFError, ConnectionError: it did.
        """
        while True:
            request = json.loads(self._gateway.recv_bytes())
            try:
                self._answer(**request)
            except PictureRefused as refusal:
                self._send(refused=vars(refusal))
            except MemoryError:
                self._send(is_out_of_memory=True)

    def _answer(self, do: str, **arguments: Any) -> None:
        match do:
            case "open":
                self._allow_cpu_time()
                file = self._gateway.recv_bytes()
                self._picture = decode_picture(file, PictureLimits(**arguments))
                self._send(size=self._picture.size)
            case "resize":
                assert self._picture is not None, "resize follows open"
                arguments = {name: _as_tuple(value) for name, value in arguments.items()}
                pixels = self._picture.resize(**arguments).tobytes()
                self._send()
                self._gateway.send_bytes(pixels)
            case "close":
                self._picture = None
                gc.collect()  # Pillow's files and pictures hold each other
            case _:
                raise ValueError(f"not a request: {do}")

    def _send(self, **answer: Any) -> None:
        self._gateway.send_bytes(json.dumps(answer).encode())

    def _allow_cpu_time(self) -> None:
        """Until the next picture; then the kernel ends this process, gateway or not."""
        until_s = math.ceil(time.process_time()) + self._max_cpu_s
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (until_s, most))


def _as_tuple(value: object) -> object:
    """JSON has lists alone."""
    return tuple(value) if isinstance(value, list) else value


def _go_first() -> None:
    """Where memory runs out, the kernel is to end this process rather than the gateway."""
    with suppress(OSError):  # no such file on other systems
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
