"""The identity cache: encoded once, bounded, and nobody hangs on somebody else's failure."""

import asyncio
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.errors import InvalidRequest
from mirrorme_service.identity_cache import Identity, IdentityCache, IdentityCacheObserver, Lookup
from mirrorme_service.portrait import FittedPortrait
from mirrorme_service.portrait_crop import CropBox

BODY, FACE = pb.CROP_MODE_UPPER_BODY, pb.CROP_MODE_FACE
LATENT_BYTES = 128 * 2 * 2 * 4


class Fixture(IdentityCacheObserver):
    """A cache over fakes that count; time is set by hand.

    The picture of a file is its first byte: files that differ behind it hold the same picture.
    """

    def __init__(self, *, max_bytes: int = 1 << 20, ttl_s: float = 60.0) -> None:
        self.now_s = 1000.0
        self.counts = Counter[str]()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.cache = IdentityCache(
            self.read,
            self.encode,
            "weights",
            max_bytes=max_bytes,
            ttl_s=ttl_s,
            clock=lambda: self.now_s,
            observer=self,
        )

    async def read(self, data: bytes, crop_mode: pb.CropMode, *, field: str) -> FittedPortrait:
        self.counts["read"] += 1
        if data == b"bad":
            raise InvalidRequest("PORTRAIT_CORRUPT", "bad", field=field)
        pixels = np.full((4, 4, 3), data[0], np.uint8)
        pixels[0, 0, 0] = crop_mode
        return FittedPortrait(pixels, len(data), 1, CropBox(0, 0, 4, 4))

    async def encode(self, pixels: np.ndarray) -> np.ndarray:
        self.counts["encode"] += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return np.full((128, 2, 2), pixels[1, 1, 0], np.float32)

    def looked_up(self, result: Lookup) -> None:
        self.counts[result] += 1

    def evicted(self, reason) -> None:
        self.counts[reason] += 1

    async def load(self, image: bytes, crop_mode: pb.CropMode = BODY) -> Identity:
        identity, _ = await self.cache.load(image, crop_mode, field="config.portrait.image")
        return identity

    def start(self, image: bytes) -> "asyncio.Task[Identity]":
        return asyncio.create_task(self.load(image))


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_same_file_is_read_and_encoded_once() -> None:
    fixture = Fixture()
    first, second = await fixture.load(b"a"), await fixture.load(b"a")
    assert fixture.counts == {"read": 1, "encode": 1, "miss": 1, "hit": 1}
    assert first.portrait == second.portrait
    assert first.latents is second.latents
    assert first.latents.shape == (128, 2, 2)
    assert not first.latents.flags.writeable


async def test_the_same_picture_in_another_file_is_encoded_once() -> None:
    fixture = Fixture()
    first, second = await fixture.load(b"a"), await fixture.load(b"a, with other metadata")
    assert fixture.counts == {"read": 2, "encode": 1, "miss": 1, "hit": 1}
    assert first.portrait.portrait_id == second.portrait.portrait_id
    assert second.portrait.source_size.width_px == len(b"a, with other metadata")
    again = await fixture.load(b"a, with other metadata")
    assert again.portrait == second.portrait
    assert fixture.counts["read"] == 2


async def test_the_crop_mode_makes_another_portrait() -> None:
    fixture = Fixture()
    body, face = await fixture.load(b"a", BODY), await fixture.load(b"a", FACE)
    assert body.portrait.portrait_id != face.portrait.portrait_id
    assert fixture.counts["encode"] == 2


async def test_portraits_are_found_by_id() -> None:
    fixture = Fixture()
    identity = await fixture.load(b"a")
    assert len(identity.portrait.portrait_id) == 64
    found = fixture.cache.find(identity.portrait.portrait_id)
    assert found is not None
    assert found.latents is identity.latents
    assert fixture.cache.find("0" * 64) is None
    assert fixture.cache.find("") is None


async def test_ids_belong_to_a_model() -> None:
    one, other = Fixture(), Fixture()
    other.cache = IdentityCache(other.read, other.encode, "other", max_bytes=1 << 20, ttl_s=60)
    ids = {(await fixture.load(b"a")).portrait.portrait_id for fixture in (one, other)}
    assert len(ids) == 2


async def test_many_that_come_at_once_are_encoded_once() -> None:
    fixture = Fixture()
    fixture.gate.clear()
    tasks = [fixture.start(b"a") for _ in range(8)]
    await settled()
    assert fixture.counts == {"read": 1, "encode": 1}
    fixture.gate.set()
    identities = await asyncio.gather(*tasks)
    assert len({id(identity.latents) for identity in identities}) == 1
    assert fixture.counts == {"read": 1, "encode": 1, "miss": 1, "joined": 7}


async def test_different_files_with_one_picture_at_once_are_encoded_once() -> None:
    fixture = Fixture()
    fixture.gate.clear()
    tasks = [fixture.start(b"a" + bytes([i])) for i in range(4)]
    await settled()
    fixture.gate.set()
    await asyncio.gather(*tasks)
    assert fixture.counts == {"read": 4, "encode": 1, "miss": 1, "joined": 3}


