"""The import layers: what serves imports no torch, lower layers import no higher ones."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
        and re.search(r"^\s*(import|from) onnxruntime", path.read_text(), re.MULTILINE)
    }
    assert importing == {"silent_onnxruntime.py", "triton_python_model.py"}
    for name in importing:
        (path,) = (found for package in PACKAGES for found in (ROOT / package).rglob(name))
        before, _, _ = path.read_text().partition("import onnxruntime")
        assert 'os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")' in before
