"""`mirrorme bench` as a person runs it, against a server of its own."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb

from tests.client.fake_service import Behaviour, FakeAnimationService, at_capacity, serve
from tests.client.test_cli import run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "me.png").write_bytes(b"\x89PNG me")
    return tmp_path / "me.png"


async def test_json_and_plot(picture: Path) -> None:
    service = FakeAnimationService()
    async with serve(service) as target:
        ended = await run(
            *("bench", "me.png", "--server", target, "--sessions", "2", "--seconds", "2"),
            *("--plot", "bench.png", "--json", "--seed", "7"),
            cwd=picture.parent,
        )
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["server"]["preset"] == "fake"
    assert report["conditions"]["pacing"] == "as_fast_as_possible"
    (figures,) = report["runs"]
    assert figures["errors"] == []
    assert (figures["num_sessions"], figures["num_frames"]) == (2, 96)
    assert figures["first_frame_ms"]["num"] == 2
    assert figures["jitter_ms"]["num"] == 2 * 5
    assert abs(figures["av_offset_ms"]["largest"]) < 1
    assert (figures["num_left_out_frames"], figures["num_lost_frames"]) == (0, 0)
    with av.open(str(picture.parent / "bench.png")) as plot:
        assert next(plot.decode(video=0)).width > 500
    for received in service.sessions:
        assert len(received.audio) == 2 * 2 * 16_000, "silence fills the pauses"
    assert {received.config.seed for received in service.sessions} == {7, 8}


async def test_sessions_that_fail_are_told(picture: Path) -> None:
    full = at_capacity("full", 2)
    async with serve(FakeAnimationService(Behaviour(refuse=full))) as target:
        ended = await run(
            *("bench", "me.png", "--server", target, "--find-largest", "--seconds", "1"),
            cwd=picture.parent,
        )
    assert ended.code == 0, ended.err
    assert "1 of 1 sessions failed: AtCapacity AT_CAPACITY: full" in " ".join(ended.out.split())
    assert "largest number of sessions that holds: 0" in ended.out


async def test_real_time_pacing_interrupts_and_ends_utterances(picture: Path) -> None:
    service = FakeAnimationService()
    async with serve(service) as target:
        ended = await run(
            *("bench", "me.png", "--server", target, "--seconds", "6", "--seed", "1"),
            *("--pacing", "real-time", "--cut", "0.5", "--json"),
            cwd=picture.parent,
        )
    assert ended.code == 0, ended.err
    (received,) = service.sessions
    assert received.config.pacing == pb.PACING_REAL_TIME
    kinds = [request.WhichOneof("message") for request in received.requests]
    assert set(kinds) - {"ack"} == {"interrupt", "end_of_utterance"}
    (figures,) = json.loads(ended.out)["runs"]
    assert figures["num_interrupts"] == kinds.count("interrupt")
