"""What users ask for besides speech: hands and controls; and what nobody asked for: idling."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from mirrorme_training.evaluation.control_reader import ControlReader
from mirrorme_training.evaluation.curves import Curve, breathing, correlation, count_blinks
from mirrorme_training.evaluation.face_reader import CLOSED_RATIO
from mirrorme_training.evaluation.fitting_poses import (
    JAW_UNDER_CLOSED_LIPS,
    control_reach,
    silent_pose,
    swept_pose,
)
from mirrorme_training.evaluation.hand_finder import find_keypoints, pck
from mirrorme_training.evaluation.unseen import person
from mirrorme_training.motion_gestures import hand_motion
from mirrorme_training.portrait_pose import CONTROL_INDEX, rest_pose
from mirrorme_training.portrait_renderer import RenderedFrames, render

from evaluation.row import Row
from evaluation.studio import Direction, Frames, Studio, noise_like, people, silence

_HAND_FRAMES = 72
_HAND_STRIDE = 6
_SWEEP_FRAMES = 48
_SWEEPS = 2
_LEAD_FRAMES = 8
"""A sweep is measured from the second chunk on."""


async def measure_hands(studio: Studio) -> list[Row]:
    """Hands given as keypoints."""
    columns: dict[str, list[np.ndarray]] = {}
    sizes: list[np.ndarray] = []
    for index, seed in enumerate(people(studio.scale.gesturing, first=20)):
        studio.say(f"person {seed} moves both hands")
        given = _gesturing(seed, 0, studio.size_px, still=True)
        acted = _gesturing(seed, 0, studio.size_px)
        others = _gesturing(seed, 1, studio.size_px, stride=_HAND_STRIDE)
        made = await studio.stream(seed, silence(_HAND_FRAMES), hands=given.hand_keypoints.numpy())
        template = given.frames.numpy()
        shown = {
            "made": made[::_HAND_STRIDE], "truth": acted.frames.numpy()[::_HAND_STRIDE],
            "control": others.frames.numpy(), "noise": noise_like(others.frames.numpy()),
        }  # fmt: skip
        if (decoded := studio.through_vae(acted)) is not None:
            shown["vae"] = decoded[::_HAND_STRIDE]
        for index_shown, frame in enumerate(range(0, _HAND_FRAMES, _HAND_STRIDE)):
            points, size = _visible(given, frame, studio.size_px)
            sizes.append(size)
            for name, frames in shown.items():
                found = find_keypoints(frames[index_shown], template[frame], points)
                columns.setdefault(name, []).append(found)
        caption = f"person {seed}: above, hands as given; below, what the service made"
        studio.pictures.strips(f"hands-{index}", caption, [template, made])
    size_px = np.concatenate(sizes)
    share = {name: pck(np.concatenate(parts), size_px) for name, parts in columns.items()}
    return [
        Row(
            "hands", "PCK@0.1",
            "share of the given keypoints within the frame that are found within a tenth of the "
            "hand's size; found: where the frame is most like a rendering's patch around the "
            "keypoint (normalised correlation of at least 0.5, searched to both sides)",
            share["made"], share["truth"], share.get("vae"), share["control"], "other hands",
            at_least=0.8, note=f"white noise {share['noise']:.2f}; {len(size_px)} keypoints",
        )
    ]  # fmt: skip


def _gesturing(
    seed: int, draw: int, size_px: int, *, still: bool = False, stride: int = 1
) -> RenderedFrames:
    """Somebody who moves both hands; still: all else rests; each so manieth frame."""
    random = np.random.default_rng([seed, draw])
    voice = np.ones(_HAND_FRAMES)
    hands, shown = hand_motion("both", voice, np.zeros(_HAND_FRAMES), random)
    pose = rest_pose(_HAND_FRAMES) if still else silent_pose(seed, _HAND_FRAMES)
    pose = dataclasses.replace(pose, hands=hands, hand_shown=shown)
    return render(person(seed), pose[::stride], size_px)


def _visible(shown: RenderedFrames, frame: int, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints in the frame `[K, 2]` in pixels, and the size of the hand of each `[K]`."""
    points, sizes = [], []
    for hand in shown.hand_keypoints[frame].double().numpy():
        inside = hand[:, 2] > 0
        side = np.ptp(hand[:, :2], axis=0).max() * size_px
        points.append(hand[inside, :2] * size_px)
        sizes.append(np.full(int(inside.sum()), side))
    return np.concatenate(points), np.concatenate(sizes)


