"""All plans of an exported preset: choose the precision, build or find, put beside the engines."""

from __future__ import annotations

import hashlib
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrorme_engines.errors import ManifestError
from mirrorme_engines.gpu import current_gpu
from mirrorme_engines.manifest import EngineSpec, Manifest, engine_sha256
from mirrorme_engines.tensorrt_plan import (
    PlanRecord,
    PlanSource,
    Precision,
    check_plan,
    plan_path,
)

from mirrorme_export.errors import InvalidRequest
from mirrorme_export.plan_cache import PlanCache, install_plan, write_durably
from mirrorme_export.precision_choice import (
    PrecisionChoice,
    choose_precision,
    decoder_calls,
    save_lowered,
)
from mirrorme_export.precision_graph import Level
from mirrorme_export.session_player import Sample, load_samples
from mirrorme_export.tensorrt_builder import BuiltPlan, build_plan, can_deserialize
from mirrorme_export.tensorrt_errors import TensorRTUnavailable
from mirrorme_export.tensorrt_fp8 import Fp8Choice, choose_fp8, save_fp8
from mirrorme_export.tensorrt_progress import Progress
from mirrorme_export.tensorrt_report import PlanRow, TensorRTReport
from mirrorme_export.tensorrt_target import (
    Device,
    TensorRTOptions,
    find_device,
    load_tensorrt,
    profiles,
)

Step = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class _Job:
    """What is the same for all plans of an export."""

    trt: Any
    folder: Path
    manifest: Manifest
    device: Device
    options: TensorRTOptions
    cache: PlanCache
    progress: Progress
    samples: tuple[Sample, ...]
    """To calibrate FP8 with; empty for other precisions."""


def default_cache(folder: Path) -> Path:
    """Beside the preset's folder, so that a new export of it does not lose the plans."""
    return folder.parent / ".plans"


def build_plans(
    folder: Path,
    options: TensorRTOptions,
    *,
    step: Step,
    cache: Path | None = None,
    progress: Progress = lambda text: None,
) -> TensorRTReport:
    """Puts a plan beside every ONNX file of the manifest in `folder`, and writes the report.

    Engines are built one at a time; plans that were built before are taken from the cache.

    Raises:
        ManifestError: the manifest or an ONNX file is missing, damaged or stale.
        TensorRTUnavailable, UnbuildableGraph: nothing is served that was not built.
    """
    manifest = Manifest.load(folder)
    trt = load_tensorrt(options.module)
    device = find_device(trt, options)
    device.check_precision(options.precision)
    job = _Job(
        trt=trt,
        folder=folder,
        manifest=manifest,
        device=device,
        options=options,
        cache=PlanCache(cache or default_cache(folder)),
        progress=progress,
        samples=_load_samples(manifest, options),
    )
    rows = []
    for spec in manifest.engines:
        with step(f"build {spec.name} for {device.architecture}"):
            rows.append(_build_engine(job, spec))
    report = TensorRTReport(
        target=options.target,
        version=trt.__version__,
        architecture=device.architecture,
        device=device.name,
        precision=options.precision,
        peak_host_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        rows=tuple(rows),
    )
    report.save(folder)
    return report


def check_plans(folder: Path, options: TensorRTOptions) -> list[PlanRecord]:
    """Checks all plans of a target before they are served.

    Where the GPU is at hand, each plan is loaded on it: there is no other sure check.

    Raises:
        ManifestError: names the first plan that must not be served, and why.
    """
    manifest = Manifest.load(folder)
    gpu = current_gpu()
    architecture = options.gpu or (gpu.architecture if gpu else None)
    if architecture is None:
        raise TensorRTUnavailable("no GPU here: say --gpu, such as sm89")
    trt = load_tensorrt(options.module) if gpu else None
    records = []
    for spec in manifest.engines:
        plan = plan_path(folder, spec, options.module, architecture)
        version = trt.__version__ if trt else None
        record = check_plan(plan, manifest, spec, architecture=architecture, module_version=version)
        if trt and (said := can_deserialize(trt, plan.read_bytes())):
            raise ManifestError(f"{plan} does not load on this GPU: {said}: build it again")
        records.append(record)
    return records


