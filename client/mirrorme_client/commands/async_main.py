"""Runs a command's coroutine so that Ctrl-C and SIGTERM end it cleanly."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_TERMINATED = 128 + signal.SIGTERM


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs to the end. A signal cancels the work, which then cleans up.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after SIGTERM.
    """

    async def supervised() -> _Result:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    # gRPC's own lines about connections would stand between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        raise SystemExit(_TERMINATED) from None
