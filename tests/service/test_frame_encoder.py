"""All encoders: one encoded frame a frame, decodable, deterministic; then each by itself."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.errors import InvalidRequest
from mirrorme_service.frame_encoder import EncodedFrame, FrameEncoder, open_frame_encoder
from PIL import Image

JPEG = pb.FRAME_ENCODING_JPEG
H264 = pb.FRAME_ENCODING_H264
RGB24 = pb.FRAME_ENCODING_RGB24
I420 = pb.FRAME_ENCODING_I420
WIDTH, HEIGHT = 96, 64
OUTPUTS = {
    "jpeg": pb.OutputFormat(encoding=JPEG, jpeg_quality=90),
    "jpeg_best": pb.OutputFormat(encoding=JPEG, jpeg_quality=100),
    "h264": pb.OutputFormat(encoding=H264, h264_key_frame_interval_frames=48),
    "h264_bitrate": pb.OutputFormat(
        encoding=H264, h264_key_frame_interval_frames=10, h264_bitrate_bps=400_000
    ),
    "rgb24": pb.OutputFormat(encoding=RGB24),
    "i420": pb.OutputFormat(encoding=I420),
}


def clip(num_frames: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A soft, saturated picture that moves: [F, H, W, 3]."""
    n, y, x = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    planes = [
        127 + 110 * np.sin((x + 2 * n) / 17),
        127 + 110 * np.cos((y - n) / 13),
        127 + 110 * np.sin((x + y) / 29 + n / 5),
    ]
    return np.stack(planes, -1).astype(np.uint8)


def open_encoder(name: str, width: int = WIDTH, height: int = HEIGHT) -> FrameEncoder:
    return open_frame_encoder(OUTPUTS[name], width, height, Fraction(24))