async def test_different_portraits_do_not_wait_for_each_other() -> None:
    fixture = Fixture()
    fixture.gate.clear()
    tasks = [fixture.start(b"a"), fixture.start(b"b")]
    await settled()
    assert fixture.counts["encode"] == 2
    fixture.gate.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_leader_leaves_the_work_to_the_next() -> None:
    fixture = Fixture()
    fixture.gate.clear()
    leader, *followers = [fixture.start(b"a") for _ in range(3)]
    await settled()
    leader.cancel()
    await settled()
    fixture.gate.set()
    identities = await asyncio.gather(*followers)
    assert identities[0].latents is identities[1].latents
    assert leader.cancelled()
    assert fixture.counts == {"read": 2, "encode": 2, "miss": 1, "joined": 1}


async def test_a_failed_leader_fails_alone() -> None:
    fixture = Fixture()
    fixture.gate.clear()
    fixture.failures = [RuntimeError("engine")]
    leader, *followers = [fixture.start(b"a") for _ in range(3)]
    await settled()
    fixture.gate.set()
    results = await asyncio.gather(leader, *followers, return_exceptions=True)
    assert isinstance(results[0], RuntimeError)
    assert all(isinstance(result, Identity) for result in results[1:])


async def test_cancelled_followers_disturb_nobody() -> None:
    fixture = Fixture()
    fixture.gate.clear()
    leader, follower, other = [fixture.start(b"a") for _ in range(3)]
    await settled()
    follower.cancel()
    await settled()
    fixture.gate.set()
    assert (await leader).latents is (await other).latents


async def test_bad_files_are_refused_each_time_and_not_kept() -> None:
    fixture = Fixture()
    for _ in range(3):
        with pytest.raises(InvalidRequest):
            await fixture.load(b"bad")
    assert fixture.counts == {"read": 3}
    assert (len(fixture.cache), fixture.cache.num_bytes) == (0, 0)


async def test_what_is_unused_for_long_is_forgotten() -> None:
    fixture = Fixture(ttl_s=60)
    used = (await fixture.load(b"a")).portrait.portrait_id
    unused = (await fixture.load(b"b")).portrait.portrait_id
    for _ in range(3):
        fixture.now_s += 30
        assert fixture.cache.find(used) is not None
    assert fixture.cache.find(unused) is None
    assert (fixture.counts["expired"], len(fixture.cache)) == (1, 1)
    await fixture.load(b"b")
    assert fixture.counts["encode"] == 3


async def test_what_nobody_asks_for_is_forgotten_too() -> None:
    fixture = Fixture(ttl_s=0.05)
    await fixture.load(b"a")
    fixture.now_s += 0.03
    await fixture.load(b"b")
    fixture.now_s += 1
    async with asyncio.timeout(20):
        while len(fixture.cache):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (fixture.counts["expired"], fixture.cache.num_bytes) == (2, 0)


async def test_the_least_recently_used_makes_room() -> None:
    fixture = Fixture(max_bytes=3 * (LATENT_BYTES + 1024))
    ids = {name: (await fixture.load(name)).portrait.portrait_id for name in (b"a", b"b", b"c")}
    await fixture.load(b"a")
    await fixture.load(b"d")
    assert fixture.counts["size"] == 1
    assert fixture.cache.find(ids[b"b"]) is None
    assert fixture.cache.find(ids[b"a"]) is not None
    assert fixture.cache.num_bytes <= 3 * (LATENT_BYTES + 1024)


async def test_what_is_larger_than_the_cache_is_encoded_but_not_kept() -> None:
    fixture = Fixture(max_bytes=100)
    assert (await fixture.load(b"a")).latents[0, 0, 0] == ord("a")
    assert (len(fixture.cache), fixture.cache.num_bytes) == (0, 0)


async def test_many_files_of_one_picture_are_bounded() -> None:
    fixture = Fixture()
    for i in range(100):
        await fixture.load(b"a%d" % i)
    assert fixture.counts["encode"] == 1
    assert fixture.cache.num_bytes < LATENT_BYTES + 20 * 512
    before = fixture.counts["read"]
    await fixture.load(b"a99")
    assert fixture.counts["read"] == before


async def test_large_files_are_hashed_aside() -> None:
    fixture = Fixture()
    large = b"a" * (2 << 20)
    await fixture.load(large)
    await fixture.load(large)
    assert fixture.counts == {"read": 1, "encode": 1, "miss": 1, "hit": 1}


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([b"a", b"a2", b"b", b"c", b"d", b"bad"]), st.floats(0, 40)),
        max_size=30,
    )
)
def test_bounds_hold_whatever_comes(steps: list[tuple[bytes, float]]) -> None:
    async def run() -> None:
        fixture = Fixture(max_bytes=2 * (LATENT_BYTES + 2048), ttl_s=60)
        for image, wait_s in steps:
            fixture.now_s += wait_s
            try:
                identity = await fixture.load(image)
            except InvalidRequest:
                continue
            assert identity.latents[0, 0, 0] == image[0]
            assert fixture.cache.num_bytes <= 2 * (LATENT_BYTES + 2048)
            assert fixture.cache.num_bytes >= len(fixture.cache) * LATENT_BYTES
        fixture.now_s += 1000
        assert fixture.cache.find("x") is None
        assert (len(fixture.cache), fixture.cache.num_bytes) == (0, 0)

    asyncio.run(run())
