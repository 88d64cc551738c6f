"""Workers end with whoever started them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

PROGRAM = """
import os, time
from mirrorme_training.worker_pool import worker_pool

if __name__ == "__main__":
    with worker_pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_ends_with_what_started_it(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        worker = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(how)
        assert starter.wait(30) == -how
    for _ in range(300):
        # One whose new parent does not ask for it stays in the list of processes.
        if not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    worker.kill()
    raise AssertionError("the worker goes on by itself")
