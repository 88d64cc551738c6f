"""The `mirrorme` command as a person runs it: output, exit codes, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import cli

from tests.client.fake_service import (
    PORTRAIT_ID,
    Behaviour,
    FakeAnimationService,
    at_capacity,
    invalid,
    serve,
)
from tests.client.speech_files import beeps, write_wav


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def start(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mirrorme_client", *map(str, arguments)),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "120", "TERM": "dumb", **(env or {})},
    )


async def end(process, data: bytes | None = None) -> Ended:
    out, err = await process.communicate(data)
    ended = Ended(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in ended.err, ended.err
    return ended


async def run(*arguments: str | Path, cwd: Path, data: bytes = b"", **settings) -> Ended:
    return await end(await start(*arguments, cwd=cwd, **settings), data)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def until(condition, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a picture and 4 s of speech."""
    (tmp_path / "me.png").write_bytes(b"\x89PNG me")
    write_wav(tmp_path / "speech.wav", beeps(4.0, (1.0,)))
    return tmp_path


async def test_animate(files: Path) -> None:
    service = FakeAnimationService()
    async with serve(service) as target:
        ended = await run(
            *("animate", "me.png", "speech.wav", "-o", "out.mp4", "--server", target),
            *("--seed", "42", "--crop", "face", "--expression", "1.5", "--contact-sheet", "s.png"),
            *("--control", "head_yaw=10", "--control", "jawOpen=0.5@0.25"),
            cwd=files,
        )
    assert ended.code == 0, ended.err
    assert names(files) == ["me.png", "out.mp4", "s.png", "speech.wav"]
    with av.open(str(files / "out.mp4")) as container:
        assert container.streams.video[0].frames == 96
    for text in ("96 of 64 x 64", "4.00 s", "real-time factor", "first frame", "12 ms", "42"):
        assert text in ended.out
    assert "untrained" not in ended.err
    (received,) = service.sessions
    assert received.config.seed == 42
    assert received.config.expression == 1.5
    assert received.config.portrait.image == b"\x89PNG me"
    assert received.config.portrait.crop_mode == pb.CROP_MODE_FACE
    assert received.config.output.encoding == pb.FRAME_ENCODING_H264
    yaw, jaw = received.requests[0].facial_controls.controls
    assert (yaw.name, yaw.value, yaw.HasField("weight")) == ("head_yaw", 10, False)
    assert (jaw.name, jaw.value, jaw.weight) == ("jawOpen", 0.5, 0.25)


async def test_json_and_registered_portrait(files: Path) -> None:
    service = FakeAnimationService(Behaviour(trained=False))
    async with serve(service) as target:
        ended = await run(
            *("animate", PORTRAIT_ID, "speech.wav", "-o", "frames", "--json"),
            cwd=files,
            env={"MIRRORME_SERVER": target},
        )
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert result["num_frames"] == 96
    assert result["duration_s"] == 4
    assert result["first_frame_latency_ms"] > 0
    assert result["real_time_factor"] == pytest.approx(result["wall_s"] / 4)
    assert result["server"]["first_frame_latency_ms"] == 12
    assert result["model"] == {
        "preset": "fake",
        "weights_sha256": "ab" * 32,
        "engine": "",
        "service_version": "",
        "trained": False,
    }
    assert "untrained weights" in ended.err
    assert len(names(files / "frames")) == 96
    assert service.sessions[0].config.portrait.portrait_id == PORTRAIT_ID


async def test_speech_from_standard_input_is_animated_as_it_arrives(files: Path) -> None:
    service = FakeAnimationService()
    async with serve(service) as target:
        process = await start(
            *("animate", "me.png", "-", "-o", "out.mp4", "--server", target, "-q"),
            *("--rate", "24000", "--channels", "2"),
            cwd=files,
        )
        assert process.stdin is not None
        process.stdin.write(bytes(4 * 24000))
        await process.stdin.drain()
        await until(lambda: service.sessions and len(service.sessions[0].audio) == 4 * 24000)
        await asyncio.sleep(0.2)
        assert process.returncode is None
        ended = await end(process, bytes(4 * 24000))
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    config = service.sessions[0].config
    assert (config.audio_format.sample_rate_hz, config.audio_format.num_channels) == (24000, 2)
    with av.open(str(files / "out.mp4")) as container:
        assert container.streams.video[0].frames == 48


