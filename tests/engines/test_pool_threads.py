"""CPU time of threads that a library starts."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from mirrorme_engines.pool_threads import with_its_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are known on Linux alone")
_SPUN_S = 0.02


class Spinner:
    """A thread that works for a while at each call."""

    def __init__(self) -> None:
        self._calls, self._done = threading.Semaphore(0), threading.Event()
        self._ends = False
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def spin(self) -> None:
        self._done.clear()
        self._calls.release()
        self._done.wait()

    def end(self) -> None:
        self._ends = True
        self._calls.release()
        self._thread.join()

    def _work(self) -> None:
        while self._calls.acquire() and not self._ends:
            start_s = time.thread_time()
            while time.thread_time() - start_s < _SPUN_S:
                pass
            self._done.set()


def test_the_time_of_new_threads_alone_is_counted() -> None:
    older = Spinner()
    newer, threads = with_its_threads(Spinner)
    try:
        before_s = threads.cpu_s()
        older.spin()
        assert threads.cpu_s() - before_s < _SPUN_S / 2
        newer.spin()
        newer.spin()
        assert threads.cpu_s() - before_s >= 2 * _SPUN_S
    finally:
        older.end()
        newer.end()


def test_threads_that_ended_count_no_more() -> None:
    newer, threads = with_its_threads(Spinner)
    newer.end()
    # Joined is not gone: the kernel's thread ends a moment later.
    give_up_s = time.monotonic() + 10
    while threads.cpu_s() and time.monotonic() < give_up_s:
        time.sleep(0.001)
    assert threads.cpu_s() == 0


def test_without_threads_there_is_no_time() -> None:
    made, threads = with_its_threads(lambda: 7)
    assert (made, threads.cpu_s()) == (7, 0)
