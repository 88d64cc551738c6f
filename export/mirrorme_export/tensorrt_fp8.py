"""The FP8 denoiser: scales measured on real sessions, and how far it is from fp32.

Scales come from all portraits but the last; the report is of the last portrait with another part
of the speech. `latents_error` compares single calls given the same inputs; `psnr_db` whole
sessions, in which each denoiser goes on from its own latents.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from mirrorme_engines.manifest import EXTERNAL_DATA_SUFFIX, EngineSpec, Manifest
from mirrorme_engines.silent_onnxruntime import onnxruntime as ort
from numpy.typing import NDArray

from mirrorme_export.precision_choice import MAX_EMBEDDED_BYTES
from mirrorme_export.precision_graph import Level, lower_precision
from mirrorme_export.session_player import (
    Inputs,
    Played,
    Sample,
    SessionPlayer,
    open_session,
    psnr_db,
)
from mirrorme_export.tensorrt_errors import PrecisionError
from mirrorme_export.tensorrt_fp8_graph import (
    LARGEST,
    add_amax_outputs,
    find_products,
    quantise,
    spare_blocks,
    weight_arrays,
)

MAX_RELATIVE_ERROR = 0.05
"""Root mean square of the latents' error over that of fp32's."""
NUM_SPARED = (0, 1, 2, 3)
"""First and last blocks left as they are; the first number within the limit is taken."""
_LEAST_SCALE = 1e-6


@dataclass(frozen=True)
class Fp8Row:
    """One way to compute, against fp32."""

    name: str
    """`fp16`, or `fp8` with the number of blocks spared at each end."""
    num_products: int
    """Quantised ones."""
    latents_error: float
    """Relative, root mean square, of single calls."""
    max_abs_error: float
    """Of single calls' latents, which are normalised."""
    psnr_db: float
    """Of a whole session's frames."""

    @property
    def passed(self) -> bool:
        """Within the limit."""
        return self.latents_error <= MAX_RELATIVE_ERROR


