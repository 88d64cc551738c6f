"""How far an engine's precision can be lowered: measured, before TensorRT sees the graph."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from mirrorme_engines.manifest import EXTERNAL_DATA_SUFFIX, EngineSpec, Manifest, TensorSpec
from mirrorme_engines.silent_onnxruntime import onnxruntime as ort
from mirrorme_engines.tensorrt_plan import Precision
from numpy.typing import NDArray

from mirrorme_export.precision_graph import LEVELS, Level, LowType, lower_precision
from mirrorme_export.session_player import Inputs, Sample, SessionPlayer, open_session

MAX_RELATIVE_ERROR: dict[LowType, float] = {"fp16": 0.01, "bf16": 0.05}
"""Root mean square of the error over that of the fp32 output."""
MAX_LEVEL_ERROR: dict[LowType, float] = {"fp16": 0.5, "bf16": 1.5}
"""Mean absolute error of uint8 outputs, in levels of 255."""
BATCH_SIZE = 2
SEEDS = (11, 12)
_DECODED_CHUNKS = 3
"""Of each session that decoders are measured with."""
_LOUDNESS = 0.1
"""Deviation of random speech, of full scale."""
MAX_EMBEDDED_BYTES = 1 << 30


@dataclass(frozen=True)
class PrecisionRow:
    """One output at one level."""

    level: Level
    output: str
    error: float
    """Relative, or in levels: see the limits. Infinite where the output is not a number."""
    limit: float

    @property
    def passed(self) -> bool:
        """Within the limit."""
        return self.error <= self.limit


@dataclass(frozen=True)
class PrecisionChoice:
    """The first level within all limits, and what was measured on the way."""

    level: Level
    rows: tuple[PrecisionRow, ...] = ()

    def save(self, path: Path) -> None:
        """Writes the choice as JSON, atomically."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> PrecisionChoice | None:
        """Reads a choice; None if there is none that can be read."""
        try:
            document = json.loads(path.read_text())
            rows = tuple(PrecisionRow(**row) for row in document["rows"])
            return cls(_level(document["level"]), rows)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def choose_precision(
    manifest: Manifest,
    spec: EngineSpec,
    onnx: Path,
    precision: Precision,
    calls: Sequence[Inputs] = (),
) -> PrecisionChoice:
    """Tries the levels from the fastest to the most exact, in ONNX Runtime on the CPU.

    Args:
        manifest: of the preset.
        spec: the engine.
        onnx: its graph, in fp32.
        precision: none but fp16 and bf16 have levels.
        calls: what the engine is given, all of the same shapes; empty: random inputs.
    """
    if precision not in ("fp16", "bf16"):
        return PrecisionChoice("none")
    calls = calls or [make_inputs(manifest, spec, BATCH_SIZE, seed) for seed in SEEDS]
    expected = _run(onnx, spec, calls)
    rows: list[PrecisionRow] = []
    for level in LEVELS:
        if level == "none":
            break
        with tempfile.TemporaryDirectory(prefix="mirrorme-precision-") as folder:
            emulated = Path(folder) / "model.onnx"
            save_lowered(onnx, emulated, precision, level, emulate=True)
            got = _run(emulated, spec, calls)
        measured = _compare(spec, level, precision, expected, got)
        rows += measured
        if all(row.passed for row in measured):
            return PrecisionChoice(level, tuple(rows))
    return PrecisionChoice("none", tuple(rows))


def decoder_calls(folder: Path, manifest: Manifest) -> list[Inputs]:
    """What decoders are given by a session that speaks, and by one told every control besides.

    Portrait and speech are noise. Random latents would not do: each token would tell another face
    and other hands, all of them far beyond their ranges.
    """
    random = np.random.default_rng(SEEDS[0])
    video, chunk = manifest.video, manifest.chunk
    num_chunks = _DECODED_CHUNKS + -(-chunk.decoder_lookahead_latents // chunk.num_latents)
    sample = Sample(
        image=random.integers(0, 256, (video.height_px, video.width_px, 3), np.uint8),
        pcm=random.normal(0, _LOUDNESS, int(num_chunks * manifest.chunk_samples)).astype(
            np.float32
        ),
    )
    player = SessionPlayer(folder, manifest)
    denoiser = open_session(folder / manifest.engine("denoiser").file)
    sessions = [
        player.play(sample, denoiser, first_chunk=0, num_chunks=num_chunks, controlled=controlled)
        for controlled in (False, True)
    ]
    return [{"latents": window[None]} for session in sessions for window in session.windows]


def save_lowered(
    onnx: Path, target: Path, low: LowType, level: Level, *, emulate: bool = False
) -> None:
    """Writes a lowered copy of an ONNX file; large weights go beside it."""
    model = ir.load(onnx)
    lower_precision(model, low, level, emulate=emulate)
    tensors = (value.const_value for value in model.graph.initializers.values())
    size_bytes = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    external = target.name + EXTERNAL_DATA_SUFFIX if size_bytes > MAX_EMBEDDED_BYTES else None
    ir.save(model, target, external_data=external)


def make_inputs(manifest: Manifest, spec: EngineSpec, batch_size: int, seed: int) -> Inputs:
    """Random inputs of a plausible size."""
    random = np.random.default_rng(seed)

    def make(tensor: TensorSpec) -> NDArray[np.generic]:
        shape = (batch_size, *tensor.dims)
        match tensor.dtype:
            case "uint8":
                return random.integers(0, 256, shape, np.uint8)
            case "int64":
                # The only integers there are count phases.
                return random.integers(0, manifest.audio.num_phases, shape, np.int64)
            case "float32" if tensor.name == "pcm":
                return random.normal(0, _LOUDNESS, shape).astype(np.float32)
            case "float32" if not tensor.dims:
                return np.ones(shape, np.float32)
            case "float32":
                return random.standard_normal(shape, np.float32)

    return {tensor.name: make(tensor) for tensor in spec.inputs}


def _level(text: str) -> Level:
    for level in LEVELS:
        if level == text:
            return level
    raise ValueError(f"level {text!r}")


def _run(onnx: Path, spec: EngineSpec, calls: Sequence[Inputs]) -> list[list[NDArray[np.generic]]]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in spec.outputs]
    return [[np.asarray(array) for array in session.run(names, call)] for call in calls]


def _compare(
    spec: EngineSpec,
    level: Level,
    low: LowType,
    expected: list[list[NDArray[np.generic]]],
    got: list[list[NDArray[np.generic]]],
) -> list[PrecisionRow]:
    rows: list[PrecisionRow] = []
    for i, tensor in enumerate(spec.outputs):
        want = np.stack([call[i] for call in expected]).astype(np.float64)
        error = np.abs(np.stack([call[i] for call in got]).astype(np.float64) - want)
        if tensor.dtype == "uint8":
            size, limit = error.mean(), MAX_LEVEL_ERROR[low]
        else:
            scale = max(np.sqrt(np.square(want).mean()), 1e-12)
            size, limit = np.sqrt(np.square(error).mean()) / scale, MAX_RELATIVE_ERROR[low]
        # What is not a number is beyond every limit.
        size = float(size) if np.isfinite(size) else 1e9
        rows.append(PrecisionRow(level, tensor.name, size, limit))
    return rows
