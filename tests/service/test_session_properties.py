"""Whatever a client does, in whatever order: no frame is missing, doubled or out of its epoch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb

from tests.service.gateway import END_OF_UTTERANCE, Animation, Gateway, audio, config, speech

pytestmark = pytest.mark.asyncio(loop_scope="session")

Request = pb.StreamAnimateRequest

ACTIONS = st.one_of(
    st.integers(1, 12_000),  # samples of speech
    st.sampled_from(["end", "interrupt", "pause", "resume", "yield"]),
    st.integers(0, 20_000).map(lambda sample: ("interrupt after", sample)),
)


async def run(gateway: Gateway, actions: list[Any], max_unacked: int) -> Animation:
    seen = Animation()
    call = gateway.stub.StreamAnimate()
    # A call takes one message at a time.
    writing = asyncio.Lock()

    async def write(request: pb.StreamAnimateRequest) -> None:
        async with writing:
            await call.write(request)

    async def acknowledge(frame: int) -> None:
        async with writing:
            if not is_finished:
                await call.write(Request(ack=pb.FrameAck(last_frame_index=frame)))

    await write(config(include_audio=True, max_unacked_frames=max_unacked))

    async def read() -> None:
        while not seen.summary:
            response = await call.read()
            seen.take(response)
            if response.HasField("frames"):
                await acknowledge(
                    response.frames.first_frame_index + len(response.frames.frames) - 1
                )

    is_finished = False
    reader = asyncio.create_task(read())
    for number, action in enumerate(actions):
        match action:
            case int():
                await write(audio(speech(action, seed=number)))
            case "end":
                await write(END_OF_UTTERANCE)
            case "interrupt":
                await write(Request(interrupt=pb.Interrupt()))
            case ("interrupt after", sample):
                await write(Request(interrupt=pb.Interrupt(after_sample_index=sample)))
            case "pause":
                await write(Request(pause=pb.Pause()))
            case "resume":
                await write(Request(resume=pb.Resume()))
            case "yield":
                await asyncio.sleep(0.01)
    async with writing:
        is_finished = True
        await call.done_writing()
    await asyncio.wait_for(reader, 30)
    return seen


@settings(max_examples=30, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=20), max_unacked=st.sampled_from([0, 3, 24]))
async def test_any_conversation(gateway: Gateway, actions: list[Any], max_unacked: int) -> None:
    seen = await run(gateway, actions, max_unacked)
    indices = [b.first_frame_index + i for b in seen.batches for i in range(len(b.frames))]
    assert indices == list(range(len(indices)))
    num_interrupts = sum(action == "interrupt" or isinstance(action, tuple) for action in actions)
    epochs = [batch.epoch for batch in seen.batches]
    assert epochs == sorted(epochs)
    assert all(epoch <= num_interrupts for epoch in epochs)
    assert seen.summary.num_interrupts <= num_interrupts
    num_samples = sum(action for action in actions if isinstance(action, int))
    returned = sum(len(batch.audio) // 2 for batch in seen.batches)
    dropped = sum(event.interrupted.dropped_samples for event in seen.events)
    told = [event for event in seen.events if event.HasField("interrupted")]
    if len(told) == num_interrupts:
        assert returned + dropped == num_samples, "every sample is spoken or dropped"
    open_utterances = 0
    for event in seen.events:
        open_utterances += event.HasField("utterance_started")
        open_utterances -= event.HasField("utterance_finished")
        assert 0 <= open_utterances <= 1
    assert open_utterances == 0
