"""The program as people start and stop it: options, environment, messages, signals, exit codes."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import grpc
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1 import animation_pb2_grpc
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.config import ServiceConfig

from tests.service.gateway import audio, config, speech

COMMAND = [sys.executable, "-m", "mirrorme_service"]


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """A folder with a manifest, which is all that fake engines need."""
    fake_manifest().save(tmp_path)
    return tmp_path


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


@contextmanager
def serving(
    engines: Path, *arguments: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A started program, and the port that it says it serves on."""
    options = ["--engines", str(engines), "--platform", "fake", "--port", "0", "--metrics-port"]
    process = subprocess.Popen(
        [*COMMAND, *options, "0", *arguments],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        for line in process.stderr:
            if match := re.search(r"ready: .*? on 127\.0\.0\.1:(\d+)", line):
                yield process, int(match[1])
                break
        else:
            raise AssertionError("it never got ready")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_help_names_every_setting() -> None:
    text = run("--help").stdout
    for field in fields(ServiceConfig):
        assert f"--{field.name.replace('_', '-')} " in text
        assert f"MIRRORME_{field.name.upper()}" in text
    assert "50051" in text


def test_bad_values_are_named() -> None:
    for result in (run("--port", "99999"), run(MIRRORME_PORT="99999")):
        assert result.returncode == 2
        assert "port is 99999: want 0 to 65535" in result.stderr
    result = run("--log-level", "loud")
    assert result.returncode == 2
    assert "'loud' is not one of" in result.stderr


def test_missing_engines_are_named(tmp_path: Path) -> None:
    result = run("--engines", str(tmp_path / "nowhere"), "--port", "0", "--metrics-port", "0")
    assert result.returncode == 1
    assert "run `make export` first" in result.stderr
    assert "Traceback" not in result.stderr


def test_taken_port_is_named(engines: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ("--engines", str(engines), "--platform", "fake", "--metrics-port", "0")
        result = run(*options, "--port", port)
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_environment_sets_what_options_do_not(engines: Path) -> None:
    environment = {"MIRRORME_MAX_SESSIONS": "3"}
    with (
        serving(engines, "--max-sessions", "4", **environment) as (_, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = animation_pb2_grpc.AnimationServiceStub(channel)
        assert stub.GetCapabilities(pb.GetCapabilitiesRequest()).limits.max_sessions == 4
    with (
        serving(engines, **environment) as (_, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = animation_pb2_grpc.AnimationServiceStub(channel)
        assert stub.GetCapabilities(pb.GetCapabilitiesRequest()).limits.max_sessions == 3


def test_json_logs_carry_the_session(engines: Path) -> None:
    with serving(engines, "--log-format", "json") as (process, port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = animation_pb2_grpc.AnimationServiceStub(channel)
            answers = list(stub.StreamAnimate(iter([config(client_reference="me")])))
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        lines = [json.loads(line) for line in process.stderr]
    (about,) = [line for line in lines if "session of 'me'" in line["message"]]
    assert about["client_reference"] == "me"
    assert about["session_id"] == answers[0].started.session_id
    assert {"time", "level", "logger", "message"} <= about.keys()
    assert all(line["session_id"] == "-" for line in lines if "stop" in line["message"])


def test_untrained_weights_are_warned_of(engines: Path) -> None:
    with serving(engines) as (process, _):
        assert process.stderr
        assert "weights are random" in process.stderr.readline()


@contextmanager
def open_session(port: int) -> Iterator[tuple[grpc.Call, queue.SimpleQueue]]:
    """A session that has started; what is put into the queue is sent, None half-closes."""
    requests: queue.SimpleQueue = queue.SimpleQueue()
    requests.put(config())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = animation_pb2_grpc.AnimationServiceStub(channel)
        call = stub.StreamAnimate(iter(requests.get, None))
        next(call)
        try:
            yield call, requests
        finally:
            requests.put(None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_a_session_end_and_exits_0(engines: Path, number: int) -> None:
    with serving(engines) as (process, port):
        with open_session(port) as (call, requests):
            process.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            requests.put(audio(speech(16_000)))
            requests.put(None)
            assert list(call)[-1].summary.num_frames == 24
        assert process.wait(10) == 0


def test_second_signal_exits_now(engines: Path) -> None:
    with serving(engines) as (process, port), open_session(port):
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM


def test_no_torch_is_imported() -> None:
    """Every module of the gateway, and what its encoders load late."""
    program = """
import importlib, pkgutil, sys
from fractions import Fraction
import mirrorme_service, mirrorme_engines
from mirrorme.animate.v1 import animation_pb2 as pb
for package in (mirrorme_service, mirrorme_engines):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from mirrorme_service.face_detector import FaceDetector
FaceDetector()
unwanted = {"torch", "transformers", "diffusers", "mirrorme_model", "mirrorme_export"}
print(sorted(unwanted & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"
