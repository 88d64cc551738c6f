"""How a delivery stood at frames that the client may have to be sent again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeVar

_Told = TypeVar("_Told")

# A client that acknowledges nothing for so long cannot go on from its last frame any more.
_MAX_FRAMES = 480


@dataclass(frozen=True)
class FrameCounts:
    """Of the frames before one."""

    num_frames: int = 0
    num_idle_frames: int = 0
    num_skipped_frames: int = 0
    num_late_frames: int = 0
    num_frame_bytes: int = 0


@dataclass(frozen=True)
class DeliveryMark:
    """Before a frame, and before the events of that frame."""

    frame: int
    audio_sample: int
    """The first one that was not returned with a frame."""
    epoch: int
    utterance: int
    open_utterance: int | None
    """Whose beginning was told, and not its end."""
    last_speech_frame: int | None
    counts: FrameCounts
    num_told: int
    """Events of frames told before."""


class DeliveryMarks:
    """The marks of one session, from the last one that its client is past.

    Args:
        is_kept: whether the session is resumable. Else nothing is held.
    """

    def __init__(self, *, is_kept: bool) -> None:
        self._is_kept = is_kept
        self._marks: deque[DeliveryMark] = deque()
        self._told: deque[object] = deque()
        self._num_forgotten = 0
        """Of what was told."""
        self._next_frame = 0
        """The first one that the client has not acknowledged."""

    @property
    def num_told(self) -> int:
        """Events told so far."""
        return self._num_forgotten + len(self._told)

    @property
    def oldest(self) -> DeliveryMark | None:
        """What was needed for it must be kept."""
        return self._marks[0] if self._marks else None

    @property
    def resumable(self) -> DeliveryMark | None:
        """Where the session can go on, whatever the client has; None: nowhere."""
        mark = self.oldest
        return mark if mark is not None and mark.frame <= self._next_frame else None

    def add(self, mark: DeliveryMark) -> None:
        """The delivery has come to another frame, or to the same one again."""
        if not self._is_kept or (self._marks and mark.frame <= self._marks[-1].frame):
            return
        self._marks.append(mark)
        while mark.frame - self._marks[0].frame > _MAX_FRAMES:
            self._drop_first()

    def tell(self, event: object) -> None:
        """A border or a cut was told."""
        if self._is_kept:
            self._told.append(event)

    def told_since(self, mark: DeliveryMark, kind: type[_Told]) -> list[_Told]:
        """What was told after a mark, of one kind."""
        told = list(self._told)[mark.num_told - self._num_forgotten :]
        return [event for event in told if isinstance(event, kind)]

    def acknowledge(self, next_frame: int) -> None:
        """The client has all frames before this one."""
        self._next_frame = max(self._next_frame, next_frame)
        while len(self._marks) > 1 and self._marks[1].frame <= self._next_frame:
            self._drop_first()

    def _drop_first(self) -> None:
        self._marks.popleft()
        while self._marks and self._num_forgotten < self._marks[0].num_told:
            self._told.popleft()
            self._num_forgotten += 1
