"""What a session carries from chunk to chunk. Small, and all of it: engines keep nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service.audio_input import AudioInput
from mirrorme_service.clock import MediaClock
from mirrorme_service.condition_schedule import ConditionSchedule
from mirrorme_service.delivery_marks import DeliveryMark, DeliveryMarks, FrameCounts
from mirrorme_service.identity_cache import Identity
from mirrorme_service.latent_history import LatentHistory
from mirrorme_service.model import Model, Strengths
from mirrorme_service.speech_queue import SpeechQueue
from mirrorme_service.timeline import Timeline


@dataclass(frozen=True)
class Cut:
    """Where an interrupt takes effect in the video."""

    frame: int
    """The first one that is not of what was before."""
    num_dropped_samples: int


@dataclass
class SessionState:
    """A session between two messages. With it any gateway can make what was not delivered yet.

    What is kept reaches back to the chunk of `next_frame`: chunks that were made and not delivered
    can be made again, and are then the same.
    """

    clock: MediaClock
    seed: int
    strengths: Strengths
    identity: Identity
    """Of the chunks planned from now on."""
    audio: AudioInput
    """Bytes that are not samples yet."""
    speech: SpeechQueue
    """Samples that have no place in the video yet."""
    timeline: Timeline
    """Samples with a place in the video."""
    conditions: ConditionSchedule
    latents: LatentHistory
    num_context_latents: int
    """That a chunk looks back to."""
    marks: DeliveryMarks
    """What the client may have to be sent again."""
    num_audio_bytes: int = 0
    """Taken from messages."""
    num_requests: int = 0
    """Taken, but audio and acknowledgements."""
    next_chunk: int = 0
    """The first one that is not planned."""
    next_frame: int = 0
    """The first one that was neither delivered nor left out."""
    next_audio_sample: int = 0
    """The first one that was not returned with a frame."""
    last_speech_frame: int | None = None
    """The last one delivered that speech drove."""
    utterance: int = 0
    """Of the frames from `next_frame` on; 0 before the first one."""
    epoch: int = 0
    """Of the frames from `next_frame` on, up to the first of `cuts`."""
    cuts: deque[Cut] = field(default_factory=deque)
    """To come, or not told yet."""
    is_finished: bool = False
    """The client sends nothing more."""
    is_paused: bool = False

    @classmethod
    def start(
        cls,
        model: Model,
        settings: pb.SessionConfig,
        identity: Identity,
        *,
        max_poses_ahead_s: float,
    ) -> SessionState:
        """Before the first chunk: silence was heard and the portrait stood still.

        `settings` are in force: every default is filled in.
        """
        chunk = model.manifest.chunk
        # 1 is as trained: for a model that lets nobody choose.
        strengths = Strengths(
            expression=settings.expression if settings.HasField("expression") else 1.0,
            guidance=settings.guidance if settings.HasField("guidance") else 1.0,
        )
        return cls(
            clock=model.clock,
            seed=settings.seed,
            strengths=strengths,
            identity=identity,
            audio=AudioInput(settings.audio_format),
            speech=SpeechQueue(),
            timeline=Timeline(model.clock),
            conditions=ConditionSchedule(model.manifest, max_poses_ahead_s),
            latents=LatentHistory(),
            num_context_latents=max(chunk.motion_latents, chunk.decoder_context_latents),
            marks=DeliveryMarks(is_kept=settings.resumable),
        )

    @property
    def end_frame(self) -> int:
        """The first frame after all speech that has a place."""
        return self.clock.first_frame_from(self.timeline.speech_end_sample)

    def mark(self, counts: FrameCounts) -> None:
        """Notes how the delivery stands, in case that it must go on from here again."""
        mark = DeliveryMark(
            frame=self.next_frame,
            audio_sample=self.next_audio_sample,
            epoch=self.epoch,
            utterance=self.utterance,
            open_utterance=self.timeline.utterances.open_utterance,
            last_speech_frame=self.last_speech_frame,
            counts=counts,
            num_told=self.marks.num_told,
        )
        self.marks.add(mark)

    def release(self) -> None:
        """Frees what was only needed for frames that are delivered, and not to be sent again."""
        frame, audio_sample = self.next_frame, self.next_audio_sample
        if (mark := self.marks.oldest) is not None:
            frame, audio_sample = mark.frame, mark.audio_sample
        chunk = frame // self.clock.chunk_frames
        heard_from = self.clock.window(chunk).start_sample
        self.timeline.forget_before(min(heard_from, audio_sample))
        self.latents.forget_before(chunk, self.num_context_latents)
        self.conditions.forget_before(chunk)

    def cut(self, after_sample: int | None) -> Cut:
        """Takes back all speech that is not delivered; with a sample, all that comes after it."""
        frame = self.next_frame
        sample = self.clock.first_sample(frame)
        if after_sample is not None:
            # What comes after this is new, wherever the client thinks that it will be.
            after_sample = min(after_sample, self.timeline.end_sample + self.speech.num_samples)
            if after_sample > sample:
                frame, sample = self.clock.first_frame_from(after_sample), after_sample
        num_to_come = 0 if after_sample is None else sample - self.timeline.end_sample
        self.audio.restart()
        num_dropped = self.speech.cut(max(0, num_to_come))
        num_dropped += self.timeline.cut(sample)
        cut = Cut(frame, num_dropped)
        # An interrupt that is still to come, at a later frame, has nothing left to drop.
        kept = [earlier for earlier in self.cuts if earlier.frame <= frame]
        self.cuts = deque([*kept, cut])
        return cut
