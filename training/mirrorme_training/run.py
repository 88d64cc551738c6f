"""Starts or resumes one stage: puts model, data, stage and trainer together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mirrorme_model.adapter_checkpoint import save_adapters
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from mirrorme_model.config import ModelConfig
from mirrorme_model.presets import preset

from mirrorme_training.clip_casting import PaintedOnDemand
from mirrorme_training.clip_store import ClipStore
from mirrorme_training.clip_window import ClipSource
from mirrorme_training.code_stage import CodeStage, with_cues
from mirrorme_training.decoder_stage import DecoderStage
from mirrorme_training.distill_stage import DistillStage
from mirrorme_training.flow_stage import FlowStage
from mirrorme_training.footage.recorded_clips import RecordedClips, is_recorded
from mirrorme_training.joined_clips import JoinedClips
from mirrorme_training.painted_clips import PaintedClips, is_painted
from mirrorme_training.parts import Parts, in_parts
from mirrorme_training.processes import Processes
from mirrorme_training.published_start import (
    NOTHING_PUBLISHED,
    PublishedParts,
    open_published,
    store_in_half,
)
from mirrorme_training.recipe import (
    FIRST_STAGES,
    STAGES,
    CodeStageConfig,
    DecoderStageConfig,
    DistillStageConfig,
    FlowStageConfig,
    ModelSettings,
    SpeechStageConfig,
    StageConfig,
    StageName,
    VaeStageConfig,
    optim_of,
    recipe_text,
)
from mirrorme_training.run_state import STATE_NAME, RunError, RunIdentity
from mirrorme_training.speech_stage import SpeechStage
from mirrorme_training.stage import Stage
from mirrorme_training.trainer import RunOptions, Trainer
from mirrorme_training.vae_stage import VaeStage


@dataclass(frozen=True)
class RunRequest:
    """One call of `mirrorme-train run`."""

    stage: StageName
    config: StageConfig
    data: tuple[Path, ...]
    """Folders of clips; stages speech and code take one."""
    init: Path | None
    """Checkpoint to start from, of adapters where parts are published; None: random weights, or
    adapters that change nothing."""
    resume: bool
    compile: bool
    options: RunOptions
    parts: int | None = None
    """That a step's batch is made in; None: one a process. The same parts give the same run,
    whatever the number of processes."""
    published: PublishedParts = NOTHING_PUBLISHED
    """That adapters are trained for; checkpoints then hold the adapters alone."""


def run_stage(request: RunRequest, say: Callable[[str], None]) -> int:
    """Trains, together with the other processes if there are some; returns the step reached.

    Raises:
        RunError, RecipeError, ShardError: with what to change.
        CheckpointError: `init` cannot be read.
    """
    processes = Processes(request.options.device)
    options = dataclasses.replace(request.options, device=processes.device)
    trainer = _open_run(dataclasses.replace(request, options=options), processes, say)
    reached = trainer.run()
    # Not after an error, which others may not have met: they would not come.
    processes.close()
    if processes.is_first:
        say(f"{options.folder}: step {reached}")
    return reached


def _open_run(request: RunRequest, processes: Processes, say: Callable[[str], None]) -> Trainer:
    options, config = request.options, request.config
    parts = _parts(request, processes)
    if not processes.is_first:
        say = _silent
    if options.graphs and (options.device.type != "cuda" or processes.count > 1 or parts.count > 1):
        raise RunError("--graphs is for one process on a GPU, and a batch in one part")
    if options.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    if (options.folder / STATE_NAME).exists() and not request.resume:
        raise RunError(f"{options.folder} holds a run: give --resume, or another folder")
    source = _open_data(request, processes.count)
    model, parent = _start_model(request)
    start = model.weights_sha256()
    adapts = request.published.given
    if adapts and options.precision == "bf16":
        store_in_half(model)
    model.to(options.device)
    stage = _open_stage(
        request, model, source, parts, fresh_vae=_stages(parent) in ([], ["speech"])
    )
    identity = RunIdentity(
        stage=request.stage,
        recipe=recipe_text(dataclasses.asdict(config)),
        seed=options.seed,
        data_hash=source.data_hash,
        start=start,
        parts=parts.count,
    )
    provenance: Provenance = {
        "stage": request.stage,
        "recipe": json.loads(identity.recipe),
        "seed": options.seed,
        "data_sha256": source.data_hash,
        "data_clips": source.num_clips,
        "started_from_sha256": start,
        "precision": options.precision,
        "parts": parts.count,
        "torch": torch.__version__,
    }
    if parent is not None:
        provenance["parent"] = parent
    trainer = Trainer(
        stage, optim_of(config), options, identity, provenance, say, processes, parts,
        _write_adapters if adapts else _write_whole,
    )  # fmt: skip
    if request.resume and trainer.resume():
        say(f"resumed {options.folder}")
    if request.compile:
        stage.compile()
    return trainer


def _parts(request: RunRequest, processes: Processes) -> Parts:
    count = request.parts or processes.count
    if count % processes.count:
        raise RunError(
            f"the batch is in {count} parts: want a multiple of {processes.count}, the processes"
        )
    return Parts(count, processes.rank, processes.count)


def _silent(_line: str) -> None:
    """Of all processes but the first."""


def open_source(folder: Path, device: torch.device, num_processes: int = 1) -> ClipSource:
    """The clips of a folder, whatever made it; each process takes every `num_processes`th.

    Raises:
        ShardError: the folder holds no whole set of clips.
    """
    if is_recorded(folder):
        return RecordedClips(folder, device)
    if is_painted(folder):
        return PaintedClips(folder, device)
    return PaintedOnDemand(ClipStore(folder, device), num_processes)


def _open_data(request: RunRequest, num_processes: int) -> ClipSource | ClipStore:
    device = request.options.device
    first, *others = request.data
    if isinstance(request.config, SpeechStageConfig | CodeStageConfig):
        if others:
            raise RunError(f"stage {request.stage} takes one --data: got {len(request.data)}")
        return ClipStore(first, device)
    source = open_source(first, device, num_processes)
    if not others:
        return source
    return JoinedClips([source, *(open_source(other, device, num_processes) for other in others)])


def _write_whole(path: Path, model: AvatarModel, provenance: Provenance) -> None:
    save_checkpoint(path, model, trained=True, provenance=provenance)


def _write_adapters(path: Path, model: AvatarModel, provenance: Provenance) -> None:
    save_adapters(path, model, trained=True, provenance=provenance)


def _start_model(request: RunRequest) -> tuple[AvatarModel, Provenance | None]:
    if request.published.given or _takes_published(request.config):
        return _start_published(request)
    if request.init is not None:
        checkpoint = load_checkpoint(request.init)
        model = _configured(checkpoint.model, request.config)
        told = model.denoiser.face_code is not None
        if request.stage == "code" or (request.stage == "decoder" and told):
            model = with_cues(model, request.options.seed)
        return model, checkpoint.provenance
    if request.stage not in FIRST_STAGES:
        raise RunError(f"stage {request.stage} wants --init, the checkpoint of the stage before it")
    settings = _model_settings(request.config)
    config = preset(settings.preset, width_px=settings.width_px, height_px=settings.height_px)
    return AvatarModel.random(config, request.options.seed, zero_adapters=True), None


def _takes_published(stage: StageConfig) -> bool:
    return preset(_model_settings(stage).preset).dit.text is not None


def _start_published(request: RunRequest) -> tuple[AvatarModel, Provenance | None]:
    stage, settings = request.config, _model_settings(request.config)
    if not _takes_published(stage):
        raise RunError(
            f"preset {settings.preset!r} takes no --base, --wav2vec2 or --text-embedding"
        )
    if not isinstance(stage, FlowStageConfig) or stage.train == "all":
        raise RunError('a published base is not trained: want train = "adapters" or "lora"')
    return open_published(
        request.published,
        preset(settings.preset, width_px=settings.width_px, height_px=settings.height_px),
        request.init,
        lambda config: _stage_config(config, stage),
        stage.lora_rank if stage.train == "lora" else None,
        request.options.seed,
    )


def _stages(provenance: Provenance | None) -> list[str]:
    """That the weights went through, the last one first; other origins are unnamed."""
    stages: list[str] = []
    while provenance is not None:
        stages.append(str(provenance.get("stage", "")))
        provenance = provenance.get("parent")
    return stages


def _configured(model: AvatarModel, stage: StageConfig) -> AvatarModel:
    wanted = _stage_config(model.config, stage)
    if wanted == model.config:
        return model
    changed = AvatarModel(wanted)
    changed.load_state_dict(model.state_dict())
    return changed.eval()


def _stage_config(config: ModelConfig, stage: StageConfig) -> ModelConfig:
    """With the sampler and the size that the stage asks for."""
    flow = stage.flow if isinstance(stage, DistillStageConfig) else stage
    if not isinstance(flow, FlowStageConfig):
        return config
    video = config.video
    if flow.size_px is not None:
        video = dataclasses.replace(video, width_px=flow.size_px, height_px=flow.size_px)
    return dataclasses.replace(config, video=video, sigmas=flow.sigmas or config.sigmas)


def _model_settings(config: StageConfig) -> ModelSettings:
    return config.flow.model if isinstance(config, DistillStageConfig) else config.model


def _open_stage(
    request: RunRequest, model: AvatarModel, source: ClipSource | ClipStore, parts: Parts, *,
    fresh_vae: bool,
) -> Stage:  # fmt: skip
    # Each stage sees people of its own.
    seed = request.options.seed * len(STAGES) + STAGES.index(request.stage)
    half = request.options.precision == "bf16"
    config = in_parts(request.config, parts.count)
    if isinstance(source, ClipStore):
        if isinstance(config, CodeStageConfig):
            return CodeStage(model, config, source, seed)
        assert isinstance(config, SpeechStageConfig)
        if config.keep_tokens and request.init is None:
            raise RunError("keep_tokens wants --init, the checkpoint whose tokens are kept")
        return SpeechStage(model, config, source, seed)
    match config:
        case VaeStageConfig():
            return VaeStage(model, config, source, seed, fresh=fresh_vae, parts=parts)
        case DistillStageConfig():
            return DistillStage(model, config, source, seed, autocast=half, parts=parts)
        case FlowStageConfig():
            return FlowStage(model, config, source, seed, autocast=half, parts=parts)
        case DecoderStageConfig():
            return DecoderStage(model, config, source, seed, autocast=half, parts=parts)
        case SpeechStageConfig() | CodeStageConfig():
            raise AssertionError("these have data of their own")
