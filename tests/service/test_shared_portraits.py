"""Portraits that one gateway encoded, used at another."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.identity_cache import Identity
from mirrorme_service.memory_store import MemoryStore
from mirrorme_service.shared_portraits import SharedPortraits

from tests.service.gateway import (
    animate,
    audio,
    config,
    portrait_png,
    refusal,
    running_gateway,
    speech,
)
from tests.service.redis_process import RedisProcess, requires_redis

SHAPE = (128, 2, 2)


class PortraitStore(MemoryStore):
    """A memory store that keeps portraits."""

    def __init__(self) -> None:
        super().__init__()
        self.portraits: dict[str, bytes] = {}

    async def save_portrait(self, portrait_id: str, portrait: bytes, ttl_s: float) -> None:
        self.portraits[portrait_id] = portrait

    async def load_portrait(self, portrait_id: str, ttl_s: float) -> bytes | None:
        return self.portraits.get(portrait_id)


async def test_round_trip() -> None:
    shared = SharedPortraits(PortraitStore(), SHAPE, 60)
    latents = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    info = pb.PortraitInfo(portrait_id="p", crop=pb.CropBox(x_px=-3, width_px=7))
    await shared.save(Identity(info, latents))
    loaded = await shared.load("p")
    assert loaded is not None
    assert loaded.portrait == info
    assert np.array_equal(loaded.latents, latents)
    assert not loaded.latents.flags.writeable
    assert await shared.load("q") is None


@pytest.mark.parametrize("shape", [(128, 4, 4), (1,)])
async def test_another_models_latents_are_unknown(shape: tuple[int, ...]) -> None:
    store = PortraitStore()
    info = pb.PortraitInfo(portrait_id="p")
    await SharedPortraits(store, SHAPE, 60).save(Identity(info, np.zeros(shape, np.float32)))
    assert await SharedPortraits(store, SHAPE, 60).load("p") is None


INFO = pb.PortraitInfo(portrait_id="p").SerializeToString()
LATENTS = bytes(4 * 128 * 2 * 2)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        bytes(range(256)),
        msgpack.packb((2, INFO, LATENTS)),
        msgpack.packb((1, INFO, LATENTS[4:])),
        msgpack.packb((1, b"\xff", LATENTS)),
        msgpack.packb((1, pb.PortraitInfo(portrait_id="q").SerializeToString(), LATENTS)),
        msgpack.packb((1, INFO, np.full(SHAPE, np.nan, "<f4").tobytes())),
        msgpack.packb({"a": 1}),
        msgpack.packb((1, INFO)),
    ],
)
async def test_what_is_odd_is_unknown(packed: bytes) -> None:
    store = PortraitStore()
    store.portraits["p"] = packed
    assert await SharedPortraits(store, SHAPE, 60).load("p") is None


class TestGateways:
    pytestmark = requires_redis

    async def test_registered_at_one_known_at_the_other(self, tmp_path: Path) -> None:
        redis = RedisProcess(tmp_path)
        settings = {"store_url": redis.url, "store_timeout_s": 2.0}
        request = pb.RegisterPortraitRequest(image=portrait_png(5), crop_mode=pb.CROP_MODE_CENTER)
        async with running_gateway(**settings) as first, running_gateway(**settings) as second:
            portrait = (await first.stub.RegisterPortrait(request)).portrait
            source = pb.PortraitSource(portrait_id=portrait.portrait_id)
            requests = [config(portrait=source), audio(speech(16_000))]
            there = await animate(second.stub, requests)
            assert there.started is not None
            assert there.started.portrait == portrait
            assert there.pixels == (await animate(first.stub, requests)).pixels
            assert second.metric("mirrorme_identity_lookups_total", result="shared") == 1
            # The picture itself is fitted there, and not encoded again.
            assert (await second.stub.RegisterPortrait(request)).already_known
            assert not second.engines.identity_encoder.faults.batch_sizes
        redis.stop()

    async def test_without_the_store_each_gateway_is_on_its_own(self, tmp_path: Path) -> None:
        redis = RedisProcess(tmp_path)
        settings = {"store_url": redis.url, "store_timeout_s": 2.0}
        request = pb.RegisterPortraitRequest(image=portrait_png(5), crop_mode=pb.CROP_MODE_CENTER)
        async with running_gateway(**settings) as first, running_gateway(**settings) as second:
            redis.stop()
            portrait = (await first.stub.RegisterPortrait(request)).portrait
            source = pb.PortraitSource(portrait_id=portrait.portrait_id)
            requests = [config(portrait=source), audio(speech(16_000))]
            error = await refusal(second.stub, requests)
            assert (error.status, error.reason) == ("NOT_FOUND", "PORTRAIT_UNKNOWN")
            assert len((await animate(first.stub, requests)).frames) == 24
            assert second.metric("mirrorme_store_up", store="redis") == 0
