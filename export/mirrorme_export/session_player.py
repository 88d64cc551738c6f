"""A session played through exported engines by ONNX Runtime: real inputs of its engines.

What the gateway does with a portrait and speech, without streams, clients and time.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.silent_onnxruntime import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mirrorme_export.errors import InvalidRequest

Inputs = dict[str, NDArray[np.generic]]
_FINGERS, _JOINTS = 5, 4
_HAND_LENGTH = 0.15
"""Of the frame's sides."""


@dataclass(frozen=True)
class Sample:
    """What one session is given."""

    image: NDArray[np.uint8]
    """`[H, W, 3]`."""
    pcm: NDArray[np.float32]
    """`[N]`, -1 to 1, at the manifest's rate."""


@dataclass(frozen=True)
class Played:
    """What one session gave."""

    calls: tuple[Inputs, ...]
    """Of the denoiser, one a chunk, each of batch size 1."""
    latents: NDArray[np.float32]
    """`[F, C, h, w]`."""
    windows: NDArray[np.float32]
    """Of the decoder, one a chunk whose look-ahead was made: `[chunks, D + Tc + L, C, h, w]`."""
    frames: NDArray[np.uint8]
    """`[frames, H, W, 3]`, of those windows."""


class SessionPlayer:
    """Owns the engines of a preset but for the denoiser, which may be another each time."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._identity, self._audio, self._decoder = (
            open_session(folder / manifest.engine(role).file)
            for role in ("identity_encoder", "audio_encoder", "decoder")
        )

    def play(
        self, sample: Sample, denoiser: ort.InferenceSession, *, first_chunk: int, num_chunks: int,
        controlled: bool = False,
    ) -> Played:  # fmt: skip
        """Animates some chunks of the speech, from a still picture on; the noise is always same.

        Args:
            sample: portrait and speech.
            denoiser: of the preset, lowered or not.
            first_chunk: of the speech.
            num_chunks: so many.
            controlled: all controls of the preset are asked for, in each chunk otherwise; else
                none is.
        """
        chunk, video = self._manifest.chunk, self._manifest.video
        latent_dims = (video.latent_channels, video.latent_height, video.latent_width)
        identity = _run(self._identity, {"image": sample.image[None]})[0]
        # What came before the first chunk: the picture at rest.
        num_before = max(chunk.motion_latents, chunk.decoder_context_latents)
        history = [identity] * num_before
        calls: list[Inputs] = []
        for index in range(first_chunk, first_chunk + num_chunks):
            noise = np.random.default_rng(index).standard_normal(
                (1, chunk.num_latents, *latent_dims), np.float32
            )
            given = {
                "noise": noise,
                "identity": identity[None],
                "motion": np.stack(history[len(history) - chunk.motion_latents :])[None],
                "audio_tokens": self._audio_tokens(sample.pcm, index),
            }
            # In every other chunk, so that what is measured holds with hands and without.
            if index % 2:
                given["hand_keypoints"] = self._hands(index)
            if controlled and self._manifest.controls:
                given |= self._controls(index)
            calls.append(self._complete(given))
            history += list(_run(denoiser, calls[-1])[0])
        latents = np.stack(history).astype(np.float32)
        windows = self._windows(latents, num_before)
        frames = [_run(self._decoder, {"latents": window[None]})[0] for window in windows]
        return Played(
            calls=tuple(calls),
            latents=latents[num_before:],
            windows=windows,
            frames=np.concatenate(frames).astype(np.uint8),
        )

    def _audio_tokens(self, pcm: NDArray[np.float32], index: int) -> NDArray[np.generic]:
        audio = self._manifest.audio
        hop = int(index * self._manifest.chunk_samples) // audio.hop_samples
        start = hop * audio.hop_samples - audio.past_samples
        at = np.arange(start, start + audio.window_samples)
        inside = (at >= 0) & (at < len(pcm))
        window = np.where(inside, pcm[at.clip(0, len(pcm) - 1)], 0).astype(np.float32)
        phase = np.array([index % audio.num_phases], np.int64)
        return _run(self._audio, {"pcm": window[None], "phase": phase})

    def _complete(self, given: Inputs) -> Inputs:
        """With all that the denoiser takes: default strengths, hands and controls if given."""
        manifest = self._manifest
        strengths = {"expression": manifest.expression, "guidance": manifest.guidance}
        made: Inputs = {}
        for tensor in manifest.engine("denoiser").inputs:
            strength = strengths.get(tensor.name)
            value = 0.0 if strength is None else strength.default
            made[tensor.name] = given.get(
                tensor.name, np.full((1, *tensor.dims), value, tensor.dtype)
            )
        return made

    def _hands(self, index: int) -> NDArray[np.generic]:
        """Both hands with fingers spread, in each chunk elsewhere: `[1, frames, 2, 21, 3]`."""
        frames = self._manifest.chunk_frames
        random = np.random.default_rng(index)
        wrists = random.uniform((0.15, 0.6), (0.85, 0.9), (2, 1, 2))
        angles = np.repeat(np.linspace(-0.8, 0.8, _FINGERS), _JOINTS) + random.uniform(
            -1, 1, (2, 1)
        )
        reach = _HAND_LENGTH * np.tile(np.linspace(0.5, 1, _JOINTS), _FINGERS)
        points = wrists + reach[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=-1)
        hands = np.concatenate([wrists, points], axis=1)
        shown = np.concatenate([hands, np.ones((*hands.shape[:2], 1))], axis=-1)
        return np.repeat(shown[None, None], frames, axis=1).astype(np.float32)

    def _controls(self, index: int) -> Inputs:
        """Anywhere in their ranges, the same in a whole chunk."""
        manifest = self._manifest
        values = [
            np.random.default_rng([index, number]).uniform(control.range.min, control.range.max)
            for number, control in enumerate(manifest.controls)
        ]
        asked = np.tile(np.array(values, np.float32), (1, manifest.chunk_frames, 1))
        return {"controls": asked, "control_weights": np.ones_like(asked)}

    def _windows(self, latents: NDArray[np.float32], num_before: int) -> NDArray[np.float32]:
        chunk = self._manifest.chunk
        windows = []
        for start in range(num_before, len(latents), chunk.num_latents):
            stop = start + chunk.num_latents + chunk.decoder_lookahead_latents
            if stop <= len(latents):
                windows.append(latents[start - chunk.decoder_context_latents : stop])
        if not windows:
            raise InvalidRequest("too few chunks to decode one: give more calibration chunks")
        return np.stack(windows)


def open_session(path: Path) -> ort.InferenceSession:
    """ONNX Runtime on the CPU, quiet."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def load_samples(folder: Path, manifest: Manifest) -> list[Sample]:
    """Every picture in a folder, by name, with the folder's speech, end to end.

    Raises:
        InvalidRequest: fewer than two pictures (one is kept to test with), no speech, or a file
            that is not what it must be.
    """
    pictures = sorted(p for p in folder.glob("*") if p.suffix in (".png", ".jpg", ".jpeg"))
    speech = sorted(folder.glob("*.wav"))
    if len(pictures) < 2 or not speech:
        raise InvalidRequest(
            f"{folder} holds {len(pictures)} pictures and {len(speech)} WAV files: "
            "want at least two portraits (png, jpg) and one file of speech to calibrate with"
        )
    pcm = np.concatenate([_load_pcm(path, manifest.audio.sample_rate_hz) for path in speech])
    size = (manifest.video.width_px, manifest.video.height_px)
    return [Sample(_load_picture(path, size), pcm) for path in pictures]


def psnr_db(want: NDArray[np.uint8], got: NDArray[np.uint8]) -> float:
    """Peak signal to noise ratio of pictures; 100 where they are equal."""
    mean_square = np.square(want.astype(np.float64) - got).mean()
    return 100.0 if mean_square == 0 else float(10 * np.log10(255**2 / mean_square))


def _load_picture(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.fit(picture.convert("RGB"), size), np.uint8)
    except (UnidentifiedImageError, OSError) as error:
        raise InvalidRequest(f"{path} cannot be read as a picture: {error}") from error


def _load_pcm(path: Path, rate_hz: int) -> NDArray[np.float32]:
    try:
        with wave.open(str(path)) as file:
            found = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise InvalidRequest(f"{path} cannot be read as WAV: {error}") from error
    if found != (1, 2, rate_hz):
        raise InvalidRequest(
            f"{path} has {found[0]} channels of {8 * found[1]} bits at {found[2]} Hz: "
            f"want mono, 16 bits, {rate_hz} Hz"
        )
    return (np.frombuffer(content, "<i2") / 32768).astype(np.float32)


def _run(session: ort.InferenceSession, inputs: Inputs) -> NDArray[np.generic]:
    return np.asarray(session.run(None, inputs)[0])