async def test_speech_redirected_from_a_file(files: Path) -> None:
    (files / "speech.pcm").write_bytes(bytes(2 * 16000))
    service = FakeAnimationService()
    async with serve(service) as target:
        command = f"{sys.executable} -m mirrorme_client animate me.png - -o a.mp4 --server {target}"
        process = await asyncio.create_subprocess_shell(
            f"{command} < speech.pcm", cwd=files, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0
    assert len(service.sessions[0].audio) == 32000


@pytest.mark.parametrize("speech", ["speech.wav", "-"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_ended_by_a_signal(files: Path, speech: str, number: int, code: int) -> None:
    before = names(files)
    service = FakeAnimationService(Behaviour(delay_s=0.3))
    async with serve(service) as target:
        process = await start(
            *("animate", "me.png", speech, "-o", "out.mp4", "--server", target), cwd=files
        )
        if speech == "-":
            assert process.stdin is not None
            process.stdin.write(bytes(2 * 16000))
        await until(lambda: len(names(files)) > len(before))
        await asyncio.sleep(0.5)
        assert process.returncode is None
        process.send_signal(number)
        async with asyncio.timeout(5):
            await process.wait()
        ended = await end(process)
        assert ended.code == code
        assert names(files) == before
        if number == signal.SIGINT:
            assert "interrupted" in ended.err
        await until(lambda: service.sessions[0].cancelled)


async def test_ctrl_c_while_connecting(files: Path) -> None:
    process = await start(
        *("animate", "me.png", "speech.wav", "-o", "out.mp4", "--server", "127.0.0.1:9"),
        *("--connect-timeout", "30"),
        cwd=files,
    )
    await asyncio.sleep(1.5)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(5):
        await process.wait()
    assert (await end(process)).code == 130
    assert "out.mp4" not in names(files)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (Behaviour(refuse=invalid("no face was found", "NO_FACE", "config.portrait")), "no face"),
        (Behaviour(refuse=at_capacity("8 of 8 sessions", 2)), "Try again in 2 s"),
        (Behaviour(fail=at_capacity("enough", 2), fail_after_frames=16), "enough"),
    ],
)
async def test_refused(files: Path, behaviour: Behaviour, message: str) -> None:
    before = names(files)
    async with serve(FakeAnimationService(behaviour)) as target:
        ended = await run(
            *("animate", "me.png", "speech.wav", "-o", "out.mp4", "--server", target), cwd=files
        )
    assert ended.code == 1
    assert ended.out == ""
    assert message in ended.err
    assert names(files) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Usage"),
        (("dance",), 2, "No such command"),
        (("animate", "me.png", "speech.wav"), 2, "Missing option '-o'"),
        (("animate", "you.png", "speech.wav", "-o", "a.mp4"), 2, "no such file, and not the id"),
        (("animate", "me.png", "none.wav", "-o", "a.mp4"), 2, "does not exist"),
        (("animate", "me.png", "me.png", "-o", "a.mp4"), 1, "the speech file me.png"),
        (("animate", "me.png", "speech.wav", "-o", "a.avi"), 1, "want a name that ends in"),
        (("animate", "me.png", "speech.wav", "-o", "speech.wav"), 1, "want a name that ends in"),
        (("animate", "me.png", "speech.wav", "-o", "old.mp4"), 1, "give --overwrite"),
        (("animate", "me.png", "speech.wav", "-o", "."), 1, "is not empty"),
        (("animate", "me.png", "speech.wav", "-o", "a.mp4", "--rate", "8000"), 2, "go with SPEECH"),
        (("animate", "me.png", "speech.wav", "-o", "a.mp4", "--encoding", "jpeg"), 2, "holds h264"),
        (("animate", "me.png", "speech.wav", "-o", "a.mp4", "--quality", "9"), 2, "JPEG frames"),
        (("animate", "me.png", "speech.wav", "-o", "f", "--bitrate", "9"), 2, "H.264 frames"),
        (("animate", "me.png", "speech.wav", "-o", "a.mp4", "--control", "x"), 2, "NAME=VALUE"),
        (("animate", "me.png", "speech.wav", "-o", "a.mp4", "--hands", "me.png"), 1, "neither"),
        (("animate", "ab" * 32, "speech.wav", "-o", "a.mp4", "--crop", "pad"), 2, "has its crop"),
        (("info", "--server", "127.0.0.1:9", "--connect-timeout", "0.3"), 1, "is it running"),
        (("portrait", "register", "none.png"), 2, "does not exist"),
        (("contact-sheet", "me.png", "-o", "s.png"), 1, "cannot read the video"),
    ],
)
def test_used_wrongly(
    files: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (files / "old.mp4").write_bytes(b"old")
    before = names(files)
    monkeypatch.chdir(files)
    assert cli.run(arguments) == code
    assert message in capfd.readouterr().err
    assert names(files) == before
    assert (files / "old.mp4").read_bytes() == b"old"


async def test_overwrite(files: Path) -> None:
    (files / "out.mp4").write_bytes(b"old")
    async with serve(FakeAnimationService()) as target:
        arguments = ("animate", "me.png", "speech.wav", "-o", "out.mp4", "--server", target)
        ended = await run(*arguments, "--overwrite", cwd=files)
    assert ended.code == 0
    assert (files / "out.mp4").stat().st_size > 1000


async def test_portrait_register(files: Path) -> None:
    async with serve(FakeAnimationService()) as target:
        ended = await run("portrait", "register", "me.png", "--server", target, cwd=files)
        as_json = await run(
            "portrait", "register", "me.png", "--json", "--server", target, cwd=files
        )
        refused = await run("portrait", "register", "speech.wav", "--server", target, cwd=files)
    assert ended.out.strip() == PORTRAIT_ID, "nothing but the id, to be used in scripts"
    assert "known already: 480 x 480 px" in ended.err
    assert json.loads(as_json.out)["portrait"]["portrait_id"] == PORTRAIT_ID
    assert refused.code == 1
    assert "not a PNG" in refused.err


async def test_info(files: Path) -> None:
    async with serve(FakeAnimationService(Behaviour(trained=False))) as target:
        ended = await run("info", "--server", target, cwd=files)
        as_json = await run("info", "--json", "--server", target, cwd=files)
    assert ended.code == 0
    for text in ("9.9", "random", "64 x 64", "24 frames/s", "353 ms", "head_yaw", "-30 to 30"):
        assert text in ended.out
    for text in ("jpeg, h264", "10 MiB", "60 s", "interrupt", "as-fast-as-possible"):
        assert text in ended.out
    assert json.loads(as_json.out)["presets"][0]["model"]["preset"] == "fake"


def test_help_and_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    text = capfd.readouterr().out
    for command in ("animate", "portrait", "info", "contact-sheet", "serve"):
        assert command in text
    assert cli.run(["animate", "--help"]) == 0
    assert "--output" in capfd.readouterr().out
    assert cli.run(["--version"]) == 0
    assert "0." in capfd.readouterr().out


async def test_reader_of_the_output_leaves(files: Path) -> None:
    async with serve(FakeAnimationService()) as target:
        command = f"{sys.executable} -m mirrorme_client info --json --server {target} | true"
        process = await asyncio.create_subprocess_shell(
            command, cwd=files, stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
    assert err == b""


@pytest.mark.parametrize(
    ("hidden", "arguments", "message"),
    [
        ("av", ("animate", "--help"), "pip install 'mirrorme[client]'"),
        ("click", ("info",), "pip install 'mirrorme[client]'"),
        ("rich", ("serve", "--help"), None),
        ("grpc_health", ("serve",), "pip install 'mirrorme[service]'"),
    ],
)
async def test_extras_that_are_not_installed(
    tmp_path: Path, hidden: str, arguments: tuple[str, ...], message: str | None
) -> None:
    # `serve` replaces the process, so the import of the service itself is not what is hidden.
    program = (
        "import os, sys\n"
        f"sys.modules[{hidden!r}] = None\n"
        "os.execv = lambda path, argv: print('exec', argv[1:])\n"
        f"sys.argv = ['mirrorme', *{arguments!r}]\n"
        "from mirrorme_client.cli import main\n"
        "main()\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ended = await end(process)
    if message is None:
        assert ended.out.strip() == "exec ['-m', 'mirrorme_service', '--help']"
    else:
        assert ended.code == 1
        assert message in ended.err
        assert hidden in ended.err
