"""A Triton model repository made from an exported preset, with plans from a cache or built.

What a server's pod does before its server starts, on the GPU that the server will use. The export
may be read-only and shared; the repository is the server's own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirrorme_engines.manifest import EXTERNAL_DATA_SUFFIX, MANIFEST_FILE, Manifest

from mirrorme_export.errors import InvalidRequest
from mirrorme_export.staging import staged
from mirrorme_export.tensorrt_progress import Progress
from mirrorme_export.tensorrt_target import TensorRTOptions
from mirrorme_export.triton_repository import TritonOptions, write_triton_repository

if TYPE_CHECKING:
    from mirrorme_export.tensorrt_report import TensorRTReport


@dataclass(frozen=True)
class RepositoryOptions:
    """How the engines are served, and by which plans."""

    triton: TritonOptions
    plans: TensorRTOptions | None = None
    """None for platforms that run the ONNX files."""
    cache: Path | None = None
    """Where plans are kept; None only where there are none. Several machines may share it."""

    def __post_init__(self) -> None:
        """Refuses what does not fit."""
        if (self.triton.platform == "tensorrt_plan") != (self.plans is not None):
            raise InvalidRequest("platform tensorrt_plan goes with options of plans, no other does")
        if self.plans is not None and self.cache is None:
            raise InvalidRequest("plans want --cache: without it every server builds its own")


def make_repository(
    source: Path,
    target: Path,
    options: RepositoryOptions,
    *,
    step: Callable[[str], AbstractContextManager[None]],
    progress: Progress = lambda text: None,
) -> TensorRTReport | None:
    """Makes `target` a repository of the preset in `source`; it appears whole or not at all.

    Plans that were built before of the same engines, for the same GPU, by the same TensorRT, are
    found; others are built. Of several callers that want the same plan one builds, the others wait.

    Returns:
        What was built or found; None where there are no plans.

    Raises:
        ManifestError: the export is damaged, or a plan does not load on this GPU.
        ExportError: `target` is there and is no export, or a plan cannot be built.
    """
    manifest = Manifest.load(source)
    report = None
    with staged(target) as folder:
        with step(f"copy {manifest.preset}"):
            _copy(source, manifest, folder)
        if options.plans is not None:
            # Where ONNX files are served, none of what builds plans is installed.
            from mirrorme_export.tensorrt_export import build_plans, check_plans

            report = build_plans(
                folder, options.plans, step=step, cache=options.cache, progress=progress
            )
            with step("check the plans"):
                check_plans(folder, options.plans)
        write_triton_repository(folder, options.triton)
        if options.plans is not None:
            _drop_onnx(folder, manifest)
    return report


def _copy(source: Path, manifest: Manifest, folder: Path) -> None:
    for name in _onnx_files(manifest):
        if (source / name).exists():
            copied = folder / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, copied)
    shutil.copyfile(source / MANIFEST_FILE, folder / MANIFEST_FILE)


def _drop_onnx(folder: Path, manifest: Manifest) -> None:
    """The plans hold the weights; gigabytes need not lie on a server's disk twice."""
    for name in _onnx_files(manifest):
        (folder / name).unlink(missing_ok=True)


def _onnx_files(manifest: Manifest) -> list[str]:
    """Those that may be there, with their weights."""
    return [
        f"{onnx.file}{suffix}"
        for spec in manifest.engines
        for onnx in spec.onnx_files
        for suffix in ("", EXTERNAL_DATA_SUFFIX)
    ]