def decoded(name: str, encoded: list[EncodedFrame]) -> np.ndarray:
    """[F, H, W, 3] by decoders of others."""
    if name.startswith("jpeg"):
        return np.stack([np.asarray(Image.open(io.BytesIO(frame.data))) for frame in encoded])
    if name == "rgb24":
        return np.stack(
            [np.frombuffer(f.data, np.uint8).reshape(HEIGHT, WIDTH, 3) for f in encoded]
        )
    if name == "i420":
        return np.stack([i420_to_rgb(frame.data) for frame in encoded])
    decoder = av.CodecContext.create("h264", "r")
    frames = [f for frame in encoded for f in decoder.decode(av.Packet(frame.data))]
    frames += decoder.decode(None)
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def i420_planes(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = np.frombuffer(data, np.uint8).astype(float)
    luma, chroma = WIDTH * HEIGHT, WIDTH * HEIGHT // 4
    assert len(values) == luma + 2 * chroma
    half = (HEIGHT // 2, WIDTH // 2)
    return (
        values[:luma].reshape(HEIGHT, WIDTH),
        values[luma : luma + chroma].reshape(half),
        values[luma + chroma :].reshape(half),
    )


def i420_to_rgb(data: bytes) -> np.ndarray:
    """BT.709 limited, from the standard's definition."""
    y, u, v = i420_planes(data)
    u, v = (np.kron(plane, np.ones((2, 2))) for plane in (u, v))
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = y + 1.5748 * v, y + 1.8556 * u
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    return np.clip(np.rint(255 * np.stack([red, green, blue], -1)), 0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize(
    ("name", "least_psnr"),
    [("jpeg", 34), ("jpeg_best", 42), ("h264", 33), ("h264_bitrate", 30), ("i420", 34)],
)
def test_frames_come_back(name: str, least_psnr: float) -> None:
    frames = clip(24)
    encoded = open_encoder(name).encode(frames)
    assert len(encoded) == 24
    assert psnr(decoded(name, encoded), frames) > least_psnr


def test_rgb24_is_the_pixels() -> None:
    frames = clip(3)
    assert np.array_equal(decoded("rgb24", open_encoder("rgb24").encode(frames)), frames)


@pytest.mark.parametrize("name", OUTPUTS)
def test_cuts_change_nothing(name: str) -> None:
    frames = clip(20)
    whole = open_encoder(name).encode(frames)
    encoder = open_encoder(name)
    pieces = [
        *encoder.encode(frames[:1]),
        *encoder.encode(frames[1:9]),
        *encoder.encode(frames[9:]),
    ]
    assert encoder.encode(frames[:0]) == []
    encoder.close()
    encoder.close()
    assert pieces == whole


@pytest.mark.parametrize("name", OUTPUTS)
def test_frames_that_are_not_contiguous(name: str) -> None:
    frames = clip(3)
    mirrored = frames[:, :, ::-1]
    copies = np.ascontiguousarray(mirrored)
    assert open_encoder(name).encode(mirrored) == open_encoder(name).encode(copies)


@pytest.mark.parametrize("name", OUTPUTS)
def test_frames_that_are_read_only(name: str) -> None:
    frames = clip(2)
    frames.flags.writeable = False
    assert len(open_encoder(name).encode(frames)) == 2


@pytest.mark.parametrize("name", ["jpeg", "rgb24", "i420"])
def test_frames_by_themselves_are_key_frames(name: str) -> None:
    assert all(frame.is_key_frame for frame in open_encoder(name).encode(clip(5)))


# H.264


def nal_types(data: bytes) -> list[int]:
    starts, at = [], data.find(b"\0\0\1")
    while at >= 0:
        starts.append(data[at + 3] & 31)
        at = data.find(b"\0\0\1", at + 3)
    return starts


SPS, PPS, IDR, SLICE = 7, 8, 5, 1


def key_frames(encoded: list[EncodedFrame]) -> list[int]:
    return [index for index, frame in enumerate(encoded) if frame.is_key_frame]


def test_h264_is_annex_b_with_parameter_sets_at_each_key_frame() -> None:
    encoded = open_encoder("h264_bitrate").encode(clip(25))
    assert key_frames(encoded) == [0, 10, 20]
    for frame in encoded:
        assert frame.data.startswith((b"\0\0\0\1", b"\0\0\1"))
        kinds = nal_types(frame.data)
        if frame.is_key_frame:
            assert kinds[:2] == [SPS, PPS]
            assert kinds.count(IDR) == 1
        else:
            assert kinds == [SLICE]


def test_h264_key_frames_come_on_demand_and_count_anew() -> None:
    encoder = open_encoder("h264_bitrate")
    frames = clip(30)
    encoded = encoder.encode(frames[:4])
    encoded += encoder.encode(frames[4:], force_key_frame=True)
    assert key_frames(encoded) == [0, 4, 14, 24]
    from_there = encoded[4:]
    assert psnr(decoded("h264", from_there), frames[4:]) > 30


@pytest.mark.parametrize("interval", [1, 240])
def test_h264_key_frame_interval(interval: int) -> None:
    output = pb.OutputFormat(encoding=H264, h264_key_frame_interval_frames=interval)
    encoded = open_frame_encoder(output, 32, 32, Fraction(24)).encode(clip(250, 32, 32))
    assert key_frames(encoded) == list(range(0, 250, interval))


def test_h264_is_tagged_bt709_limited() -> None:
    decoder = av.CodecContext.create("h264", "r")
    (packet,) = open_encoder("h264").encode(clip(1))
    frame = [*decoder.decode(av.Packet(packet.data)), *decoder.decode(None)][0]
    assert (frame.colorspace, frame.color_range) == (1, 1)
    assert (frame.color_primaries, frame.color_trc) == (1, 1)


def test_h264_keeps_to_the_bitrate() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (96, HEIGHT, WIDTH, 3), np.uint8)
    encoded = open_encoder("h264_bitrate").encode(noise)
    bits_per_s = 8 * sum(len(frame.data) for frame in encoded[24:]) * 24 / 72
    assert bits_per_s < 1.3 * 400_000
    unbounded = open_encoder("h264").encode(noise)
    assert 8 * sum(len(frame.data) for frame in unbounded[24:]) * 24 / 72 > 1.5 * bits_per_s


def test_h264_muxes_into_mp4() -> None:
    """What a client does with it: remux without encoding again."""
    encoded = open_encoder("h264").encode(clip(30))
    raw = io.BytesIO(b"".join(frame.data for frame in encoded))
    with av.open(raw, format="h264") as source:
        assert sum(1 for _ in source.decode(video=0)) == 30


# I420


def test_i420_is_bt709_limited() -> None:
    frames = clip(2)
    for frame, encoded in zip(frames, open_encoder("i420").encode(frames), strict=True):
        red, green, blue = np.moveaxis(frame.astype(float), -1, 0)
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        planes = (
            16 + 219 / 255 * luma,
            mean_of_four(128 + 224 / 255 * (blue - luma) / 1.8556),
            mean_of_four(128 + 224 / 255 * (red - luma) / 1.5748),
        )
        for plane, expected in zip(i420_planes(encoded.data), planes, strict=True):
            assert np.abs(plane - expected).max() < 1


def mean_of_four(plane: np.ndarray) -> np.ndarray:
    return plane.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))


@pytest.mark.parametrize(
    ("rgb", "yuv"), [((0, 0, 0), (16, 128, 128)), ((255, 255, 255), (235, 128, 128))]
)
def test_i420_black_and_white(rgb, yuv) -> None:
    frames = np.full((1, HEIGHT, WIDTH, 3), rgb, np.uint8)
    (encoded,) = open_encoder("i420").encode(frames)
    for plane, value in zip(i420_planes(encoded.data), yuv, strict=True):
        assert (plane == value).all()


# Sizes


@pytest.mark.parametrize(("width", "height"), [(63, 64), (64, 63)])
@pytest.mark.parametrize("name", ["h264", "i420"])
def test_odd_sizes_are_refused_where_chroma_is_halved(name: str, width: int, height: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        open_encoder(name, width, height)
    assert (caught.value.reason, caught.value.field) == ("FRAME_SIZE_ODD", "config.output.encoding")


@pytest.mark.parametrize("name", ["jpeg", "rgb24"])
def test_odd_sizes_are_taken_elsewhere(name: str) -> None:
    frames = clip(2, 63, 61)
    encoded = open_encoder(name, 63, 61).encode(frames)
    if name == "jpeg":
        assert Image.open(io.BytesIO(encoded[0].data)).size == (63, 61)
    else:
        assert encoded[1].data == frames[1].tobytes()


def test_an_output_without_its_encoding_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="without its defaults"):
        open_frame_encoder(pb.OutputFormat(), 64, 64, Fraction(24))
