"""Threads that compute give way to those that keep sessions on time. On Linux alone.

Where both want a core, a chunk is there a little later, which is planned for, and the frame that is
due is sent when it is due.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

NICENESS = 5
"""Added to a thread's own: it gets a quarter of a core that one of the others wants too."""
_MAX_NICENESS = 19


def give_way(thread_id: int | None = None) -> None:
    """Lowers the priority of a thread of this process, once and for all.

    Args:
        thread_id: the kernel's number; None: the calling thread. One that has ended is left alone.
    """
    if sys.platform != "linux":  # elsewhere it is the process that has a priority
        return
    thread_id = threading.get_native_id() if thread_id is None else thread_id
    # Where it is forbidden, frames are less regular on cores that are busy, and that is all.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        niceness = os.getpriority(os.PRIO_PROCESS, thread_id) + NICENESS
        os.setpriority(os.PRIO_PROCESS, thread_id, min(niceness, _MAX_NICENESS))
