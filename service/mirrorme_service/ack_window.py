"""Frames in flight: sent, and not acknowledged yet."""

from __future__ import annotations

from collections import deque

from mirrorme_service.errors import OutOfRange


class AckWindow:
    """Bounds the frames in flight of one session.

    Args:
        max_unacked_frames: at most so many; 0: no bound, acknowledgements change nothing.
    """

    def __init__(self, max_unacked_frames: int) -> None:
        self._max = max_unacked_frames
        self._in_flight: deque[int] = deque()
        self._num_sent = 0

    @property
    def room(self) -> int | None:
        """Frames that may be sent now; None: any number."""
        return max(0, self._max - len(self._in_flight)) if self._max else None

    def sent(self, first_frame: int, stop_frame: int) -> None:
        """Frames are on their way."""
        self._num_sent = stop_frame
        if self._max:
            self._in_flight.extend(range(first_frame, stop_frame))

    def acknowledge(self, last_frame: int) -> None:
        """All frames up to this one have arrived.

        Raises:
            OutOfRange: it was not sent.
        """
        if last_frame >= self._num_sent:
            raise OutOfRange(
                "ACK_OF_UNSENT_FRAME",
                f"ack.last_frame_index is {last_frame}, of a frame that was not sent: acknowledge "
                "frames that were received",
                field="ack.last_frame_index",
                got=last_frame,
                expected=f"less than {self._num_sent}",
            )
        while self._in_flight and self._in_flight[0] <= last_frame:
            self._in_flight.popleft()

    def resume(self, next_frame: int) -> None:
        """All frames before this one were sent, and have arrived."""
        self._num_sent = next_frame

    def open(self) -> None:
        """Nobody acknowledges any more: no bound from now on."""
        self._max = 0
        self._in_flight.clear()
