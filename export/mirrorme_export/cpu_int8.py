"""The decoder in 8 bits, for CPUs: its convolutions with scales measured on sessions played.

Scales come from all portraits but the last; the report is of the last portrait with another part
of the speech. Scales are fixed, so that a row of a batch does not depend on the others.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
from mirrorme_engines.manifest import EngineSpec, Manifest, OnnxFile, engine_sha256
from mirrorme_engines.silent_onnxruntime import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from mirrorme_export.errors import InvalidRequest
from mirrorme_export.session_player import Sample, SessionPlayer, open_session, psnr_db

MIN_PSNR_DB = 40.0
"""Of frames against those in float32: below it CPUs run float32."""
NUM_CHUNKS = 8
"""Of speech that each portrait says."""
FILE = "model.int8.onnx"
_PICTURE_WEIGHT_DIMS = 4
"""Of convolutions over height and width, for which ONNX Runtime has 8 bits."""


@dataclass(frozen=True)
class Int8Report:
    """How far the decoder in 8 bits is from the one in float32."""

    engine: str
    num_convolutions: int
    """In 8 bits."""
    num_calibration_chunks: int
    num_frames: int
    """Compared."""
    psnr_db: float
    limit_db: float
    joined_error: float
    """Largest difference of a row in a batch from the same row alone, in levels of 255."""

    @property
    def passed(self) -> bool:
        """Within the limits."""
        return self.psnr_db >= self.limit_db and not self.joined_error


def quantise_decoder(
    folder: Path, manifest: Manifest, samples: Sequence[Sample]
) -> tuple[Manifest, Int8Report]:
    """Writes the decoder in 8 bits beside the one of an export, if it is near enough to that.

    Args:
        folder: where the engines of `manifest` lie.
        manifest: of the export.
        samples: at least two; the last is only tested with.

    Returns:
        The manifest, which names the file if it was kept, and what was measured.

    Raises:
        InvalidRequest: the decoder has nothing to quantise.
    """
    spec = manifest.engine("decoder")
    exact = folder / spec.file
    player = SessionPlayer(folder, manifest)
    denoiser = open_session(folder / manifest.engine("denoiser").file)
    played = [
        player.play(sample, denoiser, first_chunk=0, num_chunks=NUM_CHUNKS)
        for sample in samples[:-1]
    ]
    tested = player.play(samples[-1], denoiser, first_chunk=NUM_CHUNKS, num_chunks=NUM_CHUNKS)
    windows = np.concatenate([session.windows for session in played])
    path = exact.with_name(FILE)
    num_convolutions = _quantise(exact, path, spec, windows)
    frames, joined = _decoded(path, spec, tested.windows)
    report = Int8Report(
        engine=spec.name,
        num_convolutions=num_convolutions,
        num_calibration_chunks=len(windows),
        num_frames=len(frames),
        psnr_db=psnr_db(tested.frames, frames),
        limit_db=MIN_PSNR_DB,
        joined_error=float(np.abs(joined.astype(np.int16) - frames).max()),
    )
    if not report.passed:
        path.unlink()
        return manifest, report
    file = str(PurePosixPath(spec.file).with_name(FILE))
    quantised = dataclasses.replace(spec, cpu=OnnxFile(file, engine_sha256(path)))
    engines = tuple(quantised if each is spec else each for each in manifest.engines)
    return dataclasses.replace(manifest, engines=engines), report


class _Windows(CalibrationDataReader):
    """Feeds the decoder's inputs one by one."""

    def __init__(self, name: str, windows: NDArray[np.float32]) -> None:
        self._feeds: Iterator[dict[str, NDArray[np.float32]]] = (
            {name: window[None]} for window in windows
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:  # pyright: ignore[reportIncompatibleMethodOverride] - says dict, wants None at the end
        return next(self._feeds, None)


def _quantise(exact: Path, path: Path, spec: EngineSpec, windows: NDArray[np.float32]) -> int:
    """Writes `path`; returns how many convolutions are in 8 bits."""
    with tempfile.TemporaryDirectory(prefix="mirrorme-int8-") as scratch, _quiet():
        prepared = Path(scratch) / "model.onnx"
        quant_pre_process(str(exact), str(prepared), skip_symbolic_shape=True)
        names = _picture_convolutions(onnx.load(prepared))
        if not names:
            raise InvalidRequest(f"{spec.name} has no convolutions of pictures to quantise")
        quantize_static(
            str(prepared),
            str(path),
            _Windows(spec.inputs[0].name, windows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=names,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Without VNNI, CPUs add two products in 16 bits: those of 8-bit weights overflow.
            reduce_range=True,
        )
    return len(names)


def _picture_convolutions(model: onnx.ModelProto) -> list[str]:
    dims = {weight.name: len(weight.dims) for weight in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and dims.get(node.input[1]) == _PICTURE_WEIGHT_DIMS
    ]


def _decoded(
    path: Path, spec: EngineSpec, windows: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frames of windows decoded one by one, and of the same windows in batches."""
    session = open_session(path)
    alone = [_run(session, spec, window[None]) for window in windows]
    joined = [
        _run(session, spec, windows[start : start + spec.max_batch_size])
        for start in range(0, len(windows), spec.max_batch_size)
    ]
    return np.concatenate(alone), np.concatenate(joined)


def _run(
    session: ort.InferenceSession, spec: EngineSpec, windows: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """`[B, D + Tc + L, C, h, w]` to `[B * 8 * Tc, H, W, 3]`."""
    (frames,) = session.run(None, {spec.inputs[0].name: windows})
    return np.concatenate(np.asarray(frames, np.uint8))


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back advice to prepare the graph, which it is, and the like."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
