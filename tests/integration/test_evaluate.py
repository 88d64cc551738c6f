"""`make evaluate` from end to end, with fake engines: it runs, and calls noise what it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mirrorme_engines.fake_manifest import fake_manifest

from tests.client.speech_files import beeps, write_wav

EVALUATE = Path(__file__).parents[2] / "benchmarks" / "evaluate.py"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_evaluation_of_fake_engines(tmp_path: Path) -> None:
    engines, recordings, output = (tmp_path / name for name in ("engines", "speech", "page"))
    engines.mkdir()
    recordings.mkdir()
    fake_manifest().save(engines)
    write_wav(recordings / "beeps.wav", beeps(3.0, (0.4, 1.2, 2.0)))
    command = [sys.executable, str(EVALUATE), "--smoke", "--engines", str(engines)]
    ended = subprocess.run(
        [*command, "--recordings", str(recordings), "-o", str(output)],
        env={**os.environ, "MIRRORME_PLATFORM": "fake", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    rows = json.loads((output / "evaluation.json").read_text())["rows"]
    groups = {row["group"] for row in rows}
    names = "controls drift hands human identity idle lips reconstruction seams"
    assert sorted(groups) == names.split()
    figures = {row["name"]: row for row in rows}
    lips = figures["mouth opening against truth, r"]
    assert lips["passed"] is False
    assert lips["truth"] > lips["made"]
    assert figures["PCK@0.1"]["passed"] is False
    assert figures["PCK@0.1"]["truth"] > 0.8
    page = (output / "index.html").read_text()
    assert 'class="failed"' in page
    assert all((output / name).exists() for name in ("lips-0.jpg", "lips-0-opening.png"))
