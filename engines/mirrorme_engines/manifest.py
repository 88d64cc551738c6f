"""The manifest: all that the gateway knows of a model.

Export writes `manifest.json` beside the engines; the gateway, the Triton configuration and the
TensorRT profiles are read from it. It holds no weights and no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mirrorme_engines.errors import ManifestError

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"

Role = Literal["identity_encoder", "audio_encoder", "denoiser", "decoder"]
DType = Literal["uint8", "int64", "float32"]
ROLES: tuple[Role, ...] = get_args(Role)
EXTERNAL_DATA_SUFFIX = ".data"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of an engine."""

    name: str
    dtype: DType
    dims: tuple[int, ...]
    """Shape without the leading batch dimension; every entry is fixed."""

    def __post_init__(self) -> None:
        """Refuses empty dimensions."""
        if any(dim < 1 for dim in self.dims):
            raise ManifestError(f"dims is {list(self.dims)}: want only sizes of 1 or more")


@dataclass(frozen=True)
class OnnxFile:
    """A graph on disk."""

    file: str
    """Relative to the manifest."""
    sha256: str
    """Of the file, and of its external data if it has any: see `engine_sha256`."""

    def __post_init__(self) -> None:
        """Refuses paths that lead elsewhere, and what is no hash."""
        file = PurePosixPath(self.file)
        if file.is_absolute() or ".." in file.parts or not file.name:
            raise ManifestError(f"file is {self.file!r}: want a path inside the manifest's folder")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ManifestError(f"sha256 is {self.sha256!r}: want 64 hexadecimal digits")


@dataclass(frozen=True)
class EngineSpec:
    """One engine."""

    name: str
    """Unique; the folder of the engine, and its Triton model name."""
    role: Role
    file: str
    """ONNX file in float32, relative to the manifest."""
    sha256: str
    """As in `OnnxFile`."""
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    num_steps: int | None = None
    """Denoising steps inside the graph; None for other roles."""
    cpu: OnnxFile | None = None
    """The same in 8 bits, which CPUs run instead; it lies beside `file`."""

    def __post_init__(self) -> None:
        """Refuses what no engine can be."""
        exact = OnnxFile(self.file, self.sha256)
        if self.cpu and PurePosixPath(self.cpu.file).parent != PurePosixPath(exact.file).parent:
            raise ManifestError(f"cpu.file is {self.cpu.file!r}: want it beside {self.file}")
        if self.max_batch_size < 1:
            raise ManifestError(f"max_batch_size is {self.max_batch_size}: want at least 1")
        if (self.num_steps is None) == (self.role == "denoiser"):
            raise ManifestError(f"num_steps is {self.num_steps!r}: want it for denoisers alone")
        for key in ("inputs", "outputs"):
            names = [tensor.name for tensor in getattr(self, key)]
            if not names or len(set(names)) != len(names):
                raise ManifestError(f"{key} is {names}: want at least one, with unique names")

    @property
    def onnx_files(self) -> tuple[OnnxFile, ...]:
        """All that are there."""
        exact = OnnxFile(self.file, self.sha256)
        return (exact, self.cpu) if self.cpu else (exact,)

    def threads_on_cpu(self, num_threads: int) -> int:
        """How many of so many threads one run is divided between.

        One for the audio encoder: ONNX Runtime gives each thread a part of the spectrogram's
        logarithms, the last elements of a part go by another formula, and so the last bits of a
        row would depend on its batch.
        """
        return 1 if self.role == "audio_encoder" else num_threads

    def onnx_file(self, *, on_cpu: bool) -> OnnxFile:
        """The one to run."""
        return self.onnx_files[-1 if on_cpu else 0]


@dataclass(frozen=True)
class VideoSpec:
    """Frames and latents."""

    height_px: int
    width_px: int
    frame_rate_numerator: int
    frame_rate_denominator: int
    frames_per_latent: int
    latent_channels: int
    latent_height: int
    latent_width: int

    def __post_init__(self) -> None:
        """Refuses what no video has."""
        _refuse_below(1, self, *(field.name for field in dataclasses.fields(self)))

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second, exactly."""
        return Fraction(self.frame_rate_numerator, self.frame_rate_denominator)


@dataclass(frozen=True)
class ChunkSpec:
    """What one denoiser call makes and sees, in latent frames."""

    num_latents: int
    motion_latents: int
    decoder_context_latents: int
    """Latents before a chunk that the decoder is given."""
    decoder_lookahead_latents: int
    """Latents after a chunk that the decoder needs before it can make the chunk's frames."""

    def __post_init__(self) -> None:
        """Refuses what no chunk is."""
        _refuse_below(1, self, "num_latents")
        _refuse_below(
            0, self, "motion_latents", "decoder_context_latents", "decoder_lookahead_latents"
        )


@dataclass(frozen=True)
class AudioSpec:
    """Which audio the audio encoder wants for chunk c.

    The chunk starts at sample `s = c * chunk_samples` (a fraction). Its window starts at
    `floor(s / hop_samples) * hop_samples - past_samples` and is `window_samples` long; samples
    before the session's start and after the end of speech are zeros. `phase` is `c % num_phases`.
    """

    sample_rate_hz: int
    hop_samples: int
    past_samples: int
    window_samples: int
    num_phases: int

    def __post_init__(self) -> None:
        """Refuses what no audio has."""
        _refuse_below(1, self, "sample_rate_hz", "hop_samples", "window_samples", "num_phases")
        _refuse_below(0, self, "past_samples")


