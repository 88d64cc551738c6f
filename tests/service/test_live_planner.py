"""When the planner of a session in real time begins a chunk, and with what."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import Manifest
from mirrorme_service.clock import MediaClock
from mirrorme_service.idle_motion import IdleMotion
from mirrorme_service.live_planner import LivePlanner
from mirrorme_service.load_governor import LoadGovernor
from mirrorme_service.session_counts import SessionCounts
from mirrorme_service.session_pace import SessionPace
from mirrorme_service.session_state import SessionState

from tests.service.still_clock import StillClock

CHUNK_TIME_S = 0.2


@dataclass(frozen=True)
class FakeModel:
    """What a state asks of a model."""

    manifest: Manifest
    clock: MediaClock


class Speaking:
    """A planner whose first chunk ends with speech that goes on; then time stands just after the
    moment at which the second one is due to be begun."""

    def __init__(self) -> None:
        manifest = fake_manifest()
        self.media = MediaClock.of(manifest)
        self.clock = StillClock()
        settings = pb.SessionConfig(
            audio_format=pb.AudioFormat(
                encoding=pb.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000, num_channels=1
            )
        )
        model: Any = FakeModel(manifest, self.media)
        identity: Any = None
        self.state = SessionState.start(model, settings, identity, max_poses_ahead_s=60)
        self.pace = SessionPace(self.clock, self.media.frame_rate, self.clock.now_s())
        self.governor = LoadGovernor(1 / 3, CHUNK_TIME_S, has_cheaper=False)
        self.planner = LivePlanner(
            self.state,
            self.clock,
            self.pace,
            self.governor,
            IdleMotion(1, [], self.media, self.state.timeline),
            SessionCounts(self.clock.now_s()),
            lookahead_chunks=0,
            max_session_s=3600,
            on_end=lambda: None,
        )

    def say(self, num_samples: int) -> None:
        self.state.speech.push(np.full(num_samples, 0.5, np.float32))
        self.planner.heard()

    @property
    def num_missing(self) -> int:
        state = self.state
        settled = state.timeline.end_sample + state.speech.num_samples
        return self.media.window(1).stop_sample - settled

    async def begin(self) -> asyncio.Task[Any]:
        self.state.speech.hear()
        for _ in range(10):
            self.say(320)
        await self.planner.next()
        assert self.state.timeline.is_speaking
        self.clock.move_to(self.pace.due_s(8) - self.governor.lead_s + 0.001)
        planned = asyncio.create_task(self.planner.next())
        await turns()
        return planned


async def turns() -> None:
    """Lets what can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def speaking() -> Speaking:
    return Speaking()


async def test_speech_that_is_late_is_waited_for(speaking: Speaking) -> None:
    planned = await speaking.begin()
    assert speaking.num_missing > 0
    speaking.say(speaking.num_missing - 1)
    await turns()
    assert not planned.done()
    speaking.say(1)
    await turns()
    assert planned.done()
    assert speaking.state.timeline.is_speaking, "without a gap"


async def test_speech_that_does_not_come_is_not_waited_for_beyond_the_chunks_time(
    speaking: Speaking,
) -> None:
    planned = await speaking.begin()
    speaking.say(100)
    speaking.clock.move_to(speaking.pace.due_s(8) - CHUNK_TIME_S - 0.001)
    await turns()
    assert not planned.done()
    speaking.clock.move_to(speaking.pace.due_s(8) - CHUNK_TIME_S)
    await turns()
    assert planned.done()
    assert not speaking.state.timeline.is_speaking


async def test_speech_that_has_ended_is_not_waited_for(speaking: Speaking) -> None:
    speaking.state.speech.hear()
    for _ in range(10):
        speaking.say(320)
    await speaking.planner.next()
    speaking.state.speech.end(np.zeros(0, np.float32))
    speaking.clock.move_to(speaking.pace.due_s(8) - speaking.governor.lead_s + 0.001)
    planned = asyncio.create_task(speaking.planner.next())
    await turns()
    assert planned.done()
