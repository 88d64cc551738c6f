"""Lips against truth, human speech, and seams: what sessions that speak are measured by."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from mirrorme_client.audio_file import AudioFile
from mirrorme_training.evaluation.curves import (
    Curve,
    best_lag,
    correlation,
    envelope,
    lagged,
    lips_that_closed,
    pause_frames,
    seam_ratio,
)
from mirrorme_training.evaluation.face_reader import CLOSED_RATIO
from mirrorme_training.evaluation.unseen import FAMILIAR, READERS, Reader, Recital, person, recite
from mirrorme_training.portrait_renderer import render
from numpy.typing import NDArray

from evaluation.row import Row
from evaluation.studio import SAMPLE_RATE_HZ, Frames, Studio, noise_like, people

_REACH_FRAMES = 6
Columns = dict[str, list[Curve]]


@dataclass(frozen=True)
class Take:
    """One recital: what it should look like, and what was made of it."""

    recital: Recital
    truth: Curve
    """[T] rendered opening"""
    made: Frames
    openings: dict[str, Curve]
    """Read from frames, by column of the table."""


class Takes:
    """Makes each take once, for all who measure it."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._takes: list[Take] | None = None
        self._count = min(studio.scale.recitals, len(READERS))

    async def all(self) -> list[Take]:
        """One a reader, each of another person."""
        if self._takes is None:
            self._takes = [await self._take(i, READERS[i]) for i in range(self._count)]
        return self._takes

    async def familiar(self) -> Take:
        """One more, of a voice that training knows."""
        return await self._take(self._count, FAMILIAR)

    async def _take(self, index: int, reader: Reader) -> Take:
        studio = self._studio
        seed = people(1, first=index)[0]
        face = studio.face_reader(seed)
        studio.say(f"person {seed} recites as {reader.name}")
        recital, who = recite(reader), person(seed)
        shown_truth = render(who, recital.act(index), studio.size_px)
        acted = shown_truth.frames.numpy()
        made = await studio.stream(seed, recital.samples)
        shown = {"made": made, "truth": acted, "control": noise_like(acted)}
        if (decoded := studio.through_vae(shown_truth)) is not None:
            shown["vae"] = decoded
        openings = {name: face.read(frames).mouth_opening for name, frames in shown.items()}
        truth = recital.mouth_opening(who)
        studio.pictures.strips(
            f"lips-{index}",
            f"{reader.name}: below, what the service made; above, the same speech rendered",
            [acted, made],
        )
        studio.pictures.curves(
            f"lips-{index}-opening",
            f"{reader.name}: opening of the mouth over its width",
            {"truth": truth, "made": openings["made"]},
            "opening",
        )
        return Take(recital, truth, made, openings)


async def measure_lips(studio: Studio, takes: Takes) -> list[Row]:
    """Opening of the mouth against truth."""
    all_takes = await takes.all()
    truths = [take.truth for take in all_takes]
    columns: Columns = {
        name: [take.openings[name] for take in all_takes] for name in all_takes[0].openings
    }
    likeness = {
        name: float(np.mean([correlation(c, t) for c, t in zip(curves, truths, strict=True)]))
        for name, curves in columns.items()
    }
    swapped = {name: _swapped(curves, truths) for name, curves in columns.items()}
    closed = {
        name: _closed_share(curves, [take.recital for take in all_takes])
        for name, curves in columns.items()
    }
    recitals = [take.recital for take in all_takes]
    by_chance = _closed_share(columns["made"], recitals[1:] + recitals[:1])
    lag = {name: float(best_lag(curves, truths)) for name, curves in columns.items()}
    worst = min(correlation(c, t) for c, t in zip(columns["made"], truths, strict=True))
    known = await takes.familiar()
    known_r = {name: correlation(curve, known.truth) for name, curve in known.openings.items()}
    return [
        Row(
            "lips", "mouth opening against truth, r",
            "Pearson's r over the frames of a clip, mean over clips, of the opening read from "
            "pixels and the rendered opening for the same phonemes (head straight, no smile)",
            likeness["made"], likeness["truth"], likeness.get("vae"), likeness["control"],
            "white noise", at_least=0.8, note=f"worst clip {worst:.2f}",
        ),
        Row(
            "lips", "with a voice of training, r",
            "the same of one more unseen person who says unseen texts in a voice that training "
            "hears", known_r["made"], known_r["truth"], known_r.get("vae"), known_r["control"],
            "white noise",
        ),
        Row(
            "lips", "best lag, frames",
            "shift of the read opening within ±6 frames that gives the highest mean r; positive: "
            "late", lag["made"], lag["truth"], lag.get("vae"), at_least=-1, at_most=1,
        ),
        Row(
            "lips", "closed on p, b, m",
            f"share of p, b and m during which a frame shows an opening under {CLOSED_RATIO:g} of "
            "the mouth's width", closed["made"], closed["truth"], closed.get("vae"), by_chance,
            "at the times of another clip", at_least=0.9,
        ),
        Row(
            "lips", "r with another clip's audio",
            "mean r of what was read with the truth of every other clip", swapped["made"],
            swapped["truth"], swapped.get("vae"), at_most=0.2,
        ),
    ]  # fmt: skip


