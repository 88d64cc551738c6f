"""How a person moves who says something: mouth, head, eyes, brows, breath and hands as poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mirrorme_training.motion_exercise import exercise
from mirrorme_training.motion_gestures import HandMode, hand_motion
from mirrorme_training.motion_noise import FRAME_RATE, Curve, blinks, drift, holds, smooth
from mirrorme_training.portrait_pose import BREATH, CONTROL_INDEX, CONTROLS, DETAILS, Pose
from mirrorme_training.speech import SAMPLE_RATE_HZ
from mirrorme_training.speech_mouth import mouth_curves
from mirrorme_training.speech_visemes import SHAPES, VisemeSpan

_RARE = (
    "cheekPuff",
    "noseSneer",
    "mouthFrown",
    "mouthPress",
    "jawForward",
    "jawLeft",
    "jawRight",
)
"""What people do now and then."""
_OPEN = 0.02
"""A silence's lips: how open a loose jaw holds the teeth, never the lips."""


@dataclass(frozen=True)
class Manner:
    """How lively somebody is; 1 is usual."""

    head: float
    """Of the head's movement; 0: still."""
    face: float
    """Of brows and smiles; 0: still."""
    mouth: float
    """Of articulation."""
    smile: float
    """0 to 1, on average."""
    hands: HandMode
    exercise: bool = False
    """True: controls move by chance as well; for clips without speech."""


def draw_manner(random: np.random.Generator) -> Manner:
    """Somebody."""
    modes: list[HandMode] = ["none", "left", "right", "both"]
    return Manner(
        head=float(random.uniform(0.3, 1.4)),
        face=float(random.uniform(0.4, 1.3)),
        mouth=float(random.uniform(0.8, 1.15)),
        smile=float(random.beta(1.6, 5.0)),
        hands=modes[int(random.choice(4, p=[0.4, 0.1, 0.1, 0.4]))],
    )


def frame_times_s(num_frames: int) -> NDArray[np.float64]:
    """The middle of every frame's time."""
    return (np.arange(num_frames) + 0.5) / FRAME_RATE


def frame_levels(samples: NDArray[np.float32], num_frames: int) -> Curve:
    """Loudness of clean speech frame by frame, 0 to 1, `[T]`."""
    edges = (np.arange(num_frames + 1) * SAMPLE_RATE_HZ) // FRAME_RATE
    padded = np.pad(samples, (0, max(0, int(edges[-1]) - len(samples))))
    squares = np.add.reduceat(padded[: edges[-1]].astype(np.float64) ** 2, edges[:-1])
    level = np.sqrt(squares / np.diff(edges))
    return np.clip(level / (np.percentile(level, 95) + 1e-6), 0, 1.2)


