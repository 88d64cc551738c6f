"""A small made-up preset for tests: real rates and tensor names, tiny sizes, no files."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from mirrorme_engines.manifest import (
    FORMAT_VERSION,
    AudioSpec,
    ChunkSpec,
    ControlSpec,
    EngineSpec,
    Manifest,
    RangeSpec,
    Role,
    TensorSpec,
    VideoSpec,
)

_CONTROLS = ("jawOpen", "eyeBlinkLeft", "headYaw")
_HOP_SAMPLES = 320


def fake_manifest(
    *,
    preset: str = "fake",
    num_latents: int = 1,
    decoder_lookahead_latents: int = 0,
    size_px: int = 64,
    max_batch_size: int = 8,
    guidance: bool = False,
    num_steps: tuple[int, ...] = (4,),
) -> Manifest:
    """A manifest of fakes.

    Args:
        preset: its name.
        num_latents: latent frames a chunk.
        decoder_lookahead_latents: latent frames that the decoder waits for.
        size_px: height and width, a multiple of 32, at least 64.
        max_batch_size: of every engine.
        guidance: the denoiser has a `guidance` input.
        num_steps: one denoiser for each.
    """
    if size_px < 64 or size_px % 32:
        raise ValueError(f"size_px is {size_px}: want a multiple of 32, at least 64")
    video = VideoSpec(
        height_px=size_px,
        width_px=size_px,
        frame_rate_numerator=24,
        frame_rate_denominator=1,
        frames_per_latent=8,
        latent_channels=128,
        latent_height=size_px // 32,
        latent_width=size_px // 32,
    )
    chunk = ChunkSpec(
        num_latents=num_latents,
        motion_latents=2,
        decoder_context_latents=1,
        decoder_lookahead_latents=decoder_lookahead_latents,
    )
    audio = _audio(num_latents)
    return Manifest(
        format_version=FORMAT_VERSION,
        preset=preset,
        trained=False,
        weights_sha256="0" * 64,
        versions={},
        video=video,
        chunk=chunk,
        audio=audio,
        hands=True,
        controls=tuple(
            ControlSpec(name, "degree", RangeSpec(-30, 30, 0))
            if name == "headYaw"
            else ControlSpec(name, "ratio", RangeSpec(0, 1, 0))
            for name in _CONTROLS
        ),
        expression=RangeSpec(0, 2, 1),
        guidance=RangeSpec(1, 4, 1) if guidance else None,
        engines=_engines(video, chunk, audio, max_batch_size, guidance, num_steps),
    )


def _audio(num_latents: int) -> AudioSpec:
    """Windows on the feature grid, with one hop of look-ahead."""
    chunk_samples = Fraction(num_latents * 16000, 3)
    num_phases = (chunk_samples / _HOP_SAMPLES).denominator
    latest_start = Fraction(_HOP_SAMPLES * (num_phases - 1), num_phases)
    num_hops = ceil((latest_start + chunk_samples) / _HOP_SAMPLES) + 1
    past_samples = 10 * _HOP_SAMPLES
    return AudioSpec(
        sample_rate_hz=16000,
        hop_samples=_HOP_SAMPLES,
        past_samples=past_samples,
        window_samples=past_samples + num_hops * _HOP_SAMPLES,
        num_phases=num_phases,
    )


def _engines(
    video: VideoSpec,
    chunk: ChunkSpec,
    audio: AudioSpec,
    max_batch_size: int,
    guidance: bool,
    num_steps: tuple[int, ...],
) -> tuple[EngineSpec, ...]:
    latent = (video.latent_channels, video.latent_height, video.latent_width)
    picture = (video.height_px, video.width_px, 3)
    num_latents, num_frames = chunk.num_latents, chunk.num_latents * video.frames_per_latent
    decoded = chunk.decoder_context_latents + num_latents + chunk.decoder_lookahead_latents
    image = TensorSpec("image", "uint8", picture)
    identity = TensorSpec("identity", "float32", latent)
    pcm = TensorSpec("pcm", "float32", (audio.window_samples,))
    phase = TensorSpec("phase", "int64", ())
    tokens = TensorSpec("audio_tokens", "float32", (num_latents, 4, 16))
    latents = TensorSpec("latents", "float32", (num_latents, *latent))
    frames = TensorSpec("frames", "uint8", (num_frames, *picture))
    denoiser_inputs = (
        TensorSpec("noise", "float32", (num_latents, *latent)),
        identity,
        TensorSpec("motion", "float32", (chunk.motion_latents, *latent)),
        tokens,
        TensorSpec("expression", "float32", ()),
        TensorSpec("hand_keypoints", "float32", (num_frames, 2, 21, 3)),
        TensorSpec("controls", "float32", (num_frames, len(_CONTROLS))),
        TensorSpec("control_weights", "float32", (num_frames, len(_CONTROLS))),
        *([TensorSpec("guidance", "float32", ())] if guidance else []),
    )

    def spec(
        name: str,
        role: Role,
        inputs: tuple[TensorSpec, ...],
        output: TensorSpec,
        steps: int | None = None,
    ) -> EngineSpec:
        return EngineSpec(
            name=name,
            role=role,
            file=f"{name}/1/model.onnx",
            sha256="0" * 64,
            max_batch_size=max_batch_size,
            inputs=inputs,
            outputs=(output,),
            num_steps=steps,
        )

    return (
        spec("identity_encoder", "identity_encoder", (image,), identity),
        spec("audio_encoder", "audio_encoder", (pcm, phase), tokens),
        *(
            spec(
                "denoiser" if i == 0 else f"denoiser_{steps}step",
                "denoiser",
                denoiser_inputs,
                latents,
                steps,
            )
            for i, steps in enumerate(num_steps)
        ),
        spec(
            "decoder",
            "decoder",
            (TensorSpec("latents", "float32", (decoded, *latent)),),
            frames,
        ),
    )
