"""Poses that measures are fitted on: chance visemes instead of speech, and chance controls."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from mirrorme_training.motion_noise import FRAME_RATE
from mirrorme_training.motion_pose import draw_manner, make_pose
from mirrorme_training.portrait_pose import BREATH, CONTROLS, HEAD_CONTROLS, Pose, with_controls
from mirrorme_training.speech import SAMPLE_RATE_HZ
from mirrorme_training.speech_visemes import VISEMES, VisemeSpan

EYE_CONTROLS = tuple(n for n in CONTROLS if n.startswith(("eye", "brow", "gaze")))
FACE_CONTROLS = tuple(n for n in CONTROLS if n not in (*EYE_CONTROLS, *HEAD_CONTROLS, BREATH))
JAW_UNDER_CLOSED_LIPS = 0.5
"""Lips at rest are closed: `mouthClose` shows only while the jaw is down."""
_STRIDE_FRAMES = 5
_POSES_PER_PERSON = 24


def talking_poses(seed: int, count: int) -> Pose:
    """Poses of people who talk and rest, without hands, in no order."""
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(-(-count // _POSES_PER_PERSON)):
        frames = _POSES_PER_PERSON * _STRIDE_FRAMES
        samples = 0.1 * random.standard_normal(frames * SAMPLE_RATE_HZ // FRAME_RATE)
        manner = dataclasses.replace(draw_manner(random), hands="none")
        spans = _babble(frames / FRAME_RATE, random)
        pose = make_pose(spans, samples.astype(np.float32), frames, manner, random)
        parts.append(pose[torch.arange(0, frames, _STRIDE_FRAMES)])
    return Pose.join(parts)[:count]


def silent_pose(seed: int, num_frames: int) -> Pose:
    """Somebody who says nothing, without hands."""
    random = np.random.default_rng(seed)
    manner = dataclasses.replace(draw_manner(random), hands="none")
    samples = np.zeros(num_frames * SAMPLE_RATE_HZ // FRAME_RATE, np.float32)
    return make_pose((), samples, num_frames, manner, random)


def swept_pose(seed: int, name: str, values: Tensor) -> Pose:
    """Somebody silent with one control that goes through `[T]` values; `mouthClose` with the jaw
    down."""
    pose = _relaxed(silent_pose(seed, len(values)))
    if name == "mouthClose":
        pose = with_controls(pose, jawOpen=JAW_UNDER_CLOSED_LIPS)
    return with_controls(pose, **{name: values})


def control_poses(seed: int, count: int) -> Pose:
    """Silent people with one control each of the face, the eyes and the head set by chance."""
    random = np.random.default_rng(seed)
    parts = [
        silent_pose(int(random.integers(2**31)), _POSES_PER_PERSON * 10)[::10]
        for _ in range(-(-count // _POSES_PER_PERSON))
    ]
    pose = _relaxed(Pose.join(parts)[:count])
    for names in (FACE_CONTROLS, EYE_CONTROLS, HEAD_CONTROLS):
        turn = torch.from_numpy(random.permutation(count) % len(names))
        for index, name in enumerate(names):
            mine = turn == index
            drawn = torch.from_numpy(random.uniform(*control_reach(name), count)).float()
            pose = with_controls(pose, **{name: torch.where(mine, drawn, pose.control(name))})
            if name == "mouthClose":
                jaw = torch.full((count,), JAW_UNDER_CLOSED_LIPS)
                pose = with_controls(pose, jawOpen=torch.where(mine, jaw, pose.control("jawOpen")))
    return pose


def _relaxed(pose: Pose) -> Pose:
    """Lips that touch, but are not held closed: controls can part them."""
    return with_controls(pose, mouthClose=0.0, jawOpen=0.0)


def control_reach(name: str) -> tuple[float, float]:
    """Values that a control is swept through: all of a ratio, half of what goes both ways."""
    if name in HEAD_CONTROLS:
        return -15.0, 15.0
    if name == BREATH:
        return -1.0, 1.0
    return (-0.5, 0.5) if name.startswith("gaze") else (0.0, 1.0)


def _babble(duration_s: float, random: np.random.Generator) -> tuple[VisemeSpan, ...]:
    spans, time_s, names = [], 0.0, list(VISEMES)
    while time_s < duration_s:
        name = names[int(random.integers(len(names)))]
        length_s = random.uniform(0.1, 0.5) if name == "sil" else random.uniform(0.05, 0.2)
        spans.append(VisemeSpan(name, time_s, time_s + length_s))
        time_s += length_s
    return tuple(spans)
