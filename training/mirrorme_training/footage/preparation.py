"""`prepare`: videos into a folder of clips. A run goes on where another was stopped."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from mirrorme_training.footage.clip_shards import FootageFolder, file_hash
from mirrorme_training.footage.errors import FootageError, VideoError
from mirrorme_training.footage.footage_config import FootageConfig
from mirrorme_training.footage.landmarks import Landmarker
from mirrorme_training.footage.report import write_report
from mirrorme_training.footage.video_preparation import (
    QueuedVideo,
    failed_story,
    prepare_video,
)

VIDEO_SUFFIXES = (
    *(".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"),
)
"""What is looked for in folders; files that are named are read whatever their name."""
OpenLandmarker = Callable[[], AbstractContextManager[Landmarker]]
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PrepareWatch(Protocol):
    """Told what happens, from several threads."""

    def begin(self, video: Path) -> None:
        """Work on a video starts."""
        ...

    def advance(self, video: Path, share: float) -> None:
        """So much of it is done, 0 to 1."""
        ...

    def end(self, video: Path, said: str) -> None:
        """It is done, or will not be."""
        ...


class _Stopped(Exception):
    """The run ends: another video found that it must, or the user did."""


def find_videos(paths: list[Path]) -> list[Path]:
    """Files as they are, and all videos in folders.

    Raises:
        FootageError: a path does not exist, or there are no videos.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
            found += [p for p in inside if p.is_file()]
        elif path.exists():
            found.append(path)
        else:
            raise FootageError(f"{path} does not exist")
    if not found:
        raise FootageError(f"no videos in {', '.join(map(str, paths))}")
    return found


def prepare(
    videos: list[Path], output: Path, config: FootageConfig, open_landmarker: OpenLandmarker,
    watch: PrepareWatch, num_workers: int = 1,
) -> list[dict[str, Any]]:  # fmt: skip
    """Prepares what is not done yet, packs the shards and writes the report.

    Returns:
        What became of all videos of the folder, see `clip_shards`.

    Raises:
        FootageError: the run cannot go on; running it again goes on where it was.
    """
    try:
        folder = FootageFolder(output, config)
        run = _Run(folder, config, open_landmarker, watch)
        with ThreadPoolExecutor(num_workers) as pool:
            jobs = [pool.submit(run.one, queued) for queued in run.queue(videos)]
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                run.stop()
                pool.shutdown(cancel_futures=True)
                raise
        folder.pack()
        stories = folder.stories()
        write_report(output, stories, config)
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise FootageError(
                f"no space left for {output} ({error.strerror}): "
                "make room and run the same command again, it goes on"
            ) from error
        raise FootageError(f"{output} cannot be written: {error}") from error
    return stories


class _Run:
    def __init__(
        self, folder: FootageFolder, config: FootageConfig, open_landmarker: OpenLandmarker,
        watch: PrepareWatch,
    ) -> None:  # fmt: skip
        self._folder, self._config = folder, config
        self._open_landmarker, self._watch = open_landmarker, watch
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Lets videos in work end soon, unfinished."""
        self._stopped.set()

    def queue(self, videos: list[Path]) -> Iterator[QueuedVideo]:
        """Videos that need work, each content once."""
        queued: dict[str, Path] = {}
        for path in videos:
            try:
                video = QueuedVideo(path, file_hash(path))
            except OSError as error:
                self._watch.end(path, f"cannot be read: {error.strerror}")
                continue
            if self._folder.finished(video.id):
                self._watch.end(path, "was done before")
            elif video.sha256 in queued:
                self._watch.end(path, f"is the same as {queued[video.sha256]}")
            else:
                queued[video.sha256] = path
                yield video

    def one(self, queued: QueuedVideo) -> None:
        """One video, whatever happens to it.

        Raises:
            FootageError, OSError: what would happen to the next one too.
        """
        if self._stopped.is_set():
            return
        path = queued.path
        self._watch.begin(path)

        def advance(share: float) -> None:
            if self._stopped.is_set():
                raise _Stopped
            self._watch.advance(path, share)

        try:
            with self._open_landmarker() as landmarker:
                story = prepare_video(queued, self._folder, landmarker, self._config, advance)
        except VideoError as error:
            story = failed_story(queued, str(error))
        except _Stopped:
            return
        self._folder.finish_video(queued.id, story)
        self._watch.end(path, said_of(story))


def said_of(story: dict[str, Any]) -> str:
    """One line on what became of a video."""
    if story["error"]:
        return f"not used: {story['error']}"
    seconds = sum(clip["num_frames"] for clip in story["clips"]) / 24
    line = f"{len(story['clips'])} clips, {seconds:.0f} s, of {story['seconds']:.0f} s"
    return "; ".join([line, *story["notes"]])