async def measure_seams(studio: Studio, takes: Takes) -> list[Row]:
    """Differences of neighbouring frames at chunks' ends and within chunks."""
    pairs = [seam_ratio(take.made, studio.chunk_frames) for take in await takes.all()]
    at_seams, inside = (float(np.mean(values)) for values in zip(*pairs, strict=True))
    first = (await takes.all())[0]
    shown = render(person(people(1)[0]), first.recital.act(0), studio.size_px).frames.numpy()
    jumping = shown.copy()
    jumping[studio.chunk_frames :: 2 * studio.chunk_frames] = 255 - jumping[0]
    true_seams, true_inside = seam_ratio(shown, studio.chunk_frames)
    bad_seams, bad_inside = seam_ratio(jumping, studio.chunk_frames)
    return [
        Row(
            "seams", "difference at seams over inside",
            "mean absolute difference of neighbouring frames across chunks' ends over that inside "
            "chunks", at_seams / max(inside, 1e-9), true_seams / true_inside,
            control=bad_seams / bad_inside, control_is="another picture after every second chunk",
            at_most=1.1, note=f"{inside:.2f} of 255 inside chunks",
        )
    ]  # fmt: skip


async def measure_human(studio: Studio, takes: Takes, paths: Sequence[Path]) -> list[Row]:
    """Recordings of people, whose phonemes nobody knows."""
    name = "mouth with the loudness, r"
    if not paths:
        return [Row("human", name, "left out", None, note="no recordings: see --recordings")]
    known = await takes.all()
    references = [(take.recital.samples, take.openings["truth"]) for take in known]
    heard, clips = [], []
    for index, path in enumerate(paths[: studio.scale.recordings]):
        seed = people(1, first=index % len(known))[0]
        studio.say(f"person {seed} says {path.name}")
        samples = _recording(path)
        made = await studio.stream(seed, samples)
        opening = studio.face_reader(seed).read(made).mouth_opening
        clips.append((samples, opening))
        heard.append((path.name, samples))
        studio.pictures.strips(f"human-{path.stem}", f"{path.name}: a human voice", [made])
        loud = envelope(samples, len(opening))
        studio.pictures.curves(
            f"human-{path.stem}-opening",
            f"{path.name}: opening of the mouth, and loudness of the speech (scaled)",
            {"made": opening, "loudness": loud * max(0.1, float(opening.max()))},
            "opening",
        )
    made_r, made_lag = _with_loudness(clips)
    truth_r, truth_lag = _with_loudness(references)
    rotated = [
        (samples, clips[(index + 1) % len(clips)][1]) for index, (samples, _) in enumerate(clips)
    ]
    control_r = _with_loudness(rotated, made_lag)[0] if len(clips) > 1 else None
    made_rest, made_count = _rest_share(clips)
    truth_rest, _ = _rest_share(references)
    return [
        Row(
            "human", name,
            "r of the opening read and the speech's loudness (frame by frame, smoothed at 4 Hz), "
            "at the best lag, mean over recordings; truth: renderings of synthetic speech", made_r,
            truth_r, control=control_r, control_is="another recording's loudness",
            note=f"{len(clips)} recordings; lag {made_lag} frames, of truth {truth_lag}",
        ),
        Row(
            "human", "closed in pauses",
            "share of the frames in pauses (a third of a second and longer, an eighth from their "
            f"ends) with an opening under {CLOSED_RATIO:g} of the mouth's width", made_rest,
            truth_rest, at_least=0.9, note=f"{made_count} frames",
        ),
    ]  # fmt: skip


def _swapped(curves: list[Curve], truths: list[Curve]) -> float:
    values = []
    for (i, curve), (j, truth) in itertools.product(enumerate(curves), enumerate(truths)):
        if i != j:
            count = min(len(curve), len(truth))
            values.append(correlation(curve[:count], truth[:count]))
    return float(np.mean(values))


def _closed_share(curves: list[Curve], recitals: list[Recital]) -> float:
    closed = [
        shut
        for curve, recital in zip(curves, recitals, strict=True)
        for shut in lips_that_closed(curve, recital.spans)
    ]
    return float(np.mean(closed))


def _with_loudness(
    clips: list[tuple[NDArray[np.float32], Curve]], lag: int | None = None
) -> tuple[float, int]:
    curves = [opening for _, opening in clips]
    levels = [envelope(samples, len(opening)) for samples, opening in clips]
    shared = [min(len(c), len(x)) for c, x in zip(curves, levels, strict=True)]
    curves = [c[:n] for c, n in zip(curves, shared, strict=True)]
    levels = [x[:n] for x, n in zip(levels, shared, strict=True)]
    lag = best_lag(curves, levels, _REACH_FRAMES) if lag is None else lag
    values = [lagged(c, x, lag) for c, x in zip(curves, levels, strict=True)]
    return float(np.mean(values)), lag


def _rest_share(clips: list[tuple[NDArray[np.float32], Curve]]) -> tuple[float | None, int]:
    resting = np.concatenate(
        [opening[pause_frames(samples, len(opening))] for samples, opening in clips]
    )
    return (float((resting < CLOSED_RATIO).mean()) if len(resting) else None), len(resting)


def _recording(path: Path) -> NDArray[np.float32]:
    with AudioFile(path) as file:
        rate_hz = file.format.sample_rate_hz
        data = b"".join(file)
    samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    return soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)
