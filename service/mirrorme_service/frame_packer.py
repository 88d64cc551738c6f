"""Encoded frames to the messages that carry them, each with its samples.

Decides only what goes into which message: order, events and pacing are the session's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from numpy.typing import NDArray

from mirrorme_service.clock import MediaClock
from mirrorme_service.frame_encoder import RAW_ENCODINGS, EncodedFrame

MAX_MESSAGE_BYTES = 256 * 1024
"""Larger messages make an event loop late; only a single frame may exceed it."""

# Tags, lengths and numbers around a frame's bytes and around a batch, at most.
_FRAME_OVERHEAD_BYTES = 24
_BATCH_OVERHEAD_BYTES = 48
_BYTES_PER_SAMPLE = 2


class FramePacker:
    """Packs the frames of one session. Holds no state from call to call.

    Args:
        clock: says at which sample a frame starts.
        encoding: raw frames go one a message.
        include_audio: put each batch's audio beside its frames.
        max_message_bytes: of a batch of several frames, serialized.
    """

    def __init__(
        self,
        clock: MediaClock,
        encoding: pb.FrameEncoding,
        *,
        include_audio: bool,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._clock = clock
        self._one_a_message = encoding in RAW_ENCODINGS
        self._include_audio = include_audio
        self._max_bytes = max_message_bytes - _BATCH_OVERHEAD_BYTES

    def pack(
        self,
        first_frame: int,
        frames: Sequence[EncodedFrame],
        pcm: NDArray[np.float32],
        *,
        epoch: int,
        utterance: int,
        is_idle: bool,
        left_out: NDArray[np.float32] | None = None,
    ) -> list[pb.FrameBatch]:
        """The batches of consecutive frames that are alike in epoch, utterance and idleness.

        Args:
            first_frame: index of the first one.
            frames: in order.
            pcm: [N], the audio from the first frame's sample to the sample of the frame after the
                last; shorter where the session's audio ends within it. A batch's audio reaches to
                the next batch's first sample, so that nothing is left out or given twice.
            epoch, utterance, is_idle: of all of them.
            left_out: [N], the audio just before, of frames that were left out; it goes first.
        """
        start = self._clock.first_sample(first_frame)
        stop = self._clock.first_sample(first_frame + len(frames))
        assert len(pcm) <= stop - start, f"{len(pcm)} samples for frames of {stop - start}"
        audio = _to_s16(pcm) if self._include_audio else np.zeros(0, "<i2")
        batches = []
        for first, last in self._groups(first_frame, frames):
            batch = pb.FrameBatch(
                first_frame_index=first, epoch=epoch, utterance=utterance, is_idle=is_idle
            )
            for index in range(first, last):
                frame = frames[index - first_frame]
                batch.frames.add(
                    data=frame.data,
                    sample_index=self._clock.first_sample(index),
                    is_key_frame=frame.is_key_frame,
                )
            first_sample, last_sample = map(self._clock.first_sample, (first, last))
            batch.audio = audio[first_sample - start : last_sample - start].tobytes()
            batches.append(batch)
        if left_out is not None and self._include_audio and batches:
            batches[0].audio = _to_s16(left_out).tobytes() + batches[0].audio
        return batches

    def _groups(
        self, first_frame: int, frames: Sequence[EncodedFrame]
    ) -> Iterator[tuple[int, int]]:
        """Ranges of frame indices, each of which goes into one message."""
        first, num_bytes = first_frame, 0
        for index, frame in enumerate(frames, first_frame):
            size = self._size(index, frame)
            if index > first and (self._one_a_message or num_bytes + size > self._max_bytes):
                yield first, index
                first, num_bytes = index, 0
            num_bytes += size
        if frames:
            yield first, first_frame + len(frames)

    def _size(self, index: int, frame: EncodedFrame) -> int:
        num_bytes = len(frame.data) + _FRAME_OVERHEAD_BYTES
        if self._include_audio:
            first_sample, next_sample = map(self._clock.first_sample, (index, index + 1))
            num_bytes += _BYTES_PER_SAMPLE * (next_sample - first_sample)
        return num_bytes


def _to_s16(pcm: NDArray[np.float32]) -> NDArray[np.int16]:
    """16-bit samples, exactly those that came where the client sent 16 bits at 16 kHz."""
    return np.clip(np.rint(pcm * np.float32(32768)), -32768, 32767).astype("<i2")