def _build_engine(job: _Job, spec: EngineSpec) -> PlanRow:
    onnx = job.folder / spec.file
    _check_onnx(onnx, spec)
    precision = _engine_precision(job, spec)
    choice = _choose(job, spec, onnx, "fp16" if precision == "fp8" else precision)
    fp8 = _choose_fp8(job, spec, choice.level) if precision == "fp8" else None
    source = PlanSource(
        engine=spec.name,
        engine_sha256=spec.sha256,
        weights_sha256=job.manifest.weights_sha256,
        module=job.options.module,
        module_version=job.trt.__version__,
        architecture=job.device.architecture,
        device=job.device.name,
        precision=precision,
        precision_level=choice.level if fp8 is None else f"{choice.level}+fp8",
        profiles=profiles(spec, job.options.typical_batch_size),
        flags=(*job.options.flags(), *([f"fp8={fp8.digest}"] if fp8 else [])),
    )
    start_s = time.monotonic()
    with job.cache.locked(source.key):
        built: BuiltPlan | None = None
        if (found := job.cache.find(source)) is None:
            built = _build(job, onnx, source, choice.level, fp8)
            found = job.cache.put(source, built.plan, built.facts)
        path, record = found
        target = plan_path(job.folder, spec, source.module, source.architecture)
        install_plan(path, record, target)
    return PlanRow(
        engine=spec.name,
        file=str(target.relative_to(job.folder)),
        precision_level=source.precision_level,
        precision_error=_largest_error(choice) if fp8 is None else fp8.row.latents_error,
        fp8=fp8,
        onnx_bytes=sum(file.stat().st_size for file in onnx.parent.glob(f"{onnx.name}*")),
        plan_bytes=record.plan_bytes,
        from_cache=built is None,
        seconds=time.monotonic() - start_s,
        facts=record.facts,
        warnings=built.warnings if built else (),
    )


def _check_onnx(onnx: Path, spec: EngineSpec) -> None:
    try:
        found = engine_sha256(onnx)
    except OSError as error:
        raise ManifestError(f"{onnx} cannot be read: {error.strerror}") from error
    if found != spec.sha256:
        raise ManifestError(
            f"{onnx} is not the file that the manifest describes: its sha256 is {found}, "
            f"the manifest's {spec.sha256}; run `make export` again"
        )


def _load_samples(manifest: Manifest, options: TensorRTOptions) -> tuple[Sample, ...]:
    if options.precision != "fp8":
        return ()
    if options.calibration is None:
        raise InvalidRequest("precision fp8 wants portraits and speech: say --calibration FOLDER")
    return tuple(load_samples(options.calibration, manifest))


def _engine_precision(job: _Job, spec: EngineSpec) -> Precision:
    """Only denoisers are computed in FP8; what is beside them is in fp16."""
    precision = job.options.precision
    return "fp16" if precision == "fp8" and spec.role != "denoiser" else precision


def _choose_fp8(job: _Job, spec: EngineSpec, level: Level) -> Fp8Choice:
    num_chunks = job.options.calibration_chunks
    said = f"{level} {num_chunks} {job.manifest.weights_sha256} {_engines_digest(job)}"
    digest = hashlib.sha256(said.encode())
    for sample in job.samples:
        digest.update(sample.image.tobytes())
        digest.update(sample.pcm.tobytes())
    path = job.cache.precision_choice(spec.sha256, f"fp8-{digest.hexdigest()}")
    with job.cache.locked(path.stem):
        if (choice := Fp8Choice.load(path)) is None:
            job.progress(f"calibrate {spec.name} in fp8")
            choice = choose_fp8(
                job.folder, job.manifest, spec, level, list(job.samples), num_chunks
            )
            choice.save(path)
    return choice


def _choose(job: _Job, spec: EngineSpec, onnx: Path, precision: Precision) -> PrecisionChoice:
    played = spec == job.manifest.engine("decoder") and precision != "fp32"
    # What decoders are given depends on the other engines.
    measured = f"{precision}-{_engines_digest(job)}" if played else precision
    path = job.cache.precision_choice(spec.sha256, measured)
    with job.cache.locked(path.stem):
        if (choice := PrecisionChoice.load(path)) is None:
            job.progress(f"measure {spec.name} in {precision}")
            calls = decoder_calls(job.folder, job.manifest) if played else ()
            choice = choose_precision(job.manifest, spec, onnx, precision, calls)
            choice.save(path)
    return choice


def _engines_digest(job: _Job) -> str:
    engines = "".join(engine.sha256 for engine in job.manifest.engines)
    return hashlib.sha256(engines.encode()).hexdigest()


def _build(
    job: _Job, onnx: Path, source: PlanSource, level: Level, fp8: Fp8Choice | None
) -> BuiltPlan:
    timings = job.cache.timing_cache(source.module, source.module_version, source.architecture)
    with tempfile.TemporaryDirectory(prefix="mirrorme-tensorrt-") as scratch:
        lowered = onnx
        precision = source.precision
        if fp8 is not None:
            lowered = Path(scratch) / "model.onnx"
            save_fp8(onnx, lowered, fp8)
        elif level != "none" and precision in ("fp16", "bf16"):
            lowered = Path(scratch) / "model.onnx"
            save_lowered(onnx, lowered, precision, level)
        built = build_plan(
            job.trt,
            lowered,
            source.profiles,
            job.device,
            job.options,
            job.progress,
            timings.read_bytes() if timings.exists() else b"",
        )
    if built.timing_cache:
        write_durably(timings, built.timing_cache)
    return built


def _largest_error(choice: PrecisionChoice) -> float | None:
    errors = [row.error for row in choice.rows if row.level == choice.level]
    return max(errors) if errors else None
