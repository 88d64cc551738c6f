"""Settings of a training run: frozen dataclasses, read from TOML, stored in the checkpoint.

A recipe is a TOML file with one table a stage. What a table leaves out is the dataclass's default;
what it has too much is an error.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mirrorme_model.errors import ConfigError
from mirrorme_model.strict_json import parse_json

StageName: TypeAlias = Literal[
    "speech", "vae", "face", "body", "hands", "distill", "code", "decoder"
]
STAGES: tuple[StageName, ...] = (
    "speech", "vae", "face", "body", "hands", "distill", "code", "decoder"
)  # fmt: skip
"""In the order in which they are trained; the first two do not build on each other."""
FIRST_STAGES: tuple[StageName, ...] = ("speech", "vae")
"""May begin from random weights."""


class RecipeError(Exception):
    """A recipe does not exist, or has a setting that is unknown or makes no sense."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model; only a run without `--init` reads it."""

    preset: str = "demo"
    width_px: int | None = None
    height_px: int | None = None


@dataclass(frozen=True)
class BankConfig:
    """The clips that are ready to train on."""

    num_clips: int = 1024
    renew_every_steps: int = 4
    """One clip is replaced so often; 0: never."""
    close_up: float = 0.0
    """Share of close-ups; the others show half a body."""
    hands: bool = True
    """False: hands stay out of the picture."""
    window_latents: int = 15
    """k of the 1 + 8k frames that are kept of a clip."""
    still: float = 0.0
    """Share of the clips with speech, painted on demand, in which little else moves, but hands."""
    sway: float = 1.0
    """Of trunk and shoulders, painted on demand: no control tells how they move, but for breath."""
    bare: float = 0.0
    """Share of clips with hands, painted on demand, whose portraits show none."""
    variants: int = 0
    """Each clip is shown as so many people, one after another (see `clip_variation`), and as others
    when it comes again. Costs each window its last latent. 0: clips are shown as they are."""
    whole_px: int | None = None
    """Of half bodies painted on demand so large, the square around the mouth is painted alone, of
    the stage's size: more people a second. None: whole pictures."""

    def __post_init__(self) -> None:
        if self.num_clips < 1 or self.window_latents < 1:
            raise ConfigError("bank.num_clips and bank.window_latents must be at least 1")
        if self.variants < 0:
            raise ConfigError(f"bank.variants is {self.variants}: want at least 0")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up and cosine decay, and the average of weights."""

    steps: int = 20_000
    learning_rate: float = 3e-4
    face_rate: float = 1.0
    """Learning rate of the decoder's layers that read the face code, over that of all others."""
    hand_rate: float = 1.0
    """As `face_rate`, of those that draw hands by what is told of them."""
    warmup_steps: int = 200
    final_share: float = 0.05
    """Of the learning rate, at the end."""
    weight_decay: float = 0.01
    beta2: float = 0.99
    max_norm: float = 1.0
    ema_decay: float = 0.999
    checkpoint_every_s: float = 120.0
    log_every_steps: int = 50
    strip_every_steps: int = 2000