@dataclass(frozen=True)
class RangeSpec:
    """An inclusive range with its default."""

    min: float
    max: float
    default: float

    def __post_init__(self) -> None:
        """Refuses a range without its default."""
        if not -math.inf < self.min <= self.default <= self.max < math.inf:
            raise ManifestError(
                f"min, default, max are {self.min}, {self.default}, {self.max}: want them in order"
            )


@dataclass(frozen=True)
class ControlSpec:
    """One facial control, in the order of the `controls` tensor."""

    name: str
    unit: Literal["ratio", "degree"]
    range: RangeSpec


@dataclass(frozen=True)
class Manifest:
    """One exported preset."""

    format_version: int
    preset: str
    trained: bool
    """False: the weights are random, for development only."""
    weights_sha256: str
    versions: dict[str, str]
    """Package name to version, of what wrote the engines."""
    video: VideoSpec
    chunk: ChunkSpec
    audio: AudioSpec
    hands: bool
    """True: the hand keypoints have an effect."""
    controls: tuple[ControlSpec, ...]
    expression: RangeSpec | None
    """Range of the strength of speech; None: the checkpoint has no such control."""
    guidance: RangeSpec | None
    """Range of the guidance strength; None: the denoiser has no `guidance` input."""
    engines: tuple[EngineSpec, ...]
    """The first of a role is the default; further denoisers have other numbers of steps."""

    def __post_init__(self) -> None:
        """Checks what the type of each field cannot."""
        if self.format_version != FORMAT_VERSION:
            raise ManifestError(
                f"manifest format {self.format_version} is not served here: want {FORMAT_VERSION}; "
                "export again with this version's `make export`"
            )
        present = {engine.role for engine in self.engines}
        if missing := [role for role in ROLES if role not in present]:
            raise ManifestError(f"manifest lacks engines: {', '.join(missing)}")
        names = [engine.name for engine in self.engines]
        if len(set(names)) != len(names):
            raise ManifestError(f"engine names are not unique: {', '.join(names)}")
        num_grid_phases = (self.chunk_samples / self.audio.hop_samples).denominator
        latest_start = self.audio.hop_samples * Fraction(num_grid_phases - 1, num_grid_phases)
        needed = self.audio.past_samples + math.ceil(latest_start + self.chunk_samples)
        if self.audio.window_samples < needed:
            raise ManifestError(
                f"audio.window_samples is {self.audio.window_samples}: want at least {needed}, "
                f"or a window ends before its chunk of {float(self.chunk_samples):g} samples does"
            )

    @property
    def chunk_frames(self) -> int:
        """Frames that one chunk makes."""
        return self.chunk.num_latents * self.video.frames_per_latent

    @property
    def samples_per_frame(self) -> Fraction:
        """Audio samples a frame, exactly (2000/3 at 24 FPS and 16 kHz)."""
        return self.audio.sample_rate_hz / self.video.frame_rate

    @property
    def chunk_samples(self) -> Fraction:
        """Audio samples a chunk, exactly."""
        return self.chunk_frames * self.samples_per_frame

    @property
    def algorithmic_latency_ms(self) -> float:
        """From a chunk's first sample to the last sample that its frames wait for, at worst."""
        lookahead = self.chunk.decoder_lookahead_latents / self.chunk.num_latents
        waited = self.audio.window_samples - self.audio.past_samples
        waited += math.ceil(lookahead) * float(self.chunk_samples)
        return 1000 * float(waited) / self.audio.sample_rate_hz

    def engine(self, role: Role) -> EngineSpec:
        """The default engine of a role."""
        return next(engine for engine in self.engines if engine.role == role)

    def save(self, folder: Path) -> Path:
        """Writes `manifest.json` into the folder, atomically."""
        path = folder / MANIFEST_FILE
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        partial.replace(path)
        return path

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Reads and checks `manifest.json`; unknown and missing keys are errors.

        Raises:
            ManifestError: with the file's path and the key at fault.
        """
        path = folder / MANIFEST_FILE
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise ManifestError(f"no {path}: run `make export` first") from error
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path} cannot be read: {error}") from error
        try:
            return _parse(cls, document, "manifest")
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from error


def _parse(kind: Any, value: Any, where: str) -> Any:
    """Builds `kind` from parsed JSON, strictly. `where` names the value in errors."""
    if dataclasses.is_dataclass(kind):
        return _parse_dataclass(kind, value, where)
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_parse(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _parse(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _parse(next(arg for arg in args if arg is not type(None)), value, where)
    if origin is Literal:
        if value in args:
            return value
        raise ManifestError(f"{where} is {value!r}: want one of {', '.join(map(repr, args))}")
    if kind is float and type(value) in (int, float):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ManifestError(f"{where} is {value!r}: want {getattr(kind, '__name__', kind)}")


def _parse_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ManifestError(f"{where} is {value!r}: want an object")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(value.keys() - fields.keys()):
        raise ManifestError(f"{where} has unknown keys: {', '.join(unknown)}")
    required = {name for name, f in fields.items() if f.default is dataclasses.MISSING}
    if missing := sorted(required - value.keys()):
        raise ManifestError(f"{where} lacks keys: {', '.join(missing)}")
    hints = get_type_hints(kind)
    values = {key: _parse(hints[key], item, f"{where}.{key}") for key, item in value.items()}
    try:
        return kind(**values)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from error


def _refuse_below(least: int, spec: Any, *names: str) -> None:
    for name in names:
        if getattr(spec, name) < least:
            raise ManifestError(f"{name} is {getattr(spec, name)}: want at least {least}")


def engine_sha256(path: Path) -> str:
    """Hash of an engine's file followed by its external data, `<file>.data`, if that exists."""
    digest = hashlib.sha256()
    external = path.with_name(path.name + EXTERNAL_DATA_SUFFIX)
    for part in (path, external) if external.exists() else (path,):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
