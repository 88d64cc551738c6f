"""Engines run in this process by TensorRT, from the plans that lie beside the ONNX files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np

from mirrorme_engines.batched_engine import BatchedEngine
from mirrorme_engines.compute import run_joined
from mirrorme_engines.engine import Tensors
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.errors import EngineFault, EngineUnavailable, ManifestError
from mirrorme_engines.gpu import Gpu, current_gpu
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.observer import EngineObserver
from mirrorme_engines.tensorrt_compute import TensorRTCompute
from mirrorme_engines.tensorrt_memory import CudaMemory
from mirrorme_engines.tensorrt_module import load_tensorrt
from mirrorme_engines.tensorrt_plan import TensorRTModule, check_plan, plan_file, plan_path

log = logging.getLogger(__name__)

OpenEngine = Callable[[EngineSpec], BatchedEngine]


def tensorrt_opener(
    folder: Path,
    manifest: Manifest,
    options: EngineOptions,
    observer: EngineObserver | None = None,
) -> tuple[OpenEngine, str]:
    """How a preset's engines are opened on the GPU at hand, and the platform's name.

    All are of one TensorRT: `tensorrt` if there are plans of it for this GPU, else
    `tensorrt_rtx`. Every plan is checked before the first is loaded.

    Raises:
        EngineUnavailable: there is no GPU, or the TensorRT that made the plans is not installed.
        ManifestError: a plan is missing, stale, damaged, or for another GPU or TensorRT.
    """
    gpu = current_gpu()
    if gpu is None:
        raise EngineUnavailable(
            "platform tensorrt runs on an NVIDIA GPU, and there is no GPU or no driver here: "
            "use platform onnxruntime"
        )
    module = find_module(folder, manifest, gpu)
    trt = load_tensorrt(module)
    for spec in manifest.engines:
        plan = plan_path(folder, spec, module, gpu.architecture)
        record = check_plan(
            plan,
            manifest,
            spec,
            architecture=gpu.architecture,
            module_version=trt.__version__,
        )
        if record.source.device not in ("", gpu.name):
            log.warning("%s was timed on %s, this is %s", plan, record.source.device, gpu.name)
    memory = CudaMemory()

    def open_one(spec: EngineSpec) -> BatchedEngine:
        plan = plan_path(folder, spec, module, gpu.architecture)
        try:
            compute = TensorRTCompute(trt, plan.read_bytes(), spec, memory)
        except ManifestError as error:
            raise ManifestError(f"{plan} cannot be served: {error}") from error
        if options.warm_up:
            _warm_up(spec, compute)
        return BatchedEngine(spec, compute, options.batch, observer)

    return open_one, f"{module} {trt.__version__} {gpu.name}"


def find_module(folder: Path, manifest: Manifest, gpu: Gpu) -> TensorRTModule:
    """The TensorRT that made the plans for this GPU.

    Raises:
        ManifestError: there are none; it says for which GPUs there are.
    """
    folders = [(folder / spec.file).parent for spec in manifest.engines]
    for module in get_args(TensorRTModule):
        name = plan_file(module, gpu.architecture)
        if any((version / name).exists() for version in folders):
            return module
    others = sorted({plan.name for version in folders for plan in version.glob("model.*.plan")})
    there = f"there are {', '.join(others)}" if others else "there are none at all"
    raise ManifestError(
        f"{folder} has no TensorRT plans for this GPU, {gpu.name} ({gpu.architecture}); {there}: "
        f"run `mirrorme-export tensorrt {folder} --target tensorrt` on it"
    )


def _warm_up(spec: EngineSpec, compute: TensorRTCompute) -> None:
    """The smallest batch, and the largest, which shows whether the memory is enough."""
    try:
        for num_rows in sorted({1, spec.max_batch_size}):
            run_joined(spec, compute, [_zeros(spec, num_rows)], [num_rows])
    except EngineFault:
        compute.abort()
        raise


def _zeros(spec: EngineSpec, num_rows: int) -> Tensors:
    return {tensor.name: np.zeros((num_rows, *tensor.dims), tensor.dtype) for tensor in spec.inputs}
