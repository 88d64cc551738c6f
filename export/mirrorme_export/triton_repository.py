"""The Triton model repository: `config.pbtxt` files written beside the engines of a manifest.

The exported folder itself becomes the repository: every engine already lies in
`<name>/<version>/model.onnx`. Nothing here is typed by hand: names, types, shapes and batch sizes
are the manifest's, and the schema is Triton's own protobuf message.
"""

# Triton's generated messages have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal, assert_never, get_args

from google.protobuf import text_format
from mirrorme_engines.errors import ManifestError
from mirrorme_engines.manifest import DType, EngineSpec, Manifest, OnnxFile, TensorSpec
from mirrorme_engines.tensorrt_plan import check_plan, plan_file
from tritonclient.grpc import model_config_pb2

Platform = Literal["tensorrt_plan", "onnxruntime_onnx", "python"]
PLATFORMS: tuple[Platform, ...] = get_args(Platform)
CONFIG_FILE = "config.pbtxt"
PYTHON_MODEL = Path(__file__).with_name("triton_python_model.py")

_TYPES: dict[DType, model_config_pb2.DataType] = {
    "uint8": model_config_pb2.TYPE_UINT8,
    "int64": model_config_pb2.TYPE_INT64,
    "float32": model_config_pb2.TYPE_FP32,
}


@dataclass(frozen=True)
class TritonOptions:
    """How Triton serves the engines; what they are is the manifest's."""

    platform: Platform = "onnxruntime_onnx"
    instances: int = 1
    """Copies of each engine on each device."""
    device: Literal["cpu", "gpu"] = "cpu"
    threads: int = 1
    """Threads that one instance computes with on the CPU; 0: one a core."""
    max_queue_calls: int = 0
    """Waiting calls an engine; further ones are refused at once. 0: no bound but the clients'."""
    queue_timeout_ms: int = 0
    """Longest wait of a call before it is refused; a caller may ask for less, not for more.
    0: the clients' deadlines alone.

    With either bound, Triton does not prepare a batch while another runs, and (up to 2.73 at least)
    notices a free instance only at the next call, or after half a second: four sessions on one
    server then stand still again and again. `tests/triton` shows it."""
    max_queue_delay_us: int = 1000
    """How long a call may wait for others to share its batch."""

    def __post_init__(self) -> None:
        """Refuses what Triton would refuse later, or not at all."""
        if self.platform not in PLATFORMS:
            raise ValueError(f"platform {self.platform!r}: want one of {', '.join(PLATFORMS)}")
        if self.platform == "tensorrt_plan" and self.device != "gpu":
            raise ValueError("tensorrt_plan needs device 'gpu'")
        for name, low in (
            ("instances", 1),
            ("threads", 0),
            ("max_queue_calls", 0),
            ("queue_timeout_ms", 0),
            ("max_queue_delay_us", 0),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}: want at least {low}")


def write_triton_repository(folder: Path, options: TritonOptions) -> list[Path]:
    """Makes an exported folder a model repository; configurations of an earlier call are replaced.

    Returns:
        The files written.

    Raises:
        ManifestError: the manifest or a file that it names is missing, or a plan is stale.
    """
    manifest = Manifest.load(folder)
    written: list[Path] = []
    for spec in manifest.engines:
        version_folder = (folder / spec.file).parent
        plans = _plans(version_folder, manifest, spec) if _wants_plans(options) else {}
        config = model_config(manifest, spec, options, plans)
        if options.platform == "python":
            model = version_folder / "model.py"
            shutil.copyfile(PYTHON_MODEL, model)
            written.append(model)
        file = version_folder / config.default_model_filename
        if not file.exists():
            raise ManifestError(f"{file} is missing: export or build engine {spec.name} first")
        path = folder / spec.name / CONFIG_FILE
        _write(path, text_format.MessageToString(config))
        written.append(path)
    return written


def model_config(
    manifest: Manifest,
    spec: EngineSpec,
    options: TritonOptions,
    plans: Mapping[str, str] = MappingProxyType({}),
) -> model_config_pb2.ModelConfig:
    """What Triton is told of one engine.

    Args:
        manifest: the preset's.
        spec: the engine.
        options: how it is served.
        plans: TensorRT plan files by compute capability, such as `9.0`.

    Raises:
        ManifestError: the engine's file does not lie where Triton looks for it.
    """
    onnx = spec.onnx_file(on_cpu=options.device == "cpu" or options.platform == "python")
    version, file = model_version(spec.name, onnx)
    config = model_config_pb2.ModelConfig(
        name=spec.name,
        max_batch_size=spec.max_batch_size,
        version_policy=model_config_pb2.ModelVersionPolicy(
            specific=model_config_pb2.ModelVersionPolicy.Specific(versions=[version])
        ),
        input=[_input(tensor) for tensor in spec.inputs],
        output=[_output(tensor) for tensor in spec.outputs],
        instance_group=[_instance_group(options)],
        dynamic_batching=_dynamic_batching(options),
        model_warmup=[_warmup(spec, size) for size in _warmup_sizes(spec, options)],
    )
    match options.platform:
        case "tensorrt_plan":
            config.platform = "tensorrt_plan"
            config.default_model_filename = next(iter(plans.values()), "")
            config.cc_model_filenames.update(plans)
        case "onnxruntime_onnx":
            config.platform = "onnxruntime_onnx"
            config.default_model_filename = file
            if options.device == "cpu":
                threads = spec.threads_on_cpu(options.threads)
                config.parameters["intra_op_thread_count"].string_value = str(threads)
        case "python":
            config.backend = "python"
            config.default_model_filename = "model.py"
            config.parameters["onnx_file"].string_value = file
            config.parameters["onnx_sha256"].string_value = onnx.sha256
            config.parameters["threads"].string_value = str(spec.threads_on_cpu(options.threads))
        case _:
            assert_never(options.platform)
    for key, value in identity_parameters(manifest, spec).items():
        config.parameters[key].string_value = value
    return config