async def measure_controls(studio: Studio) -> list[Row]:
    """Each control swept by itself in silence."""
    made: dict[str, list[float]] = {}
    truth: dict[str, list[float]] = {}
    idle: dict[str, list[float]] = {}
    slopes: dict[str, list[float]] = {}
    names = [name for name in studio.controls if name in CONTROL_INDEX]
    strange = [name for name in studio.controls if name not in CONTROL_INDEX]
    for seed in people(studio.scale.steered, first=30):
        studio.say(f"fit readers of {len(names)} controls on renderings of person {seed}")
        reader = ControlReader(person(seed), studio.size_px, studio.scale.control_poses)
        resting = reader.read(await studio.stream(seed, silence(_SWEEP_FRAMES)))
        studio.say("sweep each control")
        for name in names:
            values = _sweep(name)
            frames = await studio.stream(
                seed, silence(_SWEEP_FRAMES), directions=_directions(name, values)
            )
            read = reader.read(frames)[name][_LEAD_FRAMES:]
            asked = values[_LEAD_FRAMES:]
            made.setdefault(name, []).append(correlation(read, asked))
            slopes.setdefault(name, []).append(float(np.polyfit(asked, read, 1)[0]))
            idle.setdefault(name, []).append(correlation(resting[name][_LEAD_FRAMES:], asked))
            if studio.scale.true_sweeps:
                acted = _acted_sweep(seed, name, values[::2], studio.size_px)
                read = reader.read(acted)[name]
                truth.setdefault(name, []).append(correlation(read, values[::2]))
            if name in ("jawOpen", "head_yaw", "eyeBlinkLeft", "mouthSmileLeft"):
                studio.pictures.strips(f"control-{name}", f"{name} swept twice", [frames])
    weakest = min(made, key=lambda name: float(np.mean(made[name])))
    share = [float(np.mean(values)) >= 0.7 for values in made.values()]
    true_share = [float(np.mean(values)) >= 0.7 for values in truth.values()]
    summary = Row(
        "controls", "share of the controls that follow",
        "controls whose r is at least 0.7, of all that are served", float(np.mean(share)),
        float(np.mean(true_share)) if true_share else None,
        control=float(np.mean([abs(float(np.mean(v))) >= 0.7 for v in idle.values()])),
        control_is="nothing asked", at_least=1.0, note=f"weakest: {weakest}",
    )  # fmt: skip
    return [
        summary,
        *(
            Row(
                "controls", name,
                "r of the value asked for and the value read from pixels, frame by frame; asked: "
                f"two waves from {control_reach(name)[0]:g} to {control_reach(name)[1]:g}",
                float(np.mean(made[name])),
                float(np.mean(truth[name])) if name in truth else None,
                control=float(np.mean(idle[name])), control_is="nothing asked", at_least=0.7,
                note=f"read / asked {np.mean(slopes[name]):.2f}",
            )
            for name in names
        ),
        *(
            Row("controls", name, "not measured", None, note="renderings do not know it")
            for name in strange
        ),
    ]  # fmt: skip


def _sweep(name: str) -> Curve:
    low, high = control_reach(name)
    phase = 2 * np.pi * _SWEEPS * np.arange(_SWEEP_FRAMES) / _SWEEP_FRAMES
    return low + (high - low) * (1 - np.cos(phase)) / 2


def _directions(name: str, values: Curve) -> list[Direction]:
    others = {"jawOpen": JAW_UNDER_CLOSED_LIPS} if name == "mouthClose" else {}
    return [Direction(frame, {name: float(value), **others}) for frame, value in enumerate(values)]


def _acted_sweep(seed: int, name: str, values: Curve, size_px: int) -> Frames:
    pose = swept_pose(seed, name, torch.from_numpy(values).float())
    return render(person(seed), pose, size_px).frames.numpy()


async def measure_idle(studio: Studio) -> list[Row]:
    """Half a minute of silence."""
    closed, breaths, blinks = [], [], []
    num_frames = 24 * studio.scale.idle_s
    for seed in people(studio.scale.idling):
        face = studio.face_reader(seed)
        studio.say(f"person {seed} is silent for {studio.scale.idle_s} s")
        made = await studio.watch(seed, num_frames)
        num_acted = 24 * studio.scale.true_idle_s
        acted = render(person(seed), silent_pose(seed, num_acted), studio.size_px).frames.numpy()
        still = np.repeat(studio.portrait(seed)[None], 240, axis=0)
        shown = (made, acted, still)
        readings = [face.read(frames) for frames in shown]
        closed.append([float((r.mouth_opening < CLOSED_RATIO).mean()) for r in readings])
        breaths.append([breathing(frames) for frames in shown])
        blinks.append(
            [
                count_blinks(reading.eyes_closed) * num_frames / len(frames)
                for reading, frames in zip(readings, shown, strict=True)
            ]
        )
        studio.pictures.strips(f"idle-{seed}", f"person {seed}, half a minute of silence", [made])
        studio.pictures.curves(
            f"idle-{seed}-eyes", f"person {seed}: eyes in silence",
            {"made": readings[0].eyes_closed}, "closed",
        )  # fmt: skip
    made_closed, truth_closed, _ = np.mean(closed, axis=0)
    made_blinks, truth_blinks, still_blinks = np.mean(blinks, axis=0)
    present = np.mean([[b.present for b in some] for some in breaths], axis=0)
    first = breaths[0][0]
    return [
        Row(
            "idle", "mouth closed",
            f"share of the frames of 30 s of silence with an opening under {CLOSED_RATIO:g} of the "
            "mouth's width", float(made_closed), float(truth_closed), at_least=0.95,
        ),
        Row(
            "idle", "breathing",
            "share of people whose trunk goes up and down by at least 0.1 pixels (standard "
            "deviation), with at least half of the power of its movement up to 2 Hz between 0.15 "
            "and 0.45 Hz", float(present[0]), float(present[1]), control=float(present[2]),
            control_is="a still picture", at_least=1.0,
            note=f"{first.amplitude_px:.2f} px, {first.rate_hz * 60:.0f} a minute, "
            f"share {first.share:.2f}",
        ),
        Row(
            "idle", "blinks in 30 s",
            "times that the eyes, read from pixels, go from open to more than half closed and back "
            "within a second, mean over people", float(made_blinks), float(truth_blinks),
            control=float(still_blinks), control_is="a still picture", at_least=2, at_most=20,
        ),
    ]  # fmt: skip
