"""The folder that `prepare` fills: tar shards in WebDataset's layout, and an index.

    footage.json         config, shards with their hashes, clips
    clips-00000.tar      <key>.mp4 .flac .npz .json, of many clips
    videos/<id>.json     what became of each video
    parts/<id>.tar       clips of finished videos that are in no shard yet
    report.html, report/ the page to look at

A file appears under its name when it is whole, so a run that is killed loses one video's work.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mirrorme_training.footage.clip_record import SUFFIXES, ClipRecord
from mirrorme_training.footage.errors import FootageError
from mirrorme_training.footage.footage_config import FootageConfig

INDEX_NAME = "footage.json"
_FORMAT = "mirrorme-footage-1"
_BLOCK = 2**20


class FootageFolder:
    """Owns the folder for the time of a run."""

    def __init__(self, folder: Path, config: FootageConfig) -> None:
        """
        Raises:
            FootageError: it holds clips of other settings, or something else.
        """
        self.path = folder
        self._config = config
        for part in (folder, folder / "videos", folder / "parts", folder / "report"):
            part.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX_NAME
        if not index.exists():
            self._shards: list[dict[str, Any]] = []
            self._write_index()
            return
        found = read_index(folder)
        wanted = json.loads(json.dumps(asdict(config)))
        if found["config"] != wanted:
            different = [k for k in wanted if found["config"].get(k) != wanted[k]]
            raise FootageError(
                f"{folder} holds clips of other settings ({', '.join(different)}): "
                "choose another folder"
            )
        self._shards = found["shards"]
        self._forget_packed_parts()

    def video_path(self, video: str) -> Path:
        """Where it is written what became of a video."""
        return self.path / "videos" / f"{video}.json"

    def finished(self, video: str) -> bool:
        """This video needs no work."""
        return self.video_path(video).exists()

    def finish_video(self, video: str, story: dict[str, Any]) -> None:
        """The last thing that is written of a video."""
        partial = self.path / "parts" / f"{video}.tar.partial"
        if partial.exists():
            partial.replace(partial.with_suffix(""))
        write_whole(self.video_path(video), json.dumps(story, indent=1).encode())

    def stories(self) -> list[dict[str, Any]]:
        """What became of all videos, by name."""
        paths = sorted((self.path / "videos").glob("*.json"))
        stories = [json.loads(path.read_text()) for path in paths]
        return sorted(stories, key=lambda story: (story["name"], story["id"]))

    def write_clips(self, video: str, records: Iterable[ClipRecord]) -> Iterator[ClipRecord]:
        """Writes a video's clips, and hands each on when it is written."""
        partial = self.path / "parts" / f"{video}.tar.partial"
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as part:
            for record in records:
                for name, content in record.members().items():
                    _add(part, name, content)
                yield record

    def pack(self) -> None:
        """Puts the clips of finished videos into shards."""
        parts = [p for p in sorted((self.path / "parts").glob("*.tar")) if self.finished(p.stem)]
        shards: list[dict[str, Any]] = []
        clips: list[dict[str, Any]] = []
        shard: tarfile.TarFile | None = None
        for part in parts:
            for members in _samples(part):
                if shard is None:
                    path = self._shard_path(len(self._shards) + len(shards))
                    shard = tarfile.open(  # noqa: SIM115
                        _partial(path), "w", format=tarfile.USTAR_FORMAT
                    )
                for name, content in members.items():
                    _add(shard, name, content)
                clips.append(_entry(members))
                if shard.offset >= self._config.shard_bytes:
                    shards.append(self._close(shard, clips, len(self._shards) + len(shards)))
                    shard, clips = None, []
        if shard is not None:
            shards.append(self._close(shard, clips, len(self._shards) + len(shards)))
        self._shards = self._shards + shards
        self._write_index()
        self._forget_packed_parts()

    def _close(
        self, shard: tarfile.TarFile, clips: list[dict[str, Any]], number: int
    ) -> dict[str, Any]:
        shard.close()
        path = self._shard_path(number)
        _partial(path).replace(path)
        return {
            "name": path.name,
            "sha256": file_hash(path),
            "num_bytes": path.stat().st_size,
            "clips": clips,
        }

    def _shard_path(self, number: int) -> Path:
        return self.path / f"clips-{number:05d}.tar"

    def _write_index(self) -> None:
        index = {"format": _FORMAT, "config": asdict(self._config), "shards": self._shards}
        write_whole(self.path / INDEX_NAME, (json.dumps(index, indent=1) + "\n").encode())

    def _forget_packed_parts(self) -> None:
        packed = {clip["key"].split("-")[0] for shard in self._shards for clip in shard["clips"]}
        for part in (self.path / "parts").iterdir():
            name = part.name.split(".")[0]
            if name in packed or (self.finished(name) and not any(_samples(part))):
                part.unlink()


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a folder.

    Raises:
        FootageError: there is none that can be read.
    """
    try:
        index = json.loads((folder / INDEX_NAME).read_text())
        if index["format"] != _FORMAT:
            raise FootageError(f"{folder} holds {index['format']}: want {_FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FootageError(f"{folder} is no folder of footage: {error}") from error
    return index


def write_whole(path: Path, content: bytes) -> None:
    """Under its name only when it is whole."""
    partial = _partial(path)
    partial.write_bytes(content)
    partial.replace(path)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def _samples(part: Path) -> Iterator[dict[str, bytes]]:
    """Members of one clip after the other."""
    with tarfile.open(part) as tar:
        members: dict[str, bytes] = {}
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            members[member.name] = file.read()
            if len(members) == len(SUFFIXES):
                yield members
                members = {}


def _entry(members: dict[str, bytes]) -> dict[str, Any]:
    name = next(name for name in members if name.endswith(".json"))
    notes = json.loads(members[name])
    return {field: notes[field] for field in ("key", "framing", "num_frames")}
