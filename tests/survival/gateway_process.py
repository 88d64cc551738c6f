"""A gateway as a process of its own, over fake engines, that a test ends as it likes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from mirrorme_engines.fake_manifest import fake_manifest


class GatewayProcess:
    """Starts on a free port and keeps it when it is started again. End it with `kill`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments
        self._port = 0
        if not (folder / "manifest.json").exists():
            fake_manifest().save(folder)
        self.start()

    @property
    def target(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns once it is ready."""
        options = ["--engines", str(self._folder), "--platform", "fake", "--metrics-port", "0"]
        options += ["--port", str(self._port), *self._arguments]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mirrorme_service", *options],
            env=os.environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            if match := re.search(r"ready: .*? on 127\.0\.0\.1:(\d+)", line):
                self._port = int(match[1])
                break
        else:
            raise AssertionError("it never got ready: " + "".join(lines))
        # Or it would wait one day for somebody to read what it logs.
        stderr = self._process.stderr
        self._reader = threading.Thread(target=lambda: [None for _ in stderr])
        self._reader.start()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self.wait()

    def terminate(self) -> None:
        """Lets it drain."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Returns how it ended."""
        code = self._process.wait(60)
        self._reader.join()
        assert self._process.stderr
        self._process.stderr.close()
        return code
