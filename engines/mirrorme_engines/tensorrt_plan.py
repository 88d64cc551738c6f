"""TensorRT plans beside an engine's ONNX file, and the record that says what each was built of.

A plan runs on one GPU architecture, with one TensorRT, and does not say of which ONNX file it
was made. The record beside it (`<plan>.json`) does, so that a plan that is stale, damaged or for
another GPU is found and named before it is served, also where there is no GPU.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mirrorme_engines.errors import ManifestError
from mirrorme_engines.manifest import EngineSpec, Manifest

RECORD_FORMAT = 1
RECORD_SUFFIX = ".json"

TensorRTModule = Literal["tensorrt", "tensorrt_rtx"]
Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8"]


@dataclass(frozen=True)
class Profile:
    """Shapes of one input, batch first: the smallest, the one tuned for, the largest."""

    name: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True)
class PlanSource:
    """All that a plan depends on. Equal sources make plans that can stand for each other."""

    engine: str
    engine_sha256: str
    """Of the ONNX file and its external data, as in the manifest."""
    weights_sha256: str
    module: TensorRTModule
    module_version: str
    architecture: str
    """Such as `sm89`."""
    device: str
    """The GPU's name if the plan was timed on it; empty if it was built without."""
    precision: Precision
    precision_level: str
    """Which operations were lowered; see `mirrorme_export.precision_graph`."""
    profiles: tuple[Profile, ...]
    flags: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names the plan in a cache."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class PlanFacts:
    """What TensorRT said of a plan when it was built."""

    num_network_layers: int
    """As parsed."""
    num_engine_layers: int | None
    """After fusion; None if it was built without a GPU."""
    device_memory_bytes: int | None
    """Scratch of one execution context; None likewise."""
    build_s: float


@dataclass(frozen=True)
class PlanRecord:
    """What lies beside a plan."""

    format_version: int
    source: PlanSource
    plan_sha256: str
    plan_bytes: int
    facts: PlanFacts

    def save(self, path: Path) -> None:
        """Writes the record atomically."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> PlanRecord:
        """Reads a record.

        Raises:
            ManifestError: it is missing, damaged, or of another version.
        """
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise ManifestError(f"{path} is missing: build the plan again") from error
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path} cannot be read: {error}: build the plan again") from error
        try:
            return _record(document)
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"{path} is damaged ({error}): build the plan again") from error


def plan_file(module: TensorRTModule, architecture: str) -> str:
    """Name of a plan in an engine's version folder."""
    match module:
        case "tensorrt":
            return f"model.{architecture}.plan"
        case "tensorrt_rtx":
            return f"model.rtx-{architecture}.plan"


def plan_path(folder: Path, spec: EngineSpec, module: TensorRTModule, architecture: str) -> Path:
    """Where the plan of an engine lies: beside its ONNX file."""
    return (folder / spec.file).with_name(plan_file(module, architecture))


def record_path(plan: Path) -> Path:
    """Where the record of a plan lies."""
    return plan.with_name(plan.name + RECORD_SUFFIX)


def check_plan(
    plan: Path,
    manifest: Manifest,
    spec: EngineSpec,
    *,
    architecture: str | None = None,
    module_version: str | None = None,
) -> PlanRecord:
    """Refuses a plan that is not of this manifest, damaged, or not for this machine.

    Args:
        plan: the file.
        manifest: what is to be served.
        spec: the engine that the plan stands for.
        architecture: of the GPU that will run it; None: not known here, not checked.
        module_version: of the TensorRT that will run it; None: not known here, not checked.

    Raises:
        ManifestError: names the plan, what it is, and what is wanted.
    """
    record = PlanRecord.load(record_path(plan))
    source = record.source
    for noun, got, want in (
        ("engine", source.engine, spec.name),
        ("weights", source.weights_sha256, manifest.weights_sha256),
        ("ONNX file", source.engine_sha256, spec.sha256),
    ):
        if got != want:
            raise ManifestError(
                f"{plan} is stale: it was built of {noun} {got}, the manifest has {want}: "
                "build it again"
            )
    largest = {profile.name: profile.max for profile in source.profiles}
    wanted = {tensor.name: (spec.max_batch_size, *tensor.dims) for tensor in spec.inputs}
    if largest != wanted:
        raise ManifestError(
            f"{plan} is stale: its largest inputs are {largest}, the manifest's {wanted}: "
            "build it again"
        )
    if architecture is not None and source.architecture != architecture:
        raise ManifestError(
            f"{plan} is for another GPU: it was built for {source.architecture}, this machine has "
            f"{architecture}: build it for {architecture}"
        )
    if module_version is not None and source.module_version != module_version:
        raise ManifestError(
            f"{plan} was built by {source.module} {source.module_version}, this machine has "
            f"{module_version}: build it again"
        )
    check_bytes(plan, record)
    return record


def check_bytes(plan: Path, record: PlanRecord) -> None:
    """Refuses a plan whose bytes are not those that were built.

    Raises:
        ManifestError: names the plan and both sizes or hashes.
    """
    try:
        size_bytes = plan.stat().st_size
        if size_bytes != record.plan_bytes:
            raise ManifestError(
                f"{plan} is damaged: it has {size_bytes} bytes, {record.plan_bytes} were built: "
                "build it again"
            )
        found = file_sha256(plan)
    except OSError as error:
        raise ManifestError(f"{plan} cannot be read: {error.strerror}") from error
    if found != record.plan_sha256:
        raise ManifestError(
            f"{plan} is damaged: its sha256 is {found}, {record.plan_sha256} was built: "
            "build it again"
        )


def file_sha256(path: Path) -> str:
    """Hash of one file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _record(document: dict[str, Any]) -> PlanRecord:
    if document["format_version"] != RECORD_FORMAT:
        raise ValueError(f"format {document['format_version']}, want {RECORD_FORMAT}")
    source = dict(document["source"])
    if source["module"] not in get_args(TensorRTModule):
        raise ValueError(f"module {source['module']!r}")
    source["flags"] = tuple(source["flags"])
    source["profiles"] = tuple(
        Profile(p["name"], tuple(p["min"]), tuple(p["opt"]), tuple(p["max"]))
        for p in source["profiles"]
    )
    facts = PlanFacts(**document["facts"])
    return PlanRecord(**{**document, "source": PlanSource(**source), "facts": facts})
