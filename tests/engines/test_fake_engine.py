"""What the fakes' pixels say, so that gateway tests may rely on it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from mirrorme_engines.errors import EngineFault, EngineTimeout
from mirrorme_engines.fake_compute import FrameCodes, read_codes
from mirrorme_engines.fake_engine import FakeEngineSet, fake_engine_set
from mirrorme_engines.fake_manifest import fake_manifest
from mirrorme_engines.manifest import EngineSpec, Manifest

MANIFESTS = {
    "one": fake_manifest(),
    "three": fake_manifest(num_latents=3),
    "lookahead": fake_manifest(decoder_lookahead_latents=1, guidance=True, size_px=128),
}


def zeros(spec: EngineSpec) -> dict[str, np.ndarray]:
    return {tensor.name: np.zeros((1, *tensor.dims), tensor.dtype) for tensor in spec.inputs}


async def chunk(engines: FakeEngineSet, *, portrait: int = 1, audio: float = 0.5, **changes):
    """Latents of the first chunk and its identity."""
    rng = np.random.default_rng(portrait)
    image = rng.integers(0, 256, (1, *engines.identity_encoder.spec.inputs[0].dims), np.uint8)
    identity = (await engines.identity_encoder.infer({"image": image}))["identity"]
    pcm = zeros(engines.audio_encoder.spec)
    pcm["pcm"] += np.float32(audio)
    tokens = (await engines.audio_encoder.infer(pcm))["audio_tokens"]
    inputs = zeros(engines.denoiser.spec)
    inputs["motion"][:] = identity[:, None]
    inputs |= {"identity": identity, "audio_tokens": tokens}
    for name, change in changes.items():
        inputs[name] = inputs[name] + np.asarray(change, inputs[name].dtype)
    return (await engines.denoiser.infer(inputs))["latents"], identity


async def frames(engines: FakeEngineSet, latents: np.ndarray, identity: np.ndarray) -> np.ndarray:
    context = engines.manifest.chunk.decoder_context_latents
    given = np.concatenate([*[identity[:, None]] * context, latents], axis=1)
    num_wanted = engines.decoder.spec.inputs[0].dims[0]
    given = np.concatenate([given, *[given[:, -1:]] * (num_wanted - given.shape[1])], axis=1)
    return (await engines.decoder.infer({"latents": given}))["frames"][0]


async def first_codes(engines: FakeEngineSet, **changes) -> FrameCodes:
    latents, identity = await chunk(engines, **changes)
    return read_codes((await frames(engines, latents, identity))[0])


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS.keys())
async def test_frames_count_latents_and_frames(manifest: Manifest) -> None:
    engines = fake_engine_set(manifest)
    latents, identity = await chunk(engines)
    codes = [read_codes(frame) for frame in await frames(engines, latents, identity)]
    assert len(codes) == manifest.chunk_frames
    assert [code.latent_count for code in codes] == [1 + i // 8 for i in range(len(codes))]
    assert [code.frame_in_latent for code in codes] == [i % 8 for i in range(len(codes))]
    assert codes[0].context_count == 0 and codes[0].audio_energy == 128
    again, _ = await chunk(engines)
    assert again.tobytes() == latents.tobytes()
    await engines.close()


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        ({"portrait": 2}, {"identity_code", "motion_code"}),
        ({"audio": 0.25}, {"audio_energy", "audio_code"}),
        ({"noise": 1}, {"noise_code"}),
        ({"motion": 0.125}, {"motion_code", "latent_count"}),
        ({"hand_keypoints": 0.5}, {"hands_code"}),
        ({"controls": 0.5}, {"controls_code"}),
        ({"control_weights": 0.5}, {"controls_code"}),
        ({"expression": 0.5}, {"controls_code"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_each_input_shows_in_its_own_code(changes: dict, differ: set[str]) -> None:
    engines = fake_engine_set()
    base, changed = await first_codes(engines), await first_codes(engines, **changes)
    assert {
        name
        for name in FrameCodes.__dataclass_fields__
        if getattr(base, name) != getattr(changed, name)
    } == differ
    await engines.close()


async def test_the_decoder_shows_what_stood_around_a_latent() -> None:
    engines = fake_engine_set(MANIFESTS["lookahead"])
    latents = np.zeros((1, *engines.decoder.spec.inputs[0].dims), np.float32)
    latents[0, :, 8] = (np.array([7, 8, 9]) / 255)[:, None, None]
    codes = read_codes((await engines.decoder.infer({"latents": latents}))["frames"][0, 0])
    assert (codes.context_count, codes.latent_count, codes.lookahead_count) == (7, 8, 9)
    await engines.close()


@pytest.mark.parametrize("quality", [75, 90])
async def test_codes_survive_jpeg(quality: int) -> None:
    import simplejpeg

    engines = fake_engine_set()
    latents, identity = await chunk(engines, noise=1, hand_keypoints=1, controls=1)
    frame = (await frames(engines, latents, identity))[3]
    encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality)
    assert io.BytesIO(encoded).read(2) == b"\xff\xd8"
    want, got = read_codes(frame), read_codes(simplejpeg.decode_jpeg(encoded))
    for name in FrameCodes.__dataclass_fields__:
        assert abs(getattr(want, name) - getattr(got, name)) <= 2, name
    await engines.close()


async def test_faults() -> None:
    engines = fake_engine_set()
    inputs = zeros(engines.denoiser.spec)
    faults = engines.denoiser.faults
    faults.fail_next()
    with pytest.raises(EngineFault, match="as its test wants"):
        await engines.denoiser.infer(inputs)
    faults.nan_next()
    with pytest.raises(EngineFault, match="output latents holds NaN"):
        await engines.denoiser.infer(inputs)
    faults.hold()
    with pytest.raises(EngineTimeout):
        await engines.denoiser.infer(inputs, timeout_s=0.02)
    faults.release()
    await engines.denoiser.infer(inputs)
    assert faults.batch_sizes == [1, 1, 1, 1]
    assert engines.decoder.faults.batch_sizes == []
    await engines.close()


async def test_a_hanging_engine_closes() -> None:
    engines = fake_engine_set()
    engines.decoder.faults.hold()
    with pytest.raises(EngineTimeout):
        await engines.decoder.infer(zeros(engines.decoder.spec), timeout_s=0.02)
    await engines.close()


@pytest.mark.parametrize("size_px", [32, 80])
def test_sizes_that_cannot_hold_the_codes_are_refused(size_px: int) -> None:
    with pytest.raises(ValueError, match="size_px"):
        fake_manifest(size_px=size_px)
