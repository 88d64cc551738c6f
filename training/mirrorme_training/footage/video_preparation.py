"""All that happens to one video."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mirrorme_training.footage.clip_cutter import CutSource, cut_clips
from mirrorme_training.footage.clip_record import ClipRecord
from mirrorme_training.footage.clip_shards import FootageFolder
from mirrorme_training.footage.footage_config import FootageConfig
from mirrorme_training.footage.landmarks import Landmarker, Pixels
from mirrorme_training.footage.report_pictures import Contact, clip_strip
from mirrorme_training.footage.source_video import SourceVideo
from mirrorme_training.footage.speech_sync import measure_voice
from mirrorme_training.footage.survey import Dropped, Survey, survey
from mirrorme_training.footage.take_reader import read_takes
from mirrorme_training.footage.verdicts import Verdict
from mirrorme_training.motion_noise import FRAME_RATE

_MIN_SHOWN_FRAMES = FRAME_RATE // 2
_NAME_CHARACTERS = 40
Advance = Callable[[float], None]
"""Told how much of a video is done, 0 to 1."""


@dataclass(frozen=True)
class QueuedVideo:
    """A video by its content."""

    path: Path
    sha256: str

    @property
    def id(self) -> str:
        """Letters, digits and `_`; the same content under the same name has the same id."""
        name = re.sub(r"[^a-z0-9]+", "_", self.path.stem.lower()).strip("_")
        return f"{name[:_NAME_CHARACTERS]}_{self.sha256[:8]}"


def prepare_video(
    queued: QueuedVideo, folder: FootageFolder, landmarker: Landmarker, config: FootageConfig,
    advance: Advance,
) -> dict[str, Any]:  # fmt: skip
    """Writes the video's clips and the pictures of the report, and returns its story.

    Raises:
        VideoError: it cannot be used.
        OSError: the disk is full.
    """
    video = SourceVideo(queued.path)
    sound = video.sound()
    expected_frames = max(1.0, video.seconds * FRAME_RATE)
    num_walks = 1 + len(config.framings)

    def watch(walk: int, number: int) -> None:
        advance((walk + min(1.0, number / expected_frames)) / num_walks)

    contact = Contact()

    def watch_survey(number: int, picture: Pixels) -> None:
        contact.push(number, picture)
        watch(0, number)

    found = survey(video, landmarker, config, watch_survey)
    notes = [note for note in (video.damage, sound.damage) if note]
    source = CutSource(
        queued.id, queued.path.name, sound.samples, measure_voice(sound.samples, found.num_frames)
    )
    dropped = list(found.dropped)

    def records() -> Iterator[ClipRecord]:
        for walk, framing in enumerate(config.framings, start=1):
            takes = [take for take in found.takes if take.framing == framing]
            for footage in read_takes(
                video, takes, landmarker, config.size_px, lambda n, walk=walk: watch(walk, n)
            ):
                clips, rest = cut_clips(footage, source, config)
                dropped.extend(rest)
                yield from clips

    clips = []
    for record in folder.write_clips(queued.id, records()):
        picture = f"{record.notes.key}.jpg"
        clip_strip(record, folder.path / "report" / picture)
        clips.append({**asdict(record.notes), "picture": picture})
    return {
        "id": queued.id,
        "name": queued.path.name,
        "sha256": queued.sha256,
        "seconds": found.num_frames / FRAME_RATE,
        "error": None,
        "notes": notes,
        "clips": clips,
        "dropped": _dropped_story(dropped, contact, queued.id, folder, found),
    }


def failed_story(queued: QueuedVideo, error: str) -> dict[str, Any]:
    """Of a video that cannot be used."""
    return {
        "id": queued.id,
        "name": queued.path.name,
        "sha256": queued.sha256,
        "seconds": 0.0,
        "error": error,
        "notes": [],
        "clips": [],
        "dropped": [],
    }


def _dropped_story(
    dropped: list[Dropped], contact: Contact, video: str, folder: FootageFolder, found: Survey
) -> list[dict[str, Any]]:
    stories = []
    for part in sorted(dropped, key=lambda d: (d.stretch.start, d.framing)):
        stretch = part.stretch
        picture = None
        if len(stretch) >= _MIN_SHOWN_FRAMES or len(stretch) == found.num_frames:
            picture = f"{video}-{stretch.start:07d}-{stretch.stop:07d}.jpg"
            contact.strip(stretch.start, stretch.stop, folder.path / "report" / picture)
        stories.append(
            {
                "framing": part.framing,
                "start_s": stretch.start / FRAME_RATE,
                "stop_s": stretch.stop / FRAME_RATE,
                "verdict": Verdict(stretch.verdict).name.lower(),
                "detail": part.detail,
                "picture": picture,
            }
        )
    return stories
