"""The generated code and the released contract agree with the .proto files."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
BUF = Path(sys.executable).parent / "buf"


def test_generated_code_is_current(tmp_path: Path) -> None:
    proto = "mirrorme/animate/v1/animation.proto"
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outputs, proto]
    subprocess.run(command, check=True)
    generated = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(generated) == 3
    for path in generated:
        committed = PROTOS / path.relative_to(tmp_path)
        assert committed.read_text() == path.read_text(), f"{committed.name}: run `make protos`"


@pytest.mark.parametrize(
    "arguments", [["lint"], ["breaking", "--against", str(PROTOS / "released.binpb")]]
)
def test_buf(arguments: list[str]) -> None:
    result = subprocess.run([BUF, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_breaking_change_is_found(tmp_path: Path) -> None:
    source = (PROTOS / "mirrorme/animate/v1/animation.proto").read_text()
    changed = source.replace("uint64 first_frame_index = 1;", "uint64 first_frame_index = 11;")
    folder = tmp_path / "protos/mirrorme/animate/v1"
    folder.mkdir(parents=True)
    (folder / "animation.proto").write_text(changed)
    (tmp_path / "buf.yaml").write_text((ROOT / "buf.yaml").read_text())
    command = [BUF, "breaking", "--against", str(PROTOS / "released.binpb")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0
    assert "first_frame_index" in result.stdout