@dataclass(frozen=True)
class Fp8Choice:
    """What is quantised, with which scales, and what was measured on the way."""

    num_spared: int
    level: Level
    """Of all that is not quantised, in fp16."""
    scales: dict[str, float]
    """Of the activations, by name."""
    num_calibration_calls: int
    num_frames: int
    """Compared."""
    rows: tuple[Fp8Row, ...]

    @property
    def row(self) -> Fp8Row:
        """The chosen one."""
        return self.rows[-1]

    @property
    def digest(self) -> str:
        """Stands for what it makes of a graph, in a plan's key."""
        text = json.dumps([self.num_spared, self.level, sorted(self.scales.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Writes the choice as JSON, atomically."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Fp8Choice | None:
        """Reads a choice; None if there is none that can be read."""
        try:
            document = json.loads(path.read_text())
            rows = tuple(Fp8Row(**row) for row in document["rows"])
            return cls(**{**document, "rows": rows})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def choose_fp8(
    folder: Path,
    manifest: Manifest,
    spec: EngineSpec,
    level: Level,
    samples: list[Sample],
    num_chunks: int,
) -> Fp8Choice:
    """Calibrates, and quantises as many blocks as the limit allows.

    Args:
        folder: of the preset.
        manifest: of the preset.
        spec: the denoiser.
        level: of all that is not quantised, in fp16; as `choose_precision` says.
        samples: at least two; the last is only tested with.
        num_chunks: of each session.

    Raises:
        PrecisionError: the graph has no products to quantise, or none of the ways is within the
            limit.
    """
    onnx = folder / spec.file
    player = SessionPlayer(folder, manifest)
    exact = open_session(onnx)
    played = [player.play(s, exact, first_chunk=0, num_chunks=num_chunks) for s in samples[:-1]]
    calls = [call for session in played for call in session.calls]
    scales = measure_scales(onnx, calls)
    if not scales:
        raise PrecisionError(f"{onnx} has no products in transformer blocks: there is no FP8 of it")
    tested = player.play(samples[-1], exact, first_chunk=num_chunks, num_chunks=num_chunks)
    choice = Fp8Choice(0, level, scales, len(calls), len(tested.frames), ())
    rows = [_measure(choice, onnx, player, samples[-1], tested, spared=None)]
    for spared in NUM_SPARED:
        row = _measure(choice, onnx, player, samples[-1], tested, spared=spared)
        if row.num_products == 0:
            break
        rows.append(row)
        if row.passed:
            return dataclasses.replace(choice, num_spared=spared, rows=tuple(rows))
    told = ", ".join(f"{row.name}: {row.latents_error:.3f}" for row in rows)
    raise PrecisionError(
        f"{spec.name} in FP8 is further from fp32 than {MAX_RELATIVE_ERROR} (relative error of "
        f"latents; {told}): use --precision fp16 or bf16"
    )


def measure_scales(onnx: Path, calls: list[Inputs]) -> dict[str, float]:
    """What one unit of FP8 stands for, for the activation of each product.

    Each is a number of fp16, so that all forms of the graph mean the same.
    """
    model = ir.load(onnx)
    names = add_amax_outputs(model, find_products(model))
    if not names:
        return {}
    with tempfile.TemporaryDirectory(prefix="mirrorme-fp8-") as scratch:
        path = Path(scratch) / "model.onnx"
        _save(model, path)
        session = open_session(path)
    wanted = list(names.values())
    amax = np.max(
        [[np.asarray(value) for value in session.run(wanted, call)] for call in calls], axis=0
    )
    scales = np.maximum(amax / LARGEST, _LEAST_SCALE).astype(np.float16)
    return {name: float(scale) for name, scale in zip(names, scales, strict=True)}


def save_fp8(onnx: Path, target: Path, choice: Fp8Choice, *, emulate: bool = False) -> int:
    """Writes the quantised copy of a denoiser; returns how many products are quantised.

    Args:
        onnx: fp32.
        target: the copy; large weights go beside it.
        choice: what is quantised.
        emulate: for ONNX Runtime on the CPU: fp16 is rounded to, not computed in.
    """
    model = ir.load(onnx)
    products = spare_blocks(find_products(model), choice.num_spared)
    weights = weight_arrays(model, products)
    lower_precision(model, "fp16", choice.level, emulate=emulate)
    quantise(model, products, choice.scales, weights)
    _save(model, target)
    return len(products)


def _measure(
    choice: Fp8Choice,
    onnx: Path,
    player: SessionPlayer,
    sample: Sample,
    want: Played,
    *,
    spared: int | None,
) -> Fp8Row:
    """Compares one way with fp32. `spared` None: fp16 alone, to see the rest in proportion."""
    with tempfile.TemporaryDirectory(prefix="mirrorme-fp8-") as scratch:
        path = Path(scratch) / "model.onnx"
        if spared is None:
            num_products = 0
            model = ir.load(onnx)
            lower_precision(model, "fp16", choice.level, emulate=True)
            _save(model, path)
        else:
            changed = dataclasses.replace(choice, num_spared=spared)
            num_products = save_fp8(onnx, path, changed, emulate=True)
        session = open_session(path)
    got = np.concatenate([_latents(session, call) for call in want.calls])
    error = got.astype(np.float64) - want.latents
    first_chunk = len(want.calls)
    own = player.play(sample, session, first_chunk=first_chunk, num_chunks=len(want.calls))
    return Fp8Row(
        name="fp16" if spared is None else f"fp8, {spared} spared",
        num_products=num_products,
        latents_error=float(np.sqrt(np.square(error).mean() / np.square(want.latents).mean())),
        max_abs_error=float(np.abs(error).max()),
        psnr_db=psnr_db(want.frames, own.frames),
    )


def _latents(session: ort.InferenceSession, call: Inputs) -> NDArray[np.float32]:
    return np.asarray(session.run(None, call)[0], np.float32)[0]


def _save(model: ir.Model, path: Path) -> None:
    tensors = (value.const_value for value in model.graph.initializers.values())
    size_bytes = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    external = path.name + EXTERNAL_DATA_SUFFIX if size_bytes > MAX_EMBEDDED_BYTES else None
    ir.save(model, path, external_data=external)