@dataclass(frozen=True)
class VaeStageConfig:
    """Reconstruction of frames."""

    model: ModelSettings = field(default_factory=ModelSettings)
    bank: BankConfig = field(default_factory=BankConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: Literal["all", "decoder"] = "all"
    """`decoder`: latents stay what they are, so denoisers that were trained on them still fit."""
    batch: int = 16
    """Clips a step."""
    clip_latents: int = 2
    """k of the 1 + 8k frames of a clip."""
    crop_px: int | None = None
    """A side of the square cut out of each clip, a multiple of 32; None: the whole picture. Small
    ones show more different people a second."""
    pictures_every_steps: int = 4
    """Such a step trains single frames; 0: never."""
    picture_batch: int = 64
    edge_weight: float = 0.5
    movement_weight: float = 0.0
    """Of the error of what changes from frame to frame: 0 lets pictures jump between latents."""
    deviation_weight: float = 0.0
    """Of the squared error of how frames differ from their mean over the clip."""
    square_weight: float = 0.5
    """Of the squared error, which PSNR measures."""
    face_weight: float = 1.0
    mouth_weight: float = 4.0
    kl_weight: float = 1e-6
    latent_noise: float = 0.05
    """Added to latents before they are decoded, as a share of their deviation: the decoder then
    forgives small errors of the denoiser."""


@dataclass(frozen=True)
class SpeechStageConfig:
    """The audio encoder by itself."""

    model: ModelSettings = field(default_factory=ModelSettings)
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch: int = 16
    """Clips a step."""
    keep_tokens: float = 0.0
    """Weight of how far tokens are from those that the checkpoint begun from has for clean speech,
    in their own deviations: a denoiser that knows these then understands more voices. 0: tokens
    may become others."""


@dataclass(frozen=True)
class DropoutConfig:
    """How often conditions are not given."""

    audio: float = 0.08
    controls: float = 0.5
    """None of them; otherwise a random part is given."""
    hands: float = 1.0


@dataclass(frozen=True)
class FlowStageConfig:
    """Rectified flow: the stages face, body and hands."""

    model: ModelSettings = field(default_factory=ModelSettings)
    bank: BankConfig = field(default_factory=BankConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    size_px: int | None = None
    """Of the square pictures; None: as in the checkpoint. The weights fit any: a stage may learn
    on clips painted with `--crop`, the next one on whole pictures."""
    train: Literal["all", "adapters", "lora"] = "all"
    """`adapters`: the published transformer and speech backbone stay as they are. `lora`: so they
    do, and what is changed of the transformer is kept beside it."""
    lora_rank: int = 32
    recompute: bool = False
    """Blocks of the transformer are run again for their gradients: less memory, a third more
    time."""
    hear_once: bool = False
    """The audio encoder stays as it is, and hears each clip once, when the clip is made ready."""
    batch: int = 64
    """Clips a step."""
    held_out_clips: int = 0
    """Of people who are not trained on: the loss on them is logged beside that of training, which
    falls also while people are learned by heart. Wants clips that are painted on demand."""
    chunks_per_clip: int = 4
    rollout_chunks: int = 0
    """At most so many chunks are made by the model itself before the one that is trained."""
    tell_movement: bool = False
    """What moves in a clip for other reasons than speech is always given as controls, so that what
    is not given stays as it is in the portrait. False: left to chance."""
    noises_per_chunk: int = 1
    """So many noise levels share what is computed of a chunk's conditions."""
    session_start: float = 0.08
    """Share of chunks whose motion is the still portrait."""
    motion_noise: float = 0.15
    """Greatest deviation of noise on the motion context."""
    motion_offset: float = 0.05
    """Deviation of a shift of whole channels of it, as drift makes."""
    time_shift: float = 1.0
    """s of t' = s t / (1 + (s - 1) t): above 1 there is more noise (Esser et al., 2024). Very
    large: t is 1, and the denoiser learns the mean of what can follow, which one step samples."""
    sigmas: tuple[float, ...] | None = None
    """Noise levels of the sampler that is stored with the weights; None: as in the checkpoint."""
    face_weight: float = 0.0
    mouth_weight: float = 2.0
    speech_weight: float = 0.3
    """Of the auxiliary loss on audio tokens; 0: none."""
    channel_power: float = 0.0
    """Channels weigh as this power of what they move in a picture; 0: all the same."""
    augment: bool = True
    """Rooms, noise, lines and levels on the speech."""
    strip_steps: int = 12
    """Of the sampler that draws strips; 0: the checkpoint's own."""


@dataclass(frozen=True)
class DistillStageConfig:
    """A student of few steps."""

    flow: FlowStageConfig = field(default_factory=FlowStageConfig)
    """Data, optimiser and conditions; its loss weights hold for the student's loss too."""
    teacher_steps: int = 12
    truth_weight: float = 0.3
    """Of the distance to the recorded latents at the mouth, where motion is recorded too."""
    pixel_weight: float = 0.0
    """Of the decoded mouth's distance to the teacher's."""
    pixel_batch: int = 8


@dataclass(frozen=True)
class CodeStageConfig:
    """The face code: from speech and controls, without pictures."""

    model: ModelSettings = field(default_factory=ModelSettings)
    optim: OptimConfig = field(default_factory=OptimConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    batch: int = 16
    """Clips a step."""
    hearings: int = 4
    """How often each clip is heard, differently, before the first step."""


@dataclass(frozen=True)
class DecoderStageConfig:
    """The decoder alone, on what the denoiser makes, told the true face code and given hands."""

    model: ModelSettings = field(default_factory=ModelSettings)
    bank: BankConfig = field(default_factory=BankConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    batch: int = 8
    """Clips a step."""
    crop_tokens: tuple[int, int] = (3, 4)
    """Rows and columns of tokens that are cut out of each clip, mostly where faces are."""
    elsewhere: float = 0.05
    """Odds of all squares together that are drawn wherever they are, against one full of face."""
    encoded: float = 0.2
    """Share of the clips whose latents are the encoder's, as they were before this stage."""
    unheard: float = 0.3
    """Share of the others whose latents are made without speech: of lips the code alone tells
    there, which the decoder otherwise takes long to look at."""
    untold: float = 0.15
    """Share of all whose hands are not told."""
    unseen: float = 0.2
    """Share of the clips whose tokens at hands are those of the first latent: of hands
    keypoints alone tell there, as the code of lips where `unheard`."""
    at_hands: float = 0.3
    """Share of the clips with hands that are cut out where those are."""
    fresh: float = 0.3
    """Share of the clips that begin at the portrait, as sessions do."""
    pictures_every_steps: int = 6
    """Such a step trains whole portraits, so that they stay as sharp as they are; 0: never."""
    picture_batch: int = 8
    picture_mouth_weight: float = 0.0
    """What mouths count there more than the rest."""
    edge_weight: float = 0.1
    movement_weight: float = 0.3
    deviation_weight: float = 0.0
    """Of the squared error of how frames differ from their mean over the clip: what makes small
    movements worth learning where the face itself stands wrong by more."""
    square_weight: float = 4.0
    face_weight: float = 1.0
    mouth_weight: float = 6.0
    closing_weight: float = 0.0
    """What mouths count besides in frames where lips close for a moment (see `lip_closings`)."""
    closing_share: float = 0.0
    """Share of the clips that are drawn from among those with such frames."""
    hand_weight: float = 4.0
    pairs_every_steps: int = 0
    """Such a step trains on people who are silent and the same with one control moved (see
    `ControlPairs`); 0: never."""
    paired_people: int = 400
    """Who are painted for that."""
    pair_faint_lips: float = 0.0
    """Share of them who are, of four, the one whose lips differ least in colour from the skin: what
    such lips do is seen least."""
    pair_batch: int = 8
    """Pairs a step."""
    pair_deviation_weight: float = 400.0
    """`deviation_weight` there."""
    pair_evenness: float = 0.0
    """What controls that move few pixels count there: 1, as much as all others; 0, as much less as
    they move less."""
    pair_turned_share: float = 0.1
    """Of them: where heads are turned or breathe otherwise, and nothing else is."""
    pair_favoured: tuple[str, ...] = ()
    """Controls, or how their names begin, that are moved in three times as many of the others as
    any other: those that do least of what is asked."""
    pair_closer_ratio: float = 0.0
    """Of the mouth's width: where lips stay closed, the code says that they are closed by up to so
    much further, as sessions tell the decoder (`publish --lips`)."""


StageConfig: TypeAlias = (
    VaeStageConfig
    | SpeechStageConfig
    | FlowStageConfig
    | DistillStageConfig
    | CodeStageConfig
    | DecoderStageConfig
)


def shipped_recipes() -> list[str]:
    """Names that `load_recipe` knows besides paths."""
    folder = resources.files("mirrorme_training").joinpath("recipes")
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name[-5:] == ".toml")


def load_recipe(name_or_path: str, stage: StageName) -> StageConfig:
    """One stage's settings.

    Raises:
        RecipeError: naming the setting at fault.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        source = path
    elif name_or_path in shipped_recipes():
        source = resources.files("mirrorme_training").joinpath("recipes", f"{name_or_path}.toml")
    else:
        known = ", ".join(shipped_recipes())
        raise RecipeError(f"no recipe {name_or_path!r}: want a .toml file or one of {known}")
    try:
        document = tomllib.loads(source.read_text())
    except (OSError, ValueError) as error:
        raise RecipeError(f"{source} cannot be read: {error}") from error
    if unknown := document.keys() - set(STAGES):
        raise RecipeError(f"{source} has tables that are no stage: {', '.join(sorted(unknown))}")
    if stage not in document:
        raise RecipeError(f"{source} has no table [{stage}]")
    default = default_config(stage)
    settings = _merged(dataclasses.asdict(default), document[stage])
    try:
        return parse_json(type(default), json.dumps(settings), stage)
    except ConfigError as error:
        raise RecipeError(f"{source}: {error}") from error


def default_config(stage: StageName) -> StageConfig:
    """Of the class that the stage wants."""
    match stage:
        case "vae":
            return VaeStageConfig()
        case "speech":
            return SpeechStageConfig()
        case "distill":
            return DistillStageConfig()
        case "code":
            return CodeStageConfig()
        case "decoder":
            return DecoderStageConfig()
        case _:
            return FlowStageConfig()


def optim_of(config: StageConfig) -> OptimConfig:
    """The optimiser's settings of any stage."""
    return config.flow.optim if isinstance(config, DistillStageConfig) else config.optim


def with_steps(config: StageConfig, steps: int) -> StageConfig:
    """The same with another number of steps."""
    if isinstance(config, DistillStageConfig):
        optim = dataclasses.replace(config.flow.optim, steps=steps)
        return dataclasses.replace(config, flow=dataclasses.replace(config.flow, optim=optim))
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, steps=steps))


def with_size(config: StageConfig, size_px: int) -> StageConfig:
    """The same with another size of pictures.

    Raises:
        RecipeError: the stage takes its size from the checkpoint that it starts from.
    """
    if not isinstance(config, VaeStageConfig):
        raise RecipeError(
            "the size is that of the checkpoint: it can be chosen for stage vae alone"
        )
    model = dataclasses.replace(config.model, width_px=size_px, height_px=size_px)
    return dataclasses.replace(config, model=model)


def recipe_text(settings: dict[str, Any]) -> str:
    """What a run stays the same by; not the number of steps, so that it may be made longer."""
    document = copy.deepcopy(settings)
    document.get("flow", document)["optim"].pop("steps", None)
    return json.dumps(document, sort_keys=True)


def with_newer_settings(stage: StageName, text: str) -> str:
    """A `recipe_text` of an earlier version, with the defaults of what it did not know."""
    return recipe_text(_merged(dataclasses.asdict(default_config(stage)), json.loads(text)))


def _merged(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(default)
    for name, value in given.items():
        below = default.get(name)
        nested = isinstance(below, dict) and isinstance(value, dict)
        merged[name] = _merged(below, value) if nested else value  # type: ignore[arg-type]
    return merged
