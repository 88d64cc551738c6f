"""Takes into clips: what is seen and heard well is cut out, the rest gets its verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mirrorme_training.clip_window import LEAD_LATENTS, TAIL_LATENTS
from mirrorme_training.footage.clip_record import ClipNotes, ClipRecord
from mirrorme_training.footage.face_geometry import Points, controls_of, head_turn, mouth_opening
from mirrorme_training.footage.face_masks import OUTER_LIPS, draw_masks
from mirrorme_training.footage.footage_config import FootageConfig
from mirrorme_training.footage.picture_quality import sharpness
from mirrorme_training.footage.speech_sync import (
    Sync,
    Voice,
    measure_sync,
    voice_over_noise_db,
)
from mirrorme_training.footage.survey import Dropped
from mirrorme_training.footage.take_reader import TakeFootage
from mirrorme_training.footage.verdicts import (
    Stretch,
    Verdict,
    cut_evenly,
    stretches,
    without_short,
)
from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.speech import SAMPLE_RATE_HZ

_STEP_FRAMES = 3
"""Clips start at a whole sample: three frames are 2000."""
_LATENT_SAMPLES = SAMPLE_RATE_HZ // 3
_SPEAKS = 0.5
_STILL_MOUTH = 0.04
"""Spread of the opening ratio, 5th to 95th percentile, of a mouth that rests."""
_NEAR_SHARE = 0.65
"""In time if the correlation within the tolerated lag is this share of the greatest."""
_SHARPNESS_EVERY_FRAMES = 6
_MIN_TOUCH_FRAMES = 3
"""Hands that are seen on the mouth for less are mistakes of the detector."""


@dataclass(frozen=True)
class CutSource:
    """What clips of a video have in common."""

    id: str
    name: str
    sound: NDArray[np.int16]
    """[N] 16 kHz"""
    voice: Voice


@dataclass(frozen=True)
class _Measured:
    opening: Points
    sharpness: Points
    controls: Points
    sync: Sync


def cut_clips(
    footage: TakeFootage, source: CutSource, config: FootageConfig
) -> tuple[list[ClipRecord], list[Dropped]]:
    """Clips of one take, and what is left of it."""
    start, framing = footage.take.frames.start, footage.take.framing
    verdicts, sharp = _judge_pictures(footage, config)
    records: list[ClipRecord] = []
    dropped: list[Dropped] = []
    pieces: list[range] = []
    for part in stretches(without_short(verdicts, config.min_frames), start):
        if part.verdict != Verdict.KEPT:
            dropped.append(Dropped(framing, part))
            continue
        cut = cut_evenly(part, config.min_frames, config.max_frames, _STEP_FRAMES)
        if not cut:
            dropped.append(Dropped(framing, Stretch(part.start, part.stop, Verdict.TOO_SHORT)))
        pieces += cut
    if not pieces:
        return records, dropped
    measured = _measure(footage, source.voice, sharp, config)
    for piece in pieces:
        verdict, detail = _judge_speech(piece, start, measured, source.voice, config)
        if verdict == Verdict.KEPT:
            records.append(_record(piece, footage, source, measured, config))
        else:
            dropped.append(Dropped(framing, Stretch(piece.start, piece.stop, verdict), detail))
    return records, dropped


def _judge_pictures(
    footage: TakeFootage, config: FootageConfig
) -> tuple[NDArray[np.int64], Points]:
    """Verdicts on frames, and how sharp they are."""
    face, hands = footage.face, footage.hands
    verdicts = np.full(len(face), int(Verdict.KEPT))
    sharp = np.full(len(face), np.nan)
    for i in range(0, len(face), _SHARPNESS_EVERY_FRAMES):
        if np.isfinite(face[i]).all():
            value = sharpness(footage.pictures[i], face[i])
            sharp[i : i + _SHARPNESS_EVERY_FRAMES] = value
    turn = np.abs(head_turn(face)[:, :2]).max(axis=1)
    # The last to be written is the first in the order of verdicts.
    verdicts[sharp < config.min_sharpness] = Verdict.BLURRED
    verdicts[turn > config.max_turn_degrees] = Verdict.TURNED_AWAY
    hidden = ~np.isfinite(face).all(axis=(1, 2))
    hidden |= _hand_on_mouth(face, hands)
    verdicts[hidden] = Verdict.FACE_HIDDEN
    return verdicts, sharp


def _hand_on_mouth(face: Points, hands: Points) -> NDArray[np.bool_]:
    lips = face[:, list(OUTER_LIPS), :2]
    low, high = lips.min(axis=1)[:, None, None], lips.max(axis=1)[:, None, None]
    touched = np.all((hands > low) & (hands < high), axis=-1).any(axis=(1, 2))
    return np.asarray(ndimage.binary_opening(touched, np.ones(_MIN_TOUCH_FRAMES)), np.bool_)


def _measure(footage: TakeFootage, voice: Voice, sharp: Points, config: FootageConfig) -> _Measured:
    opening = mouth_opening(footage.face)
    frames = footage.take.frames
    seen = np.isfinite(opening)
    level = voice.level[frames.start : frames.stop]
    sync = measure_sync(opening[seen], level[seen], config.max_lag_frames)
    return _Measured(opening, sharp, controls_of(footage.face, footage.blendshapes), sync)


def _judge_speech(
    piece: range, start: int, measured: _Measured, voice: Voice, config: FootageConfig
) -> tuple[Verdict, str]:
    speech = voice.speech[piece.start : piece.stop] > _SPEAKS
    share = float(speech.mean())
    opening = measured.opening[piece.start - start : piece.stop - start]
    still = float(np.subtract(*np.percentile(opening, [95, 5]))) < _STILL_MOUTH
    sync = measured.sync
    if share < config.min_speech:
        silent = still and not speech.any()
        if config.keep_silent and silent:
            return Verdict.KEPT, ""
        return Verdict.NO_SPEECH, f"speech in {share:.0%} of the frames"
    if still:
        return Verdict.OTHER_VOICE, ""
    voice_db = voice_over_noise_db(voice.level[piece.start : piece.stop])
    if voice_db < config.min_voice_db:
        return Verdict.NOISY, f"{voice_db:.0f} dB between loud and quiet"
    if sync.height < config.min_sync:
        return Verdict.WEAK_SYNC, f"correlation {sync.r:.2f}, {sync.height:.1f} deviations"
    if sync.r_near < _NEAR_SHARE * sync.r:
        late = sync.lag_frames / FRAME_RATE * 1000
        who = "picture" if late > 0 else "sound"
        return Verdict.OUT_OF_SYNC, f"the {who} is about {abs(late):.0f} ms late"
    return Verdict.KEPT, ""


def _record(
    piece: range, footage: TakeFootage, source: CutSource, measured: _Measured,
    config: FootageConfig,
) -> ClipRecord:  # fmt: skip
    take = footage.take
    rows = slice(piece.start - take.frames.start, piece.stop - take.frames.start)
    hands = footage.hands[rows]
    inside = np.all((hands > 0) & (hands < 1), axis=-1, keepdims=True)
    keypoints = np.concatenate([np.where(inside, hands, 0), inside], axis=-1)
    masks = [
        draw_masks(face, hand, config.size_px)
        for face, hand in zip(footage.face[rows], hands, strict=True)
    ]
    first = piece.start * SAMPLE_RATE_HZ // FRAME_RATE
    lead = min(first, LEAD_LATENTS * _LATENT_SAMPLES)
    last = piece.stop * SAMPLE_RATE_HZ // FRAME_RATE + TAIL_LATENTS * _LATENT_SAMPLES
    frames = slice(piece.start, piece.stop)
    sync = measured.sync
    notes = ClipNotes(
        key=f"{source.id}-{piece.start:07d}-{take.framing}",
        video=source.name,
        framing=take.framing,
        first_frame=piece.start,
        num_frames=len(piece),
        crop_px=(take.crop.left, take.crop.top, take.crop.side_px),
        lead_samples=lead,
        speech=round(float((source.voice.speech[frames] > _SPEAKS).mean()), 3),
        sync_r=round(sync.r, 3),
        sync_height=round(sync.height, 2),
        sync_lag_frames=sync.lag_frames,
        voice_db=round(voice_over_noise_db(source.voice.level[frames]), 1),
        sharpness=round(float(np.nanmean(measured.sharpness[rows])), 4),
        hands=round(float(inside.any(axis=(1, 2, 3)).mean()), 3),
    )
    return ClipRecord(
        notes=notes,
        frames=footage.pictures[rows],
        sound=source.sound[first - lead : last],
        controls=measured.controls[rows].astype(np.float32),
        keypoints=keypoints.astype(np.float32),
        mouth=measured.opening[rows].astype(np.float32),
        masks=np.stack(masks),
    )