def make_pose(
    spans: tuple[VisemeSpan, ...],
    samples: NDArray[np.float32],
    num_frames: int,
    manner: Manner,
    random: np.random.Generator,
) -> Pose:
    """The poses of a clip.

    Args:
        spans: visemes in time; all else is silence.
        samples: the clean speech at 16 kHz, from the clip's start.
    """
    level = frame_levels(samples, num_frames)
    voice = np.clip(smooth((level > 0.06).astype(float), 1.6), 0, 1)
    beats = np.clip(smooth(level, 3.5) - smooth(level, 0.7), 0, 1) * 2.0
    controls = np.zeros((num_frames, len(CONTROLS)))
    details = np.zeros((num_frames, len(DETAILS)))
    _speak(controls, details, spans, level, manner)
    _emote(controls, voice, beats, manner, random)
    _turn_head(controls, voice, beats, manner, random)
    _look(controls, manner, random)
    controls[:, CONTROL_INDEX[BREATH]] = _breathe(num_frames, random)
    if manner.exercise:
        exercise(controls, random)
    breath = controls[:, CONTROL_INDEX[BREATH]]
    shrug = 0.012 * np.abs(drift(num_frames, 0.3, random)) * manner.head
    sides = 0.008 * np.stack([drift(num_frames, 0.5, random) for _ in range(2)], axis=1)
    hands, shown = hand_motion(manner.hands, voice, beats, random)

    def tensor(values: NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(values).float()

    return Pose(
        controls=tensor(controls),
        details=tensor(np.clip(details, 0, 1)),
        shoulders=tensor(shrug[:, None] + sides + 0.01 * breath[:, None]),
        sway=tensor(0.05 * manner.head * drift(num_frames, 0.18, random).clip(-2.2, 2.2)),
        hands=hands,
        hand_shown=shown,
    )


def _put(controls: NDArray[np.float64], name: str, values: Curve) -> None:
    """Adds to a ratio control, or to both sides of one, within 0 to 1."""
    names = [name] if name in CONTROL_INDEX else [name + "Left", name + "Right"]
    for full in names:
        column = CONTROL_INDEX[full]
        controls[:, column] = np.clip(controls[:, column] + values, 0, 1)


def _speak(
    controls: NDArray[np.float64],
    details: NDArray[np.float64],
    spans: tuple[VisemeSpan, ...],
    level: Curve,
    manner: Manner,
) -> None:
    """Mouth shapes of the visemes; louder speech opens the jaw a little more."""
    shapes, closed = mouth_curves(spans, frame_times_s(len(level)))
    force = manner.mouth * (0.78 + 0.3 * np.clip(smooth(level, 4.0), 0, 1))
    for i, name in enumerate(SHAPES):
        values = shapes[:, i] * (force if name == "jawOpen" else manner.mouth)
        if name in DETAILS:
            details[:, DETAILS.index(name)] = values
        else:
            _put(controls, name, values)
    _put(controls, "mouthClose", closed)
    _put(controls, "jawOpen", _OPEN * closed)


def _emote(
    controls: NDArray[np.float64],
    voice: Curve,
    beats: Curve,
    manner: Manner,
    random: np.random.Generator,
) -> None:
    count = len(voice)
    smile = manner.smile + 0.14 * manner.face * drift(count, 0.15, random)
    rounded = controls[:, CONTROL_INDEX["mouthPucker"]]
    smile = np.clip(smile, 0, 0.85) * (1 - 0.25 * voice) * (1 - 0.7 * rounded)
    uneven = 0.05 * drift(count, 0.3, random)
    _put(controls, "mouthSmileLeft", np.clip(smile + uneven, 0, 1))
    _put(controls, "mouthSmileRight", np.clip(smile - uneven, 0, 1))
    _put(controls, "eyeSquint", np.clip(0.45 * smile + 0.05 * drift(count, 0.4, random), 0, 1))
    accents = (random.random(count) < 0.02).astype(float) * voice
    lift = smooth(np.clip(accents * 9, 0, 9), 1.8) + 0.30 * smooth(beats, 1.5)
    lift = np.clip(lift + 0.10 * drift(count, 0.35, random), 0, 1) * manner.face
    _put(controls, "browInnerUp", 0.7 * lift)
    _put(controls, "browOuterUp", 0.8 * lift)
    _put(controls, "eyeWide", 0.35 * lift)
    _put(controls, "browDown", np.clip(0.14 * drift(count, 0.2, random), 0, 1) * manner.face)
    if random.random() < 0.25:
        name = _RARE[int(random.integers(len(_RARE)))]
        peak = np.clip(drift(count, 0.5, random) - 0.8, 0, 1)
        quiet = 1 - voice if name in ("cheekPuff", "mouthPress") else np.ones(count)
        _put(controls, name, 0.8 * peak * quiet * manner.face)


def _turn_head(
    controls: NDArray[np.float64],
    voice: Curve,
    beats: Curve,
    manner: Manner,
    random: np.random.Generator,
) -> None:
    count = len(voice)
    lively = manner.head * (0.45 + 0.55 * voice)
    nods = 3.2 * smooth(beats, 2.0)
    for name, slow, quick, bias in (
        ("head_yaw", 5.5, 1.6, 3.0),
        ("head_pitch", 2.6, 1.2, 1.5),
        ("head_roll", 2.6, 0.9, 1.5),
    ):
        curve = bias * random.normal() + slow * drift(count, 0.22, random)
        curve = curve + quick * drift(count, 0.9, random)
        if name == "head_pitch":
            curve = curve - nods
        controls[:, CONTROL_INDEX[name]] = np.clip(lively * curve, -28, 28)


def _look(controls: NDArray[np.float64], manner: Manner, random: np.random.Generator) -> None:
    """Saccades between holds, mostly at the viewer whatever the head does; blinks."""
    count = len(controls)
    starts, targets, frame = [0], [[0.0, 0.0]], random.uniform(0.3, 2.0) * FRAME_RATE
    while frame < count:
        starts.append(int(frame))
        away = random.random() < 0.35
        spread = (0.5, 0.35) if away else (0.05, 0.04)
        targets.append([float(random.normal(0, s)) for s in spread])
        frame += random.uniform(0.3, 1.0 if away else 2.8) * FRAME_RATE
    gaze = holds(count, np.array(targets), np.array(starts), np.full(len(starts), 2))
    yaw = controls[:, CONTROL_INDEX["head_yaw"]]
    pitch = controls[:, CONTROL_INDEX["head_pitch"]]
    controls[:, CONTROL_INDEX["gaze_x"]] = np.clip(gaze[:, 0] - yaw / 34, -1, 1)
    controls[:, CONTROL_INDEX["gaze_y"]] = np.clip(gaze[:, 1] - pitch / 30, -1, 1)
    jumps = np.abs(np.diff(gaze[:, 0], prepend=gaze[0, 0])) > 0.25
    closed = np.maximum(blinks(count, random), 0.35 * jumps)
    down = np.clip(-controls[:, CONTROL_INDEX["gaze_y"]] * 0.3, 0, 0.3)
    _put(controls, "eyeBlink", np.maximum(closed, down * (closed < 0.3)))


def _breathe(num_frames: int, random: np.random.Generator) -> Curve:
    rate_hz = random.uniform(0.2, 0.32) * (1 + 0.12 * drift(num_frames, 0.1, random))
    phase = 2 * np.pi * (random.random() + np.cumsum(rate_hz) / FRAME_RATE)
    return np.sin(phase)
