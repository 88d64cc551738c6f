"""The preset `demo` on real servers: the frames of sessions are those of in-process engines."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, pcm_s16le, rgb24
from mirrorme_engines.manifest import Manifest
from mirrorme_engines.open_engines import open_engines
from mirrorme_engines.triton_engine import open_triton_engines
from mirrorme_engines.triton_options import TritonOptions
from mirrorme_export.precision_choice import make_inputs
from mirrorme_export.triton_repository import TritonOptions as RepositoryOptions
from mirrorme_export.triton_repository import write_triton_repository
from mirrorme_service.config import ServiceConfig
from mirrorme_service.server import Server

from tests.service.gateway import NoFaces, speech
from tests.triton.triton_process import SCRIPT, TritonProcess

pytestmark = [pytest.mark.triton, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
EXPORT = ROOT / "engines/repository/demo"
PORTRAIT = ROOT / "examples/portrait_1.png"
NUM_SESSIONS = 4
NUM_FRAMES = 32


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported preset as a model repository."""
    if not (EXPORT / "manifest.json").exists():
        pytest.skip("left out: the preset demo; run `make export` first")
    folder = tmp_path_factory.mktemp("repository") / "demo"
    shutil.copytree(EXPORT, folder)
    write_triton_repository(folder, RepositoryOptions(platform="python"))
    return folder


@pytest.fixture(scope="module")
def pair(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[TritonProcess]]:
    folder = tmp_path_factory.mktemp("log")
    servers = [TritonProcess(demo, folder / f"{i}.log") for i in range(2)]
    for server in servers:
        server.start(timeout_s=300)
    yield servers
    for server in servers:
        server.stop()


@asynccontextmanager
async def gateway(demo: Path, servers: list[TritonProcess]) -> AsyncIterator[AnimationClient]:
    """A gateway on these servers, in process without any, and a client of it."""
    endpoints = ",".join(server.address for server in servers)
    settings = {"platform": "triton", "triton_endpoints": endpoints} if servers else {}
    config = ServiceConfig(
        engines=demo, port=0, metrics_port=0, max_sessions=8, engine_timeout_s=60, **settings
    )  # pyright: ignore[reportArgumentType]
    server = await Server.start(config, face_finder=NoFaces())
    try:
        async with AnimationClient(f"127.0.0.1:{server.port}") as client:
            yield client
    finally:
        await server.stop(0)


class Sessions:
    """Raw frames of sessions at once, each of its own seed and speech."""

    def __init__(self, client: AnimationClient) -> None:
        self._client = client
        self.frames: list[list[bytes]] = [[] for _ in range(NUM_SESSIONS)]

    async def run(self) -> Sessions:
        await asyncio.gather(*map(self._session, range(NUM_SESSIONS)))
        return self

    async def _session(self, seed: int) -> None:
        session = self._client.animate(
            PORTRAIT,
            audio=[speech(NUM_FRAMES * 2000 // 3, seed)],
            audio_format=pcm_s16le(16000),
            output=rgb24(),
            crop_mode=pb.CROP_MODE_CENTER,
            seed=seed,
        )
        async with session:
            async for batch in session:
                assert batch.first_frame_index == len(self.frames[seed])
                self.frames[seed] += [frame.data for frame in batch.frames]

    @property
    def num_frames(self) -> int:
        return sum(map(len, self.frames))


def largest_difference(left: Sessions, right: Sessions) -> int:
    assert left.num_frames == right.num_frames == NUM_SESSIONS * NUM_FRAMES
    return max(
        int(np.abs(np.frombuffer(a, np.uint8).astype(int) - np.frombuffer(b, np.uint8)).max())
        for ours, theirs in zip(left.frames, right.frames, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


async def test_every_engine_gives_the_same(demo: Path, pair: list[TritonProcess]) -> None:
    manifest = Manifest.load(demo)
    local = await open_engines(demo)
    far = await open_triton_engines(demo, TritonOptions((pair[0].address,), default_timeout_s=60))
    for here, there in zip(local.engines, far.engines, strict=True):
        for batch_size in (1, 3):
            inputs = make_inputs(manifest, here.spec, batch_size, seed=4)
            want, got = await here.infer(inputs), await there.infer(inputs)
            for name, array in want.items():
                bound = 1 if array.dtype == np.uint8 else 1e-4
                assert np.abs(got[name].astype(float) - array).max() <= bound, name
    await local.close()
    await far.close()


async def test_sessions_on_one_server_share_runs(demo: Path, pair: list[TritonProcess]) -> None:
    async with gateway(demo, []) as client:
        want = await Sessions(client).run()
    before = {name: pair[0].counts(name) for name in ("denoiser", "decoder")}
    async with gateway(demo, pair[:1]) as client:
        got = await Sessions(client).run()
    assert largest_difference(got, want) <= 1
    # Sessions of other seeds and speech differ: the comparison can fail.
    assert got.frames[0] != got.frames[1]
    inferences, executions = 0, 0
    for name, then in before.items():
        now = pair[0].counts(name)
        inferences += now[0] - then[0]
        executions += now[1] - then[1]
    assert inferences == 2 * NUM_SESSIONS * NUM_FRAMES / 8
    assert executions < inferences


async def test_sessions_outlive_a_killed_server(demo: Path, pair: list[TritonProcess]) -> None:
    async with gateway(demo, pair) as client:
        undisturbed = await Sessions(client).run()
        disturbed = Sessions(client)
        running = asyncio.create_task(disturbed.run())
        while disturbed.num_frames < 2 * NUM_SESSIONS * 8 and not running.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.to_thread(pair[0].kill)
        assert disturbed.num_frames < NUM_SESSIONS * NUM_FRAMES
        await asyncio.to_thread(pair[0].start)
        await running
        assert largest_difference(disturbed, undisturbed) == 0
        async with asyncio.timeout(120):
            while pair[0].counts("denoiser")[0] < 2:
                assert largest_difference(await Sessions(client).run(), undisturbed) == 0


def demo_command(demo: Path, output: Path) -> list[str]:
    """What `make demo ENGINES=triton` runs."""
    command = [sys.executable, str(SCRIPT), "with", f"--models={demo}", "--"]
    return [
        *command,
        sys.executable,
        str(ROOT / "examples/demo.py"),
        f"--engines={demo}",
        f"--output={output}",
    ]


def test_the_demo_on_triton(demo: Path, tmp_path: Path) -> None:
    command = demo_command(demo, tmp_path / "demo.mp4")
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Triton 2." in ended.stdout
    assert (tmp_path / "demo.mp4").stat().st_size > 10_000


def test_ctrl_c_leaves_nothing_of_the_demo(demo: Path, tmp_path: Path) -> None:
    command = demo_command(demo, tmp_path / "demo.mp4")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert "server ready" in process.stdout.readline()
        running = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) not in (0, -signal.SIGINT)
    # Triton, the stubs of its four models, the demo, its gateway, perhaps its client.
    assert len(running) >= 7
    _, alive = psutil.wait_procs(running, timeout=10)
    assert not alive
    assert not (tmp_path / "demo.mp4").exists()
