"""The requests of a session that its server could lose: kept until it says that it will not."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.errors import ServerUnavailable

# Half an hour of speech at 16 kHz. Without a store the server never says what it keeps.
_MAX_BYTES = 64 << 20


class RequestLog:
    """All requests of one session but its config and acknowledgements, from some position on."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._requests: deque[pb.StreamAnimateRequest] = deque()
        self._num_bytes = 0
        self._first_audio_byte = 0
        """Of the audio: position of the first byte held."""
        self._first_request = 0
        """Of the other requests, likewise."""

    def __len__(self) -> int:
        """Requests held."""
        return len(self._requests)

    def append(self, request: pb.StreamAnimateRequest) -> None:
        """Adds a request behind the others. The oldest are given up where there are too many."""
        self._requests.append(request)
        self._num_bytes += request.ByteSize()
        while self._num_bytes > self._max_bytes:
            self._drop_first()

    def take_back(self) -> None:
        """The last request was not sent after all."""
        self._num_bytes -= self._requests.pop().ByteSize()

    def overtake(
        self,
        request: pb.StreamAnimateRequest,
        dropped: Sequence[pb.StreamAnimateRequest],
        unsent: pb.StreamAnimateRequest | None,
    ) -> None:
        """A request was sent before `unsent`, and others that waited are not sent any more."""
        requests = []
        for held in self._requests:
            if held is unsent:
                requests.append(request)
            if not any(held is one for one in dropped):
                requests.append(held)
        if unsent is None:
            requests.append(request)
        self._requests = deque(requests)
        self._num_bytes = sum(held.ByteSize() for held in requests)

    def forget_before(self, position: pb.InputPosition) -> None:
        """The server keeps all requests before a position."""
        while self._requests:
            first = self._requests[0]
            if first.HasField("audio"):
                stop = self._first_audio_byte + len(first.audio.data)
                is_kept = stop <= position.num_audio_bytes
            else:
                is_kept = self._first_request < position.num_requests
            if not is_kept:
                return
            self._drop_first()

    def after(self, position: pb.InputPosition) -> list[pb.StreamAnimateRequest]:
        """The requests behind a position.

        Raises:
            ServerUnavailable: some of them are not held any more.
        """
        audio_byte, request_index = self._first_audio_byte, self._first_request
        if position.num_audio_bytes < audio_byte or position.num_requests < request_index:
            raise ServerUnavailable("the session cannot go on: the server kept too little of it")
        wanted = []
        for request in self._requests:
            if request.HasField("audio"):
                data = request.audio.data
                rest = data[max(0, position.num_audio_bytes - audio_byte) :]
                audio_byte += len(data)
                if rest:
                    wanted.append(pb.StreamAnimateRequest(audio=pb.AudioChunk(data=rest)))
            else:
                if request_index >= position.num_requests:
                    wanted.append(request)
                request_index += 1
        return wanted

    def _drop_first(self) -> None:
        first = self._requests.popleft()
        self._num_bytes -= first.ByteSize()
        if first.HasField("audio"):
            self._first_audio_byte += len(first.audio.data)
        else:
            self._first_request += 1
