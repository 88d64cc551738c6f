"""How far a session has come at its client: from there it goes on when its stream breaks.

Knows responses, not streams; those are `resuming_call.py`'s.
"""

from __future__ import annotations

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.errors import ServerUnavailable

_MAX_FRUITLESS = 8


class SessionProgress:
    """What one session has got of its server, over all its streams."""

    def __init__(self) -> None:
        self.started: pb.SessionStarted | None = None
        """Of the first stream."""
        self.is_summed = False
        """Nothing is missing any more."""
        self._next_frame = 0
        self._events: list[pb.SessionEvent] = []
        """Since the last frame: they may come again."""
        self._num_fruitless = 0
        """Streams, one after the other, that brought no frame."""

    def note(self, response: pb.StreamAnimateResponse) -> bool:
        """Takes note of what came; False: it came before, in another stream."""
        match response.WhichOneof("message"):
            case "frames":
                batch = response.frames
                self._next_frame = batch.first_frame_index + len(batch.frames)
                self._num_fruitless = 0
                self._events.clear()
            case "event":
                if response.event in self._events:
                    return False
                self._events.append(response.event)
            case "summary":
                self.is_summed = True
        return True

    def note_break(self) -> None:
        """A stream broke."""
        self._num_fruitless += 1

    @property
    def is_resumable(self) -> bool:
        """Whether the server lets the session go on in another stream."""
        return self.started is not None and bool(self.started.takeover_token)

    def outlives(self, failure: BaseException | None) -> bool:
        """Whether the session goes on after a stream that ended with this."""
        return (
            self.is_resumable
            and isinstance(failure, ServerUnavailable)
            and self._num_fruitless < _MAX_FRUITLESS
        )

    def takeover(self) -> pb.StreamAnimateRequest:
        """What begins the next stream of a session that has started."""
        assert self.started is not None
        takeover = pb.SessionTakeover(
            session_id=self.started.session_id,
            next_frame_index=self._next_frame,
            takeover_token=self.started.takeover_token,
        )
        return pb.StreamAnimateRequest(config=pb.SessionConfig(takeover=takeover))
