"""Readiness follows chunks that were made, whoever they were made for."""

from __future__ import annotations

from grpc_health.v1 import health_pb2, health_pb2_grpc
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_service.errors import EngineTrouble
from mirrorme_service.readiness import Readiness

from tests.service.gateway import Gateway, animate, audio, config, running_gateway, speech, until

SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


class Engines:
    """What readiness looks at."""

    def __init__(self) -> None:
        self.works = True
        self.last_success_s = 0.0
        self.num_checks = 0
        self.told: list[bool] = []

    async def check(self) -> None:
        self.num_checks += 1
        if not self.works:
            raise EngineTrouble("ENGINE_FAULT", "as its test wants", retryable=False)

    async def tell(self, is_ready: bool) -> None:
        self.told.append(is_ready)


async def test_is_told_on_changes_only_and_checks_without_sessions_only() -> None:
    engines, now = Engines(), [0.0]
    readiness = Readiness(
        engines.check,
        lambda: engines.last_success_s,
        engines.tell,
        period_s=1000,
        clock=lambda: now[0],
    )
    await readiness.start()
    assert engines.told == [True]
    now[0] = engines.last_success_s = 5000.0
    await readiness.look()
    assert engines.num_checks == 0
    now[0] = 6000.0
    for works, told in ((True, [True]), (False, [True, False]), (False, [True, False])):
        engines.works = works
        await readiness.look()
        assert engines.told == told
    assert engines.num_checks == 3
    # A session's chunk says as much as a check of its own.
    engines.last_success_s = 5999.0
    await readiness.look()
    assert (engines.told, engines.num_checks) == ([True, False, True], 3)
    await readiness.stop()


async def health(gateway: Gateway) -> int:
    stub = health_pb2_grpc.HealthStub(gateway.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest())).status


async def test_health_follows_the_engines_of_a_gateway_without_sessions() -> None:
    async with running_gateway(
        fake_manifest(decoder_lookahead_latents=1), ready_check_s=0.05, engine_attempts=1
    ) as gateway:
        assert await health(gateway) == SERVING
        await until(lambda: gateway.engines.decoder.faults.batch_sizes)
        assert await health(gateway) == SERVING
        gateway.engines.denoiser.faults.fail_when(lambda _inputs: True)
        await until(lambda: not gateway.metric("mirrorme_ready"))
        assert await health(gateway) == NOT_SERVING
        gateway.engines.denoiser.faults.fail_when(lambda _inputs: False)
        await until(lambda: gateway.metric("mirrorme_ready"))
        assert await health(gateway) == SERVING


async def test_a_session_makes_the_check_superfluous() -> None:
    async with running_gateway(ready_check_s=60) as gateway:
        before_s = gateway.server.model.last_chunk_s
        await animate(gateway.stub, [config(), audio(speech(16_000))])
        assert gateway.server.model.last_chunk_s > before_s
        assert gateway.engines.denoiser.faults.batch_sizes == [1, 1, 1]
