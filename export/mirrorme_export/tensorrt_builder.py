"""One ONNX file to one TensorRT plan, by `tensorrt` or `tensorrt_rtx`. Keeps and caches nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrorme_engines.tensorrt_module import tensorrt_log
from mirrorme_engines.tensorrt_plan import PlanFacts, Profile

from mirrorme_export.tensorrt_errors import UnbuildableGraph
from mirrorme_export.tensorrt_progress import Progress, progress_monitor
from mirrorme_export.tensorrt_target import Device, TensorRTOptions


@dataclass(frozen=True)
class BuiltPlan:
    """What a build gave."""

    plan: bytes
    facts: PlanFacts
    timing_cache: bytes
    """Empty where there is none."""
    warnings: tuple[str, ...]


def build_plan(
    trt: Any,
    onnx: Path,
    profiles: tuple[Profile, ...],
    device: Device,
    options: TensorRTOptions,
    progress: Progress,
    timing_cache: bytes = b"",
) -> BuiltPlan:
    """Parses and builds; blocks for as long as that takes.

    Raises:
        UnbuildableGraph: with TensorRT's words.
    """
    start_s = time.monotonic()
    logger = tensorrt_log(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, logger, onnx)
    config = builder.create_builder_config()
    _configure(trt, config, device, options)
    config.progress_monitor = monitor = progress_monitor(trt, progress)
    # TensorRT for RTX times nothing when it builds.
    cache = options.target == "tensorrt" and _set_timing_cache(config, timing_cache)
    config.add_optimization_profile(_profile(builder, network, profiles, onnx))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UnbuildableGraph(f"{onnx} does not build: {logger.said()}")
    data = bytes(plan)
    num_layers, memory_bytes = _ask_engine(trt, logger, data) if device.is_here else (None, None)
    del monitor
    return BuiltPlan(
        plan=data,
        facts=PlanFacts(
            num_network_layers=network.num_layers,
            num_engine_layers=num_layers,
            device_memory_bytes=memory_bytes,
            build_s=round(time.monotonic() - start_s, 3),
        ),
        timing_cache=bytes(config.get_timing_cache().serialize()) if cache else b"",
        warnings=tuple(logger.warnings),
    )


def can_deserialize(trt: Any, plan: bytes) -> str | None:
    """Loads a plan on the GPU at hand. Returns TensorRT's complaint, None if it loads."""
    logger = tensorrt_log(trt)
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    return None if engine is not None else logger.said()


def _parse(trt: Any, network: Any, logger: Any, onnx: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    # By path, so that external data is found and never held twice.
    if parser.parse_from_file(str(onnx)):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    told = "; ".join(f"node {e.node_name()} ({e.node_operator()}): {e.desc()}" for e in errors)
    raise UnbuildableGraph(f"{onnx} does not parse: {told or logger.said()}")


def _configure(trt: Any, config: Any, device: Device, options: TensorRTOptions) -> None:
    if options.target == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        capability = trt.ComputeCapability.__members__[device.architecture.upper()]
        config.set_compute_capability(capability, 0)
    if options.precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


def _set_timing_cache(config: Any, data: bytes) -> bool:
    """False: TensorRT refuses even an empty cache."""
    cache = config.create_timing_cache(data)
    if cache is None and data:
        # Of another version or damaged: worth no more than an empty one.
        cache = config.create_timing_cache(b"")
    return cache is not None and bool(config.set_timing_cache(cache, ignore_mismatch=False))


def _profile(builder: Any, network: Any, profiles: tuple[Profile, ...], onnx: Path) -> Any:
    names = {network.get_input(i).name for i in range(network.num_inputs)}
    if names != {profile.name for profile in profiles}:
        raise UnbuildableGraph(
            f"{onnx} has inputs {', '.join(sorted(names))}: "
            f"want {', '.join(profile.name for profile in profiles)}"
        )
    made = builder.create_optimization_profile()
    for profile in profiles:
        made.set_shape(profile.name, profile.min, profile.opt, profile.max)
    return made


def _ask_engine(trt: Any, logger: Any, plan: bytes) -> tuple[int, int]:
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise UnbuildableGraph(f"the plan was built and does not load: {logger.said()}")
    return engine.num_layers, engine.device_memory_size_v2
