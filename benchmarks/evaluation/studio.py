"""Where measures get their frames from: the service, the renderer, the model's VAE."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, AnimationSession, pcm_s16le, rgb24
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.denoiser import join_cues
from mirrorme_model.hand_cues import hand_cues
from mirrorme_training.clip_casting import to_pixels, to_video
from mirrorme_training.code_stage import true_code, with_lead
from mirrorme_training.evaluation.face_reader import FaceReader
from mirrorme_training.evaluation.unseen import PEOPLE, person, portrait
from mirrorme_training.portrait_renderer import RenderedFrames
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor

from evaluation.pictures import Pictures
from evaluation.scale import Scale

Frames = NDArray[np.uint8]
"""[T, H, W, 3]"""
SAMPLE_RATE_HZ = 16_000
_PIECE_SAMPLES = 1600
_VAE_FRAMES = 65


@dataclass(frozen=True)
class Direction:
    """Controls by name for one frame."""

    frame: int
    controls: Mapping[str, float]


class Studio:
    """Owns the client, the fitted readers and the folder of pictures, for one evaluation."""

    def __init__(
        self,
        client: AnimationClient,
        preset: pb.PresetCapabilities,
        engines: Path,
        model: AvatarModel | None,
        pictures: Pictures,
        console: Console,
        scale: Scale,
    ) -> None:
        """`model` None: figures through its VAE are left out."""
        self._client = client
        self.model = model
        self._readers: dict[int, FaceReader] = {}
        self.engines = engines
        self.pictures = pictures
        self.scale = scale
        self.size_px = preset.frame_size.width_px
        self.chunk_frames = preset.timing.chunk_frames
        self.controls = tuple(control.name for control in preset.controls)
        self.console = console

    def say(self, text: str) -> None:
        """Shows how far it is."""
        self.console.print(f"[dim]  {text}[/]")

    def face_reader(self, seed: int) -> FaceReader:
        """Fitted once a person."""
        if seed not in self._readers:
            self.say(f"fit measures on renderings of person {seed}")
            count = self.scale.fitting_poses
            self._readers[seed] = FaceReader(person(seed), self.size_px, count)
        return self._readers[seed]

    def portrait(self, seed: int) -> Frames:
        """The picture given of a person, `[H, W, 3]`."""
        return portrait(person(seed), self.size_px)

    async def stream(
        self,
        seed: int,
        samples: NDArray[np.float32],
        *,
        directions: Sequence[Direction] = (),
        hands: NDArray[np.float32] | None = None,
        every: int = 1,
    ) -> Frames:
        """Frames that the service makes.

        Args:
            seed: of the person.
            samples: speech at 16 kHz.
            directions: controls frame by frame.
            hands: `[T, 2, 21, 3]` keypoints.
            every: keeps each so manieth frame.
        """
        kept: list[Frames] = []
        async with self._session(seed, pb.PACING_AS_FAST_AS_POSSIBLE) as session:
            for direction in directions:
                await session.set_controls(direction.controls, first_frame_index=direction.frame)
            if hands is not None:
                await session.push_hands(_hand_poses(hands))
            session.feed(_pieces(samples))
            async for batch in session:
                for index, frame in enumerate(batch.frames, batch.first_frame_index):
                    if index % every == 0:
                        kept.append(self._pixels(frame))
        return np.stack(kept)

    async def watch(self, seed: int, num_frames: int) -> Frames:
        """Frames of somebody on a call to whom nobody gives anything to say, in real time."""
        kept: list[Frames] = []
        async with self._session(seed, pb.PACING_REAL_TIME) as session:
            async for batch in session:
                kept += [self._pixels(frame) for frame in batch.frames]
                if len(kept) >= num_frames:
                    break
        return np.stack(kept[:num_frames])

    def _session(self, seed: int, pacing: pb.Pacing) -> AnimationSession:
        png = io.BytesIO()
        Image.fromarray(self.portrait(seed)).save(png, "png")
        return self._client.animate(
            png.getvalue(),
            audio_format=pcm_s16le(SAMPLE_RATE_HZ),
            output=rgb24(),
            crop_mode=pb.CROP_MODE_CENTER,
            seed=1,
            pacing=pacing,
        )

    def _pixels(self, frame: pb.Frame) -> Frames:
        shape = (self.size_px, self.size_px, 3)
        return np.frombuffer(frame.data, np.uint8).reshape(shape)

    @torch.no_grad()
    def through_vae(self, shown: RenderedFrames) -> Frames | None:
        """The frames encoded and decoded, with what their decoder is told of face and hands true,
        in pieces that each begin with a single frame."""
        if self.model is None:
            return None
        made: list[Frames] = []
        for start in range(0, len(shown), _VAE_FRAMES):
            piece = shown[start : start + _VAE_FRAMES]
            last = torch.arange(len(piece) + -(len(piece) - 1) % 8).clamp(max=len(piece) - 1)
            video = self.model.vae.decode(encode(self.model, piece[last]))
            made.append(to_pixels(video)[0].numpy()[: len(piece)])
        return np.concatenate(made)


def encode(model: AvatarModel, shown: RenderedFrames) -> Tensor:
    """Latents `[1, C, K, h, w]` of `8k + 1` frames, told the true face and hands where the model
    tells its decoder so."""
    latents = model.vae.encode(to_video(shown.frames)[None]).mean.transpose(1, 2)
    code = model.denoiser.face_code
    face = hands = None
    if code is not None:
        face = true_code(code, shown.mouth_open_ratio, shown.controls)[None]
    if model.vae.config.hand_channels:
        hands = hand_cues(with_lead(shown.hand_keypoints)[None], *latents.shape[-2:])
    return join_cues(latents, face, hands).transpose(1, 2)


def people(count: int, first: int = 0) -> list[int]:
    """Some of the people that training never saw."""
    return list(PEOPLE[first : first + count])


def silence(num_frames: int) -> NDArray[np.float32]:
    """As much of it as so many frames last."""
    return np.zeros(num_frames * SAMPLE_RATE_HZ // 24, np.float32)


def noise_like(frames: Frames) -> Frames:
    """White noise of the same shape."""
    return np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)


def _pieces(samples: NDArray[np.float32]) -> Iterator[bytes]:
    for start in range(0, len(samples), _PIECE_SAMPLES):
        piece = samples[start : start + _PIECE_SAMPLES]
        yield (piece.clip(-1, 1) * 32767).astype("<i2").tobytes()


def _hand_poses(hands: NDArray[np.float32]) -> list[pb.HandPose]:
    def hand(points: NDArray[np.float32]) -> pb.Hand | None:
        if not points[:, 2].any():
            return None
        return pb.Hand(
            keypoints=[pb.Keypoint(x=x, y=y, visibility=seen) for x, y, seen in points.tolist()]
        )

    return [
        pb.HandPose(frame_index=index, left=hand(left), right=hand(right))
        for index, (left, right) in enumerate(hands)
    ]
