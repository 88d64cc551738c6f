"""The import layers: what serves imports no torch, lower layers import no higher ones."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORT = re.compile(r"^\s*(?:import|from) onnxruntime", re.MULTILINE)
PACKAGES = ("model", "training", "export", "engines", "service", "client")


def test_import_contracts() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_onnx_runtime_is_imported_where_it_is_kept_from_reporting() -> None:
    importing = {
        path.name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "repository" not in path.parts  # exported, with what Triton runs
        and IMPORT.search(path.read_text())
    }
    silenced = {
        "silent_onnxruntime.py": 'os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")',
        "triton_python_model.py": 'os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")',
        "cpu_int8.py": "from mirrorme_engines.silent_onnxruntime import",
    }
    assert importing == silenced.keys()
    for name, first in silenced.items():
        (path,) = (found for package in PACKAGES for found in (ROOT / package).rglob(name))
        before, _ = IMPORT.split(path.read_text(), maxsplit=1)
        assert first in before
