"""The gateway around its sessions: admission, engine faults, health, metrics, stopping."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme.animate.v1 import animation_pb2_grpc
from mirrorme_engines.errors import ManifestError
from mirrorme_service.config import ServiceConfig
from mirrorme_service.grpc_ports import SERVICE_NAME, StartError
from mirrorme_service.metrics import Metrics
from mirrorme_service.server import Server
from prometheus_client.metrics import MetricWrapperBase

from tests.service.gateway import (
    SECOND,
    Gateway,
    animate,
    as_refusal,
    audio,
    config,
    new_channel,
    refusal,
    running_gateway,
    speech,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def num_frames_left(call) -> int:
    """Reads a session to its end."""
    num_frames = 0
    while (answer := await call.read()) is not grpc.aio.EOF:
        num_frames += len(answer.frames.frames)
    return num_frames


async def scraped(gateway: Gateway) -> str:
    """What Prometheus would read."""
    url = f"http://127.0.0.1:{gateway.server.metrics_port}/metrics"
    return await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())


async def test_one_session_over_capacity_is_refused_at_once() -> None:
    async with running_gateway(max_sessions=2) as gateway:
        calls = [gateway.stub.StreamAnimate() for _ in range(2)]
        for call in calls:
            await call.write(config())
            await call.read()
        assert gateway.metric("mirrorme_sessions_active") == 2
        error = await asyncio.wait_for(refusal(gateway.stub, [config()]), 1)
        assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "SESSIONS_FULL")
        assert "2 of 2" in error.message
        assert error.retry_delay_s
        assert gateway.metric("mirrorme_sessions_total", outcome="refused") == 1
        for call in calls:
            await call.write(audio(speech(SECOND)))
            await call.done_writing()
            assert await num_frames_left(call) == 24
        assert gateway.metric("mirrorme_sessions_total", outcome="completed") == 2
        await animate(gateway.stub, [config()])


async def test_many_calls_at_once_get_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    # The one that got it keeps it, however long the others take.
    monkeypatch.setattr("mirrorme_service.servicer._MAX_WAIT_FOR_CONFIG_S", 600)
    async with running_gateway(max_sessions=1, max_idle_s=600) as gateway:
        calls = [gateway.stub.StreamAnimate() for _ in range(200)]
        ended = [asyncio.ensure_future(call.code()) for call in calls]
        await until(lambda: sum(code.done() for code in ended) == 199, timeout_s=60)
        codes = {code.result() for code in ended if code.done()}
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert gateway.server.admission.num_active == 1
        for call in calls:
            call.cancel()
        await asyncio.wait(ended)


LOUD = audio((32767).to_bytes(2, "little") * SECOND)
FROM_LOUD = {
    "audio_encoder": lambda inputs: inputs["pcm"].max() > 0.9,
    "denoiser": lambda inputs: inputs["audio_tokens"].max() > 0.9,
    "decoder": lambda inputs: inputs["latents"][:, :, 3].max() > 0.9,
}
"""Whether a run of an engine has a part in a session of LOUD audio."""


@pytest.mark.parametrize("role", FROM_LOUD)
@pytest.mark.parametrize("kind", ["fault", "nan"])
async def test_engine_fault_ends_its_session_only(role: str, kind: str) -> None:
    if (role, kind) == ("decoder", "nan"):
        pytest.skip("pixels are integers")
    async with running_gateway() as gateway:
        healthy = [config(), *(audio(speech(1000, seed=i)) for i in range(40))]
        alone = await animate(gateway.stub, healthy)
        faults = getattr(gateway.engines, role).faults
        (faults.fail_when if kind == "fault" else faults.nan_when)(FROM_LOUD[role])
        other, error = await asyncio.gather(
            animate(gateway.stub, healthy), refusal(gateway.stub, [config(seed=13), LOUD])
        )
        assert (error.status, error.reason) == ("INTERNAL", "ENGINE_FAULT")
        assert other.pixels == alone.pixels
        assert gateway.metric("mirrorme_sessions_total", outcome="failed") == 1
        name = getattr(gateway.engines, role).spec.name
        assert gateway.metric("mirrorme_engine_retries_total", engine=name) == 0


async def test_engine_that_hangs_is_tried_again_and_then_given_up() -> None:
    async with running_gateway(engine_timeout_s=0.2, engine_attempts=3) as gateway:
        gateway.engines.denoiser.faults.hold()
        error = await refusal(gateway.stub, [config(), audio(speech(SECOND))])
        assert (error.status, error.reason) == ("UNAVAILABLE", "ENGINE_TIMEOUT")
        assert error.retry_delay_s
        assert gateway.metric("mirrorme_engine_retries_total", engine="denoiser") == 2
        gateway.engines.denoiser.faults.release()
        animation = await animate(gateway.stub, [config(), audio(speech(SECOND))])
        assert len(animation.frames) == 24


async def test_engine_that_hangs_for_a_while_changes_nothing() -> None:
    async with running_gateway(engine_timeout_s=0.3, engine_attempts=20) as gateway:
        requests = [config(), audio(speech(2 * SECOND))]
        undisturbed = await animate(gateway.stub, requests)
        gateway.engines.denoiser.faults.hold()
        session = asyncio.create_task(animate(gateway.stub, requests))
        retries = "mirrorme_engine_retries_total"
        await until(lambda: gateway.metric(retries, engine="denoiser") >= 1)
        gateway.engines.denoiser.faults.release()
        assert (await session).pixels == undisturbed.pixels


async def test_full_engine_queue_is_said() -> None:
    async with running_gateway(engine_queue_calls=1, engine_attempts=1) as gateway:
        gateway.engines.denoiser.faults.hold()
        requests = [config(), audio(speech(SECOND))]
        sessions = [asyncio.create_task(refusal(gateway.stub, requests)) for _ in range(4)]
        done, waiting = await asyncio.wait(sessions, return_when=asyncio.FIRST_COMPLETED)
        error = done.pop().result()
        assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "ENGINE_OVERLOADED")
        for session in waiting:
            session.cancel()


async def test_a_fault_of_our_own_is_told_with_care(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("a secret of the server")

    monkeypatch.setattr("mirrorme_service.intake.Intake._end_utterance", fail)
    error = await refusal(gateway.stub, [config()])
    assert (error.status, error.reason) == ("INTERNAL", "INTERNAL_FAULT")
    assert "secret" not in error.message


async def test_health(gateway: Gateway) -> None:
    stub = health_pb2_grpc.HealthStub(gateway.channel)
    for service in ("", SERVICE_NAME):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection(gateway: Gateway) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(gateway.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo([request]):
        names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE_NAME, "grpc.health.v1.Health"} <= names


async def test_capabilities(gateway: Gateway) -> None:
    answer = await gateway.stub.GetCapabilities(pb.GetCapabilitiesRequest())
    assert [preset.model.preset for preset in answer.presets] == ["fake"]
    assert [control.name for control in answer.presets[0].controls] == [
        "jawOpen",
        "eyeBlinkLeft",
        "headYaw",
    ]
    assert not answer.presets[0].HasField("guidance")
    assert answer.presets[0].expression == pb.FloatRange(min=0, max=2, default=1)
    assert answer.limits.max_sessions == gateway.server.config.max_sessions
    assert answer.limits.max_buffered_audio.seconds == 30
    assert set(answer.encodings) == set(pb.FrameEncoding.values()) - {0}
    assert set(answer.crop_modes) == set(pb.CropMode.values()) - {0}
    assert set(answer.pacings) == set(pb.Pacing.values()) - {0}
    assert "config.guidance" in answer.unimplemented_fields
    assert "config.takeover" not in answer.unimplemented_fields


async def test_metrics_port() -> None:
    async with running_gateway() as gateway:
        await animate(gateway.stub, [config(), audio(speech(SECOND))])
        text = await scraped(gateway)
    for line in (
        "mirrorme_sessions_active 0.0",
        'mirrorme_sessions_total{outcome="completed"} 1.0',
        'mirrorme_frames_sent_total{encoding="rgb24"} 24.0',
        'mirrorme_frame_bytes_sent_total{encoding="rgb24"} 294912.0',
        "mirrorme_first_frame_seconds_count 1.0",
        'mirrorme_first_frame_part_seconds_count{part="queue"} 1.0',
        'mirrorme_chunk_stage_seconds_count{stage="decoder"} 3.0',
        'mirrorme_chunk_stage_seconds_count{stage="frame_encoding"} 3.0',
        'mirrorme_engine_calls_total{engine="denoiser",outcome="ok"} 3.0',
        'mirrorme_engine_batch_size_sum{engine="denoiser"} 3.0',
        'mirrorme_engine_queue_seconds_count{engine="denoiser"} 3.0',
        'mirrorme_identity_lookups_total{result="miss"} 1.0',
    ):
        assert line in text
    assert 'mirrorme_build_info{engine="fake",preset="fake",trained="false"' in text


async def test_the_first_frames_latency_is_split() -> None:
    """Two sessions through engines that take one call at a time: the second one waits."""
    async with running_gateway() as gateway:
        gateway.engines.denoiser.faults.hold()
        sessions = [
            asyncio.create_task(animate(gateway.stub, [config(), audio(speech(8000))]))
            for _ in range(2)
        ]
        await until(lambda: gateway.server.admission.num_active == 2)
        await asyncio.sleep(0.3)
        gateway.engines.denoiser.faults.release()
        await asyncio.gather(*sessions)

        def total(name: str, **labels: str) -> float:
            return gateway.metric(f"mirrorme_first_frame{name}_seconds_sum", **labels)

        algorithmic, queue, compute = (
            total("_part", part=part) for part in ("algorithmic", "queue", "compute")
        )
        latency_ms = gateway.server.model.manifest.algorithmic_latency_ms
        assert algorithmic == pytest.approx(2 * latency_ms / 1000)
        assert queue + compute == pytest.approx(total(""))
        assert queue > 0 and compute > 0


async def test_metrics_are_those_of_the_documented_table() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    rows = [row.split("|") for row in page.splitlines() if row.startswith("| `")]
    listed = {name.strip(" `"): kind.split(";")[0].strip() for _, name, kind, *_ in rows}
    async with running_gateway() as gateway:
        text = await scraped(gateway)
    served = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
    # When a series began, which the library adds.
    assert listed == {n: kind for n, kind in served.items() if not n.endswith("_created")}


async def test_metrics_have_the_documented_labels() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    rows = [row.split("|") for row in page.splitlines() if row.startswith("| `")]
    listed = {}
    for _, name, kind, *_ in rows:
        _, _, labels = kind.partition(";")
        listed[name.strip(" `").removesuffix("_total")] = sorted(labels.replace(",", " ").split())
    metrics = Metrics()
    ours = [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]
    known = {metric._name: sorted(metric._labelnames) for metric in ours}
    # Those of the process have their series at once.
    for family in metrics.registry.collect():
        if family.name not in known:
            known[family.name] = sorted(family.samples[0].labels)
    assert listed == known


async def test_running_session_ends_within_the_grace() -> None:
    async with running_gateway() as gateway:
        call = gateway.stub.StreamAnimate()
        await call.write(config())
        await call.read()
        stopping = asyncio.create_task(gateway.server.stop(5))
        await asyncio.sleep(0.1)
        await call.write(audio(speech(SECOND)))
        await call.done_writing()
        assert await num_frames_left(call) == 24
        await asyncio.wait_for(stopping, 2)


async def test_session_that_outlives_the_grace_is_told_and_ended() -> None:
    async with running_gateway() as gateway:
        call = gateway.stub.StreamAnimate()
        await call.write(config())
        await call.write(audio(speech(SECOND)))
        assert (await call.read()).HasField("started")
        stopping = asyncio.create_task(gateway.server.stop(0.2))
        events, num_frames = [], 0
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while (answer := await call.read()) is not grpc.aio.EOF:
                if answer.event.HasField("going_away"):
                    events.append(answer.event)
                    assert answer.event.frame_index == num_frames
                num_frames += len(answer.frames.frames)
        error = as_refusal(ended.value)
        assert (error.status, error.reason) == ("UNAVAILABLE", "SERVER_DRAINING")
        assert error.retry_delay_s
        (event,) = events
        assert 0 < event.going_away.deadline.ToTimedelta().total_seconds() <= 0.2
        assert event.sample_index == event.frame_index * 2000 // 3
        await asyncio.wait_for(stopping, 3)
        assert gateway.metric("mirrorme_sessions_total", outcome="drained") == 1


async def test_draining_server_refuses_sessions_until_the_last_one_ended() -> None:
    async with running_gateway() as gateway:
        call = gateway.stub.StreamAnimate()
        await call.write(config())
        assert (await call.read()).HasField("started")
        stopping = asyncio.create_task(gateway.server.stop(30))
        assert (await call.read()).event.HasField("going_away")
        # On connections of their own: the port is open, and health says why.
        async with new_channel(gateway.server) as channel:
            stub = animation_pb2_grpc.AnimationServiceStub(channel)
            error = await refusal(stub, [config()])
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE_NAME))
        assert (error.status, error.reason) == ("UNAVAILABLE", "SERVER_DRAINING")
        assert error.retry_delay_s
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert gateway.metric("mirrorme_ready") == 0
        await call.write(audio(speech(SECOND)))
        await call.done_writing()
        assert await num_frames_left(call) == 24
        await asyncio.wait_for(stopping, 5)
        assert gateway.metric("mirrorme_sessions_total", outcome="completed") == 1


async def test_session_that_was_not_begun_is_ended_with_the_grace() -> None:
    async with running_gateway() as gateway:
        call = gateway.stub.StreamAnimate()
        await until(lambda: gateway.server.admission.num_active)
        await asyncio.wait_for(gateway.server.stop(0.1), 3)
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_taken_ports_are_named(gateway: Gateway) -> None:
    port, metrics_port = gateway.server.port, gateway.server.metrics_port
    for settings, text in (
        ({"port": port, "metrics_port": 0}, f"cannot listen on 127.0.0.1:{port}"),
        ({"port": 0, "metrics_port": metrics_port}, f"metrics on 127.0.0.1:{metrics_port}"),
    ):
        with pytest.raises(StartError, match=text):
            async with running_gateway(**settings):
                pass


async def test_missing_engines_are_named(tmp_path) -> None:
    config = ServiceConfig(engines=tmp_path, port=0, metrics_port=0)
    with pytest.raises(ManifestError, match=r"manifest.json: run `make export` first"):
        await Server.start(config)


async def test_registering_reports_errors_alike(gateway: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.RegisterPortrait(pb.RegisterPortraitRequest(image=b"GIF89a"))
    error = as_refusal(caught.value)
    assert error.status == "INVALID_ARGUMENT"
    assert error.field == "image"
    assert error.details[:2] == ("google.rpc.ErrorInfo", "google.rpc.BadRequest")
