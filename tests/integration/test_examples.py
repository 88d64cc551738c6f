"""The demo and the example client as `make demo` and the README run them, with fake engines."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest
from mirrorme_engines.fake_manifest import fake_manifest

from tests.client.fake_service import Behaviour, FakeAnimationService, at_capacity, serve
from tests.client.speech_files import beeps, write_wav

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_demo(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py"), *map(str, arguments)],
        env={**os.environ, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """A folder with the manifest of fake engines."""
    folder = tmp_path / "engines"
    folder.mkdir()
    fake_manifest().save(folder)
    return folder


def test_demo(tmp_path: Path, engines: Path) -> None:
    output = tmp_path / "demo.mp4"
    ended = run_demo("--engines", engines, "-o", output, MIRRORME_PLATFORM="fake")
    assert ended.returncode == 0, ended.stderr
    assert "untrained weights" in ended.stderr
    for text in ("random", "real-time factor", "first frame", "contact sheet", "fake"):
        assert text in ended.stdout
    with av.open(str(EXAMPLES / "speech.wav")) as container:
        speech_s = container.duration / av.time_base
    with av.open(str(output)) as container:
        video = container.streams.video[0]
        assert video.codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert video.average_rate == 24
        assert abs(video.frames / 24 - speech_s) <= 1 / 24
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_demo_says_why_the_server_does_not_start(tmp_path: Path) -> None:
    ended = run_demo("--engines", tmp_path, "-o", tmp_path / "demo.mp4")
    assert ended.returncode == 1
    assert "manifest.json" in ended.stderr
    assert "the server ended at its start" in ended.stderr
    assert not (tmp_path / "demo.mp4").exists()


def test_demo_says_why_the_client_fails(tmp_path: Path, engines: Path) -> None:
    arguments = ("--engines", engines, "-o", tmp_path / "demo.mp4", "--portrait", __file__)
    ended = run_demo(*arguments, MIRRORME_PLATFORM="fake")
    assert ended.returncode == 1
    assert "`mirrorme animate` ended with exit code 1" in ended.stderr
    assert "RegisterPortrait" in ended.stderr or "StreamAnimate" in ended.stderr
    assert not (tmp_path / "demo.mp4").exists()


async def run_client(target: str, folder: Path) -> tuple[int | None, str]:
    (folder / "me.png").write_bytes(b"\x89PNG me")
    write_wav(folder / "speech.wav", beeps(1.0, ()))
    command = (sys.executable, str(EXAMPLES / "client.py"), "me.png", "speech.wav", target)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    return process.returncode, err.decode()


async def test_example_client(tmp_path: Path) -> None:
    async with serve(FakeAnimationService()) as target:
        code, err = await run_client(target, tmp_path)
    assert code == 0, err
    assert (tmp_path / "00023.jpg").read_bytes().startswith(b"\xff\xd8")
    assert not (tmp_path / "00024.jpg").exists()


async def test_example_of_a_microphone(tmp_path: Path) -> None:
    portrait = tmp_path / "me.png"
    portrait.write_bytes(b"\x89PNG me")
    async with serve(FakeAnimationService()) as target:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / "live.py"), str(portrait), target),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        video, err = await process.communicate(beeps(1.0, ()).tobytes())
    assert process.returncode == 0, err.decode()
    assert "utterance_started" in err.decode()
    codec = av.CodecContext.create("h264", "r")
    frames = [frame for packet in codec.parse(video) for frame in codec.decode(packet)]
    frames += [frame for packet in codec.parse(None) for frame in codec.decode(packet)]
    assert len(frames) + len(codec.decode(None)) == 24


async def test_example_client_is_refused(tmp_path: Path) -> None:
    service = FakeAnimationService(Behaviour(refuse=at_capacity("8 of 8 sessions", 1)))
    async with serve(service) as target:
        code, err = await run_client(target, tmp_path)
    assert code == 1
    assert "AtCapacity: 8 of 8 sessions" in err
