"""What holds for all tests."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

# Small models gain nothing from threads, and lose much beside other work. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell without job control starts what it runs in the background with SIGINT ignored, which
# children inherit: those that a test interrupts would not hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes run the tests, one has all of a file: they share fixtures.

    Those of the export share one export of `tiny`, so one process has them all.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "tests/export" if file.startswith("tests/export/") else file

    return Scheduling(config, log)
