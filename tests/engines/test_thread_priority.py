"""Threads that compute have a lower priority than those that keep time."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mirrorme_engines.thread_priority import NICENESS, give_way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads are equal")


def own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_gives_way_alone() -> None:
    before = own_niceness()
    with ThreadPoolExecutor(1, initializer=give_way) as lower, ThreadPoolExecutor(1) as equal:
        assert lower.submit(own_niceness).result() == min(before + NICENESS, 19)
        assert equal.submit(own_niceness).result() == before
    assert own_niceness() == before


def test_another_thread_can_be_made_to_give_way() -> None:
    with ThreadPoolExecutor(1) as other:
        before = other.submit(own_niceness).result()
        give_way(other.submit(threading.get_native_id).result())
        assert other.submit(own_niceness).result() == min(before + NICENESS, 19)


def test_threads_that_cannot_be_lowered_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    give_way(2**22 + 1)  # the kernel's numbers end before

    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    give_way()
