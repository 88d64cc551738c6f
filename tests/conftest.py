"""What holds for all tests."""

from __future__ import annotations

import os
import signal

# Small models gain nothing from threads, and lose much beside other work. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell without job control starts what it runs in the background with SIGINT ignored, which
# children inherit: those that a test interrupts would not hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
