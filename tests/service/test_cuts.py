"""However the audio is cut, and whoever else is served, the frames are the same bytes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb

from tests.service.gateway import (
    Animation,
    Gateway,
    animate,
    audio,
    config,
    cut,
    portrait_png,
    running_gateway,
    speech,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUM_SAMPLES = 13_001
FORMATS = {
    "s16 16 kHz": (pb.AUDIO_ENCODING_PCM_S16LE, 16_000, 1),
    "s16 44.1 kHz stereo": (pb.AUDIO_ENCODING_PCM_S16LE, 44_100, 2),
}


def requests(kind: str, pieces: list[bytes]) -> list[pb.StreamAnimateRequest]:
    encoding, rate, channels = FORMATS[kind]
    audio_format = pb.AudioFormat(encoding=encoding, sample_rate_hz=rate, num_channels=channels)
    return [config(audio_format=audio_format, include_audio=True), *map(audio, pieces)]


def content(animation: Animation) -> list[tuple[int, int, bytes, bytes]]:
    """All that a client plays."""
    return [
        (batch.first_frame_index, batch.utterance, batch.frames[0].data, batch.audio)
        for batch in animation.batches
    ]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("piece_bytes", [32, 33, 640, 4096, 1 << 20])
async def test_even_cuts(gateway: Gateway, kind: str, piece_bytes: int) -> None:
    data = speech(NUM_SAMPLES * FORMATS[kind][2])
    whole = await animate(gateway.stub, requests(kind, [data]))
    pieces = [data[i : i + piece_bytes] for i in range(0, len(data), piece_bytes)]
    parted = await animate(gateway.stub, requests(kind, pieces))
    assert content(parted) == content(whole)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 9000), max_size=30))
async def test_any_cuts(gateway: Gateway, kind: str, sizes: list[int]) -> None:
    data = speech(NUM_SAMPLES * FORMATS[kind][2])
    whole = await animate(gateway.stub, requests(kind, [data]))
    parted = await animate(gateway.stub, requests(kind, cut(data, sizes)))
    assert content(parted) == content(whole)


async def test_sessions_at_once_are_as_alone() -> None:
    """Eight sessions of other portraits, audio and seeds, batched by the engines."""
    sessions = [
        [
            config(
                seed=i,
                portrait=pb.PortraitSource(image=portrait_png(i), crop_mode=pb.CROP_MODE_CENTER),
            ),
            *(audio(piece) for piece in cut(speech(2 * 16_000 + 100 * i, i), [999 * (i + 1)] * 5)),
        ]
        for i in range(8)
    ]
    async with running_gateway() as gateway:
        alone = [await animate(gateway.stub, session) for session in sessions]
        gateway.engines.denoiser.faults.batch_sizes.clear()
        together = await asyncio.gather(*(animate(gateway.stub, session) for session in sessions))
        batch_sizes = gateway.engines.denoiser.faults.batch_sizes
    assert max(batch_sizes) > 1, "nothing was batched: the test shows nothing"
    assert len({animation.pixels[0] for animation in alone}) == 8
    for one, other in zip(alone, together, strict=True):
        assert content(one) == content(other)


async def test_conditions_depend_on_the_stream_not_on_speed(gateway: Gateway) -> None:
    """A control that follows audio holds from the first frame whose audio was not complete."""
    control = pb.FacialControl(name="jawOpen", value=1.0)
    change = pb.StreamAnimateRequest(facial_controls=pb.FacialControls(controls=[control]))
    data = speech(32_000)
    sent = [config(), audio(data[:20_000]), change, audio(data[20_000:])]

    async def slowly():
        for request in sent:
            yield request
            await asyncio.sleep(0.1)

    at_once = await animate(gateway.stub, sent)
    assert (await animate(gateway.stub, slowly())).pixels == at_once.pixels
    unchanged = await animate(gateway.stub, [sent[0], sent[1], sent[3]])
    first_other = next(
        index
        for index, (one, other) in enumerate(zip(at_once.pixels, unchanged.pixels, strict=True))
        if one != other
    )
    # 10,000 samples complete the window of one chunk of 8 frames.
    assert first_other == 8