def _wants_plans(options: TritonOptions) -> bool:
    return options.platform == "tensorrt_plan"


def _plans(version_folder: Path, manifest: Manifest, spec: EngineSpec) -> dict[str, str]:
    """Checked plan files by compute capability; Triton takes the one of the GPU at hand."""
    plans: dict[str, str] = {}
    for plan in sorted(version_folder.glob(plan_file("tensorrt", "sm*"))):
        architecture = check_plan(plan, manifest, spec).source.architecture
        plans[f"{architecture[2:-1]}.{architecture[-1]}"] = plan.name
    if not plans:
        raise ManifestError(
            f"{version_folder} holds no {plan_file('tensorrt', 'sm*')}: "
            "build it first (mirrorme-export tensorrt --target tensorrt)"
        )
    return plans


def identity_parameters(manifest: Manifest, spec: EngineSpec) -> dict[str, str]:
    """What a client compares with its own manifest before it sends anything."""
    return {
        "mirrorme_manifest_format": str(manifest.format_version),
        "mirrorme_preset": manifest.preset,
        "mirrorme_weights_sha256": manifest.weights_sha256,
        "mirrorme_engine_sha256": spec.sha256,
        "mirrorme_versions": json.dumps(manifest.versions, sort_keys=True),
    }


def model_version(model: str, onnx: OnnxFile) -> tuple[int, str]:
    """Version number and file name out of `<model>/<version>/<file>`."""
    match PurePosixPath(onnx.file).parts:
        case (name, version, file) if name == model and version.isdecimal():
            return int(version), file
    raise ManifestError(f"engine file {onnx.file!r}: Triton wants {model}/<version>/<file>")


def _input(tensor: TensorSpec) -> model_config_pb2.ModelInput:
    message = model_config_pb2.ModelInput(name=tensor.name, data_type=_TYPES[tensor.dtype])
    _set_dims(message, tensor)
    return message


def _output(tensor: TensorSpec) -> model_config_pb2.ModelOutput:
    message = model_config_pb2.ModelOutput(name=tensor.name, data_type=_TYPES[tensor.dtype])
    _set_dims(message, tensor)
    return message


def _set_dims(
    message: model_config_pb2.ModelInput | model_config_pb2.ModelOutput, tensor: TensorSpec
) -> None:
    # Triton has no tensors of the batch dimension alone: they travel as [B, 1].
    message.dims.extend(tensor.dims or (1,))
    if not tensor.dims:
        message.reshape.SetInParent()


def _instance_group(options: TritonOptions) -> model_config_pb2.ModelInstanceGroup:
    kinds = model_config_pb2.ModelInstanceGroup
    kind = kinds.KIND_GPU if options.device == "gpu" else kinds.KIND_CPU
    return kinds(count=options.instances, kind=kind)


def _dynamic_batching(options: TritonOptions) -> model_config_pb2.ModelDynamicBatching:
    batching = model_config_pb2.ModelDynamicBatching(
        max_queue_delay_microseconds=options.max_queue_delay_us
    )
    if options.max_queue_calls or options.queue_timeout_ms:
        policy = batching.default_queue_policy
        policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
        policy.default_timeout_microseconds = options.queue_timeout_ms * 1000
        policy.allow_timeout_override = options.queue_timeout_ms > 0
        policy.max_queue_size = options.max_queue_calls
    return batching


def _warmup_sizes(spec: EngineSpec, options: TritonOptions) -> list[int]:
    """On GPUs each size that is likely, since each may choose its own kernels or CUDA graph."""
    if options.device == "cpu":
        return [1]
    powers = (2**i for i in range(spec.max_batch_size.bit_length()))
    return sorted({*powers, spec.max_batch_size})


def _warmup(spec: EngineSpec, batch_size: int) -> model_config_pb2.ModelWarmup:
    message = model_config_pb2.ModelWarmup(name=f"batch_{batch_size}", batch_size=batch_size)
    for tensor in spec.inputs:
        message.inputs[tensor.name].data_type = _TYPES[tensor.dtype]
        message.inputs[tensor.name].dims.extend(tensor.dims or (1,))
        message.inputs[tensor.name].zero_data = True
    return message


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)
