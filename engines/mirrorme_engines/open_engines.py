"""Opens the engines of one exported preset, on the platform that the options choose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mirrorme_engines.engine import Engine, EngineSet
from mirrorme_engines.engine_options import EngineOptions
from mirrorme_engines.manifest import EngineSpec, Manifest
from mirrorme_engines.observer import EngineObserver


async def open_engines(
    folder: Path, options: EngineOptions | None = None, observer: EngineObserver | None = None
) -> EngineSet:
    """Opens all engines of the manifest in `folder`; the caller closes the set.

    Raises:
        ManifestError: the folder does not hold what its manifest says.
        EngineUnavailable: the platform or device is not there.
        EngineFault: an engine failed its warm-up.
    """
    options = options or EngineOptions()
    if options.triton is not None:
        from mirrorme_engines.triton_engine import open_triton_engines

        return await open_triton_engines(folder, options.triton, observer)
    manifest = await asyncio.to_thread(Manifest.load, folder)
    open_one, platform = await asyncio.to_thread(_opener, folder, manifest, options, observer)
    engines: dict[str, Engine] = {}
    try:
        for spec in manifest.engines:
            engines[spec.name] = await asyncio.to_thread(open_one, spec)
    except BaseException:
        for engine in engines.values():
            await engine.close()
        raise
    default = manifest.engine("denoiser")
    return EngineSet(
        manifest=manifest,
        identity_encoder=engines[manifest.engine("identity_encoder").name],
        audio_encoder=engines[manifest.engine("audio_encoder").name],
        denoiser=engines[default.name],
        decoder=engines[manifest.engine("decoder").name],
        platform=platform,
        other_denoisers=tuple(
            engines[spec.name]
            for spec in manifest.engines
            if spec.role == "denoiser" and spec is not default
        ),
    )


def _opener(
    folder: Path, manifest: Manifest, options: EngineOptions, observer: EngineObserver | None
) -> tuple[Callable[[EngineSpec], Engine], str]:
    """How one engine is opened, and the platform's name. Imports only what is asked for."""
    match options.platform:
        case "onnxruntime":
            from mirrorme_engines.onnxruntime_engine import open_onnxruntime_engine, platform_name

            return (
                partial(open_onnxruntime_engine, folder, options=options, observer=observer),
                platform_name(options.device),
            )
        case "tensorrt":
            from mirrorme_engines.tensorrt_engine import tensorrt_opener

            return tensorrt_opener(folder, manifest, options, observer)
        case "fake":
            from mirrorme_engines.fake_engine import FakeEngine

            return (
                lambda spec: FakeEngine(manifest, spec, options.batch, observer),
                "fake",
            )
        case "triton":
            raise AssertionError("Triton's engines are opened together")
