"""A session as bytes: taken between two of its steps, restored at any gateway of the same model.

What is taken reaches back to the frames that the client acknowledged. The chunks that were made
since are not in it: they are made again, from the same audio and noise, and are the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.delivery_marks import DeliveryMark, FrameCounts
from mirrorme_service.identity_cache import Identity
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_state import Cut, SessionState
from mirrorme_service.state_codec import StateUnreadable, decode_state, encode_state
from mirrorme_service.utterances import Border

_FORMAT = 2
"""Another number for every other layout: a gateway reads its own only."""


def session_record(
    started: pb.SessionStarted, state: SessionState, counts: SessionCounts
) -> bytes | None:
    """The session as it is; None: its client acknowledged too little to go on elsewhere."""
    mark = state.marks.resumable
    if mark is None:
        return None
    without_token = pb.SessionStarted()
    without_token.CopyFrom(started)
    without_token.ClearField("takeover_token")
    identity = state.identity
    chunk = mark.frame // state.clock.chunk_frames
    utterances, timeline = state.timeline.utterances, state.timeline
    cuts = [*state.marks.told_since(mark, Cut), *state.cuts]
    told = state.marks.told_since(mark, Border)
    return encode_state(
        (
            _FORMAT,
            without_token.SerializeToString(),
            (identity.portrait.SerializeToString(), identity.latents),
            astuple(mark),
            counts.num_audio_samples,
            (state.num_audio_bytes, state.num_requests),
            state.audio.to_record(),
            state.speech.to_record(),
            timeline.to_record(),
            utterances.to_record(told, mark.open_utterance),
            state.conditions.to_record(),
            state.latents.to_record(chunk),
            [(cut.frame, cut.num_dropped_samples) for cut in cuts],
            state.is_paused,
        )
    )


@dataclass(frozen=True)
class SessionRecord:
    """A session that goes on."""

    started: pb.SessionStarted
    """Without the token."""
    identity: Identity
    mark: DeliveryMark
    wanted_frame: int
    """The first one that the client does not have."""
    input: pb.InputPosition
    num_audio_samples: int
    parts: Any
    """Of the state."""

    @classmethod
    def read(cls, data: bytes, wanted_frame: int) -> SessionRecord:
        """What `session_record` made.

        Raises:
            StateUnreadable: it is of another format, or damaged.
        """
        content = decode_state(data)
        try:
            version, started, identity, mark, num_samples, position, *parts = content
            if version != _FORMAT:
                raise StateUnreadable(f"a state of format {version}: want {_FORMAT}")
            portrait, latents = identity
            frame, audio_sample, epoch, utterance, open_utterance, last_speech, counts, _ = mark
            return cls(
                started=pb.SessionStarted.FromString(started),
                identity=Identity(pb.PortraitInfo.FromString(portrait), np.asarray(latents)),
                mark=DeliveryMark(
                    frame,
                    audio_sample,
                    epoch,
                    utterance,
                    open_utterance,
                    last_speech,
                    FrameCounts(*counts),
                    num_told=0,
                ),
                wanted_frame=wanted_frame,
                input=pb.InputPosition(num_audio_bytes=position[0], num_requests=position[1]),
                num_audio_samples=num_samples,
                parts=parts,
            )
        except (TypeError, ValueError, IndexError, DecodeError) as error:
            raise StateUnreadable(f"not a session's state: {error}") from error

    def restore(self, state: SessionState, counts: SessionCounts) -> None:
        """Makes a fresh state, of the same config and identity, that of the session."""
        audio, speech, timeline, utterances, conditions, latents, cuts, is_paused = self.parts
        state.audio.restore(audio)
        state.speech.restore(speech)
        state.timeline.restore(timeline)
        state.timeline.utterances.restore(utterances)
        state.conditions.restore(conditions)
        state.latents.restore(latents, state.identity)
        state.cuts = deque(Cut(*cut) for cut in cuts)
        state.is_paused = is_paused
        mark = self.mark
        state.num_audio_bytes = self.input.num_audio_bytes
        state.num_requests = self.input.num_requests
        state.next_chunk = mark.frame // state.clock.chunk_frames
        state.next_frame = mark.frame
        state.next_audio_sample = mark.audio_sample
        state.last_speech_frame = mark.last_speech_frame
        state.utterance = mark.utterance
        state.epoch = mark.epoch
        counts.num_audio_samples = self.num_audio_samples
        counts.num_chunks = state.next_chunk
        counts.num_interrupts = mark.epoch
        counts.num_frames = mark.counts.num_frames
        counts.num_idle_frames = mark.counts.num_idle_frames
        counts.num_skipped_frames = mark.counts.num_skipped_frames
        counts.num_late_frames = mark.counts.num_late_frames
        counts.num_frame_bytes = mark.counts.num_frame_bytes
