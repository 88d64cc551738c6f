"""What clients may send wrongly, and what they are told: data for a test and for `docs/errors.md`.

Each case says in words what is sent, how to send it, and the answer. Inputs that look wrong but are
taken are here too, with the status OK.
"""

# ruff: noqa: E501 - tables, one case a line

from __future__ import annotations

import dataclasses
import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_service.condition_schedule import MAX_POSES
from PIL import Image

from tests.service.gateway import END_OF_UTTERANCE, audio, config, portrait_png, speech

Request = pb.StreamAnimateRequest
Message = Request | bytes
"""Bytes are sent as they are, in place of a serialized message."""

_FACE = Path(__file__).parents[2] / "examples" / "portrait_1.png"
NAN, INFINITY = float("nan"), float("inf")


@dataclass(frozen=True)
class BadInput:
    """One case."""

    name: str
    """What is sent."""
    send: Callable[[], list[Message] | pb.RegisterPortraitRequest]
    status: str
    reason: str = ""
    field: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of the gateway, where not the defaults."""


def _config(**changes: Any) -> Callable[[], list[Message]]:
    return lambda: [config(**changes)]


def _takeover(**others: Any) -> Message:
    takeover = pb.SessionTakeover(session_id="x", takeover_token=b"y")
    return pb.StreamAnimateRequest(config=pb.SessionConfig(takeover=takeover, **others))


def _portrait(
    image: Callable[[], bytes], crop_mode: int = pb.CROP_MODE_CENTER
) -> Callable[[], list[Message]]:
    return lambda: [config(portrait=pb.PortraitSource(image=image(), crop_mode=crop_mode))]


def _output(**changes: Any) -> Callable[[], list[Message]]:
    return _config(output=pb.OutputFormat(**changes))


def _audio_format(**changes: Any) -> Callable[[], list[Message]]:
    settings = {"encoding": pb.AUDIO_ENCODING_PCM_S16LE, "sample_rate_hz": 16_000, **changes}
    return _config(audio_format=pb.AudioFormat(**settings))


def _pcm(data: bytes, **changes: Any) -> Callable[[], list[Message]]:
    return lambda: [*_audio_format(**changes)(), audio(data)]


def _f32(*values: float) -> Callable[[], list[Message]]:
    samples = np.zeros(5000, "<f4")
    samples[4000 : 4000 + len(values)] = values
    return _pcm(samples.tobytes(), encoding=pb.AUDIO_ENCODING_PCM_F32LE)


def _then(*messages: Message) -> Callable[[], list[Message]]:
    """After a valid config and half a second of audio, which completes the first chunk."""
    return lambda: [config(), audio(speech(8000)), *messages]


def _hands(*poses: pb.HandPose) -> Request:
    return Request(hand_poses=pb.HandPoses(poses=poses))


def _pose(frame: int = 20, num_points: int = 21, **changes: Any) -> pb.HandPose:
    points = [pb.Keypoint(x=0.5, y=0.5) for _ in range(num_points)]
    if changes:
        points[3] = pb.Keypoint(**{"x": 0.5, "y": 0.5, **changes})
    return pb.HandPose(frame_index=frame, left=pb.Hand(keypoints=points))


def _control(name: str = "jawOpen", value: float = 0.5, **changes: Any) -> Request:
    weight = changes.pop("weight", None)
    control = pb.FacialControl(name=name, value=value, weight=weight)
    return Request(facial_controls=pb.FacialControls(controls=[control], **changes))


def _real_time() -> Request:
    return config(pacing=pb.PACING_REAL_TIME)


_INTERRUPT = Request(interrupt=pb.Interrupt())


def _file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _noise(mode: str = "RGB", size: tuple[int, int] = (96, 96)) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 4), np.uint8)
    match mode:
        case "RGB":
            return Image.fromarray(pixels[..., :3])
        case "RGBA":
            return Image.fromarray(pixels)
        case "CMYK":
            return Image.fromarray(pixels[..., :3]).convert("CMYK")
        case "I;16":
            return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    raise AssertionError(mode)


def _rotated_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _file(_noise(size=(96, 128)), "JPEG", exif=exif)


def _bomb() -> bytes:
    """30,000 x 30,000 pixels in a small file."""

    def part(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    side = (30_000).to_bytes(4, "big")
    header = part(b"IHDR", side + side + bytes([1, 0, 0, 0, 0]))
    rows = zlib.compress(bytes(30_000 * 3_751), 1)
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", rows) + part(b"IEND", b"")


@cache
def _person() -> Image.Image:
    return Image.open(_FACE).convert("RGB")


def _two_people() -> bytes:
    one = _person()
    both = Image.new("RGB", (2 * one.width, one.height))
    both.paste(one, (0, 0))
    both.paste(one, (one.width, 0))
    return _file(both)


def _animated() -> bytes:
    return _file(_noise(), save_all=True, append_images=[_noise("CMYK").convert("RGB")])


_REGISTER = pb.RegisterPortraitRequest

ORDER = [
    BadInput("nothing", lambda: [], "FAILED_PRECONDITION", "CONFIG_MISSING", "config"),
    BadInput("audio first", lambda: [audio(b"\0\0")], "FAILED_PRECONDITION", "CONFIG_NOT_FIRST", "config"),
    BadInput("an empty first message", lambda: [Request()], "FAILED_PRECONDITION", "CONFIG_NOT_FIRST", "config"),
    BadInput("config twice", lambda: [config(), config()], "FAILED_PRECONDITION", "CONFIG_REPEATED", "config"),
    BadInput("config again after audio", _then(config()), "FAILED_PRECONDITION", "CONFIG_REPEATED", "config"),
    BadInput("an empty message in mid-stream", _then(Request()), "INVALID_ARGUMENT", "MESSAGE_EMPTY"),
    BadInput("bytes that are no message, first", lambda: [b"\xff\xff\xff"], "INVALID_ARGUMENT", "MESSAGE_MALFORMED"),
    BadInput("bytes that are no message, in mid-stream", _then(b"\x12\xff"), "INVALID_ARGUMENT", "MESSAGE_MALFORMED"),
    BadInput("a message of a kind that is not in this version", _then(b"\xa2\x06\x00"), "UNIMPLEMENTED", "FIELD_NOT_SERVED", "100"),
    BadInput("a config field that is not in this version", lambda: [config().SerializeToString() + b"\x0a\x03\xa0\x06\x01"], "UNIMPLEMENTED", "FIELD_NOT_SERVED", "config.100"),
    BadInput("end of utterance without audio, twice", lambda: [config(), END_OF_UTTERANCE, END_OF_UTTERANCE], "OK"),
    BadInput("half-close straight after config", lambda: [config()], "OK"),
    BadInput("a takeover of a session that is not here, or with another token", lambda: [_takeover()], "NOT_FOUND", "TAKEOVER_UNKNOWN", "config.takeover"),
    BadInput("a takeover with another config", lambda: [_takeover(seed=1)], "INVALID_ARGUMENT", "FIELD_CONFLICT", "config.seed"),
]  # fmt: skip

PORTRAIT = [
    BadInput("no portrait", _config(portrait=None), "INVALID_ARGUMENT", "FIELD_MISSING", "config.portrait"),
    BadInput("a portrait without a source", _config(portrait=pb.PortraitSource()), "INVALID_ARGUMENT", "FIELD_MISSING", "config.portrait"),
    BadInput("an unknown portrait id", _config(portrait=pb.PortraitSource(portrait_id="0" * 64)), "NOT_FOUND", "PORTRAIT_UNKNOWN", "config.portrait.portrait_id"),
    BadInput("an empty portrait id", _config(portrait=pb.PortraitSource(portrait_id="")), "NOT_FOUND", "PORTRAIT_UNKNOWN", "config.portrait.portrait_id"),
    BadInput("a crop mode together with a portrait id", _config(portrait=pb.PortraitSource(portrait_id="0" * 64, crop_mode=pb.CROP_MODE_PAD)), "INVALID_ARGUMENT", "FIELD_CONFLICT", "config.portrait.crop_mode"),
    BadInput("crop mode 99", _portrait(portrait_png, 99), "INVALID_ARGUMENT", "FIELD_UNKNOWN_VALUE", "config.portrait.crop_mode"),
    BadInput("a picture of 0 bytes", _portrait(lambda: b""), "INVALID_ARGUMENT", "PORTRAIT_EMPTY", "config.portrait.image"),
    BadInput("a text file", _portrait(lambda: b"hello" * 20), "INVALID_ARGUMENT", "PORTRAIT_FORMAT_UNKNOWN", "config.portrait.image"),
    BadInput("a GIF", _portrait(lambda: _file(_noise(), "GIF")), "INVALID_ARGUMENT", "PORTRAIT_FORMAT_UNKNOWN", "config.portrait.image"),
    BadInput("an animated PNG", _portrait(_animated), "INVALID_ARGUMENT", "PORTRAIT_ANIMATED", "config.portrait.image"),
    BadInput("half of a PNG", _portrait(lambda: _file(_noise())[:9000]), "INVALID_ARGUMENT", "PORTRAIT_CORRUPT", "config.portrait.image"),
    BadInput("half of a JPEG", _portrait(lambda: _file(_noise(), "JPEG")[:2000]), "INVALID_ARGUMENT", "PORTRAIT_CORRUPT", "config.portrait.image"),
    BadInput("a picture of 16 x 16 pixels", _portrait(lambda: _file(_noise(size=(16, 16)))), "INVALID_ARGUMENT", "PORTRAIT_TOO_SMALL", "config.portrait.image"),
    BadInput("a picture file of 11 MB", _portrait(lambda: _file(_noise()) + bytes(11_000_000)), "INVALID_ARGUMENT", "PORTRAIT_TOO_LARGE", "config.portrait.image"),
    BadInput("900 million pixels in a small file", _portrait(_bomb), "INVALID_ARGUMENT", "PORTRAIT_TOO_MANY_PIXELS", "config.portrait.image"),
    BadInput("a picture without a face", _portrait(lambda: _file(_noise()), pb.CROP_MODE_FACE), "INVALID_ARGUMENT", "PORTRAIT_NO_FACE", "config.portrait.image"),
    BadInput("two people", _portrait(_two_people, pb.CROP_MODE_UPPER_BODY), "INVALID_ARGUMENT", "PORTRAIT_MANY_FACES", "config.portrait.image"),
    BadInput("a CMYK JPEG", _portrait(lambda: _file(_noise("CMYK"), "JPEG")), "OK"),
    BadInput("a picture with transparency", _portrait(lambda: _file(_noise("RGBA"))), "OK"),
    BadInput("a 16-bit grey PNG", _portrait(lambda: _file(_noise("I;16"))), "OK"),
    BadInput("a JPEG that EXIF says is rotated", _portrait(_rotated_jpeg), "OK"),
    BadInput("registering nothing", _REGISTER, "INVALID_ARGUMENT", "PORTRAIT_EMPTY", "image"),
    BadInput("registering with crop mode 99", lambda: _REGISTER(image=portrait_png(), crop_mode=99), "INVALID_ARGUMENT", "FIELD_UNKNOWN_VALUE", "crop_mode"),
    BadInput("registering for another preset", lambda: _REGISTER(image=portrait_png(), preset="other"), "INVALID_ARGUMENT", "FIELD_UNKNOWN_VALUE", "preset"),
    BadInput("registering with a consent token", lambda: _REGISTER(image=portrait_png(), consent_token="x"), "UNIMPLEMENTED", "FIELD_NOT_SERVED", "consent_token"),
]  # fmt: skip

CONFIG = [
    BadInput("no audio format", _config(audio_format=None), "INVALID_ARGUMENT", "FIELD_MISSING", "config.audio_format"),
    BadInput("audio encoding unset", _audio_format(encoding=0), "INVALID_ARGUMENT", "AUDIO_ENCODING_UNSUPPORTED", "config.audio_format.encoding"),
    BadInput("audio encoding 99", _audio_format(encoding=99), "INVALID_ARGUMENT", "AUDIO_ENCODING_UNSUPPORTED", "config.audio_format.encoding"),
    BadInput("sample rate 0", _audio_format(sample_rate_hz=0), "INVALID_ARGUMENT", "AUDIO_RATE_UNSUPPORTED", "config.audio_format.sample_rate_hz"),
    BadInput("sample rate 96000", _audio_format(sample_rate_hz=96_000), "INVALID_ARGUMENT", "AUDIO_RATE_UNSUPPORTED", "config.audio_format.sample_rate_hz"),
    BadInput("six channels", _audio_format(num_channels=6), "INVALID_ARGUMENT", "AUDIO_CHANNELS_UNSUPPORTED", "config.audio_format.num_channels"),
    BadInput("frame encoding 99", _output(encoding=99), "INVALID_ARGUMENT", "FIELD_UNKNOWN_VALUE", "config.output.encoding"),
    BadInput("JPEG quality 101", _output(jpeg_quality=101), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "config.output.jpeg_quality"),
    BadInput("JPEG quality with H.264", _output(encoding=pb.FRAME_ENCODING_H264, jpeg_quality=80), "INVALID_ARGUMENT", "FIELD_CONFLICT", "config.output.jpeg_quality"),
    BadInput("H.264 bitrate with JPEG", _output(h264_bitrate_bps=1_000_000), "INVALID_ARGUMENT", "FIELD_CONFLICT", "config.output.h264_bitrate_bps"),
    BadInput("H.264 bitrate 1", _output(encoding=pb.FRAME_ENCODING_H264, h264_bitrate_bps=1), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "config.output.h264_bitrate_bps"),
    BadInput("H.264 key frames every 241 frames", _output(encoding=pb.FRAME_ENCODING_H264, h264_key_frame_interval_frames=241), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "config.output.h264_key_frame_interval_frames"),
    BadInput("pacing 99", _config(pacing=99), "INVALID_ARGUMENT", "FIELD_UNKNOWN_VALUE", "config.pacing"),
    BadInput("expression 2.5", _config(expression=2.5), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "config.expression"),
    BadInput("expression NaN", _config(expression=NAN), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "config.expression"),
    BadInput("expression infinite", _config(expression=INFINITY), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "config.expression"),
    BadInput("another preset", _config(preset="ltx-99b"), "INVALID_ARGUMENT", "FIELD_UNKNOWN_VALUE", "config.preset"),
    BadInput("a client reference of 129 characters", _config(client_reference="x" * 129), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "config.client_reference"),
    BadInput("a client reference with a line break", _config(client_reference="a\nb"), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "config.client_reference"),
]  # fmt: skip

AUDIO = [
    BadInput("an empty audio message", _pcm(b""), "OK"),
    BadInput("audio cut within samples", lambda: [config(), audio(b"\1"), audio(b"\0\1"), audio(b"\0")], "OK"),
    BadInput("audio that ends within a sample", _pcm(bytes(32_001)), "INVALID_ARGUMENT", "AUDIO_TRUNCATED_SAMPLE", "audio.data"),
    BadInput("stereo audio that ends after the left channel", _pcm(bytes(4002), num_channels=2), "INVALID_ARGUMENT", "AUDIO_TRUNCATED_SAMPLE", "audio.data"),
    BadInput("an utterance that ends within a sample", lambda: [config(), audio(b"\0\0\0"), END_OF_UTTERANCE, audio(b"\0")], "INVALID_ARGUMENT", "AUDIO_TRUNCATED_SAMPLE", "audio.data"),
    BadInput("NaN in float audio", _f32(NAN), "INVALID_ARGUMENT", "AUDIO_NOT_FINITE", "audio.data"),
    BadInput("infinity in float audio", _f32(-INFINITY), "INVALID_ARGUMENT", "AUDIO_NOT_FINITE", "audio.data"),
    BadInput("16-bit integers as float audio", _f32(12_000.0), "INVALID_ARGUMENT", "AUDIO_OUT_OF_SCALE", "audio.data"),
    BadInput("float audio a little too loud, which is clipped", _f32(1.5, -1.5), "OK"),
    BadInput("a message of 17 MB", lambda: [config(), audio(bytes(17 << 20))], "RESOURCE_EXHAUSTED"),
    BadInput("audio longer than a session may be", _pcm(bytes(2 * 16_001)), "OUT_OF_RANGE", "SESSION_TOO_LONG", "audio", {"max_session_s": 1.0}),
]  # fmt: skip

CONDITIONS = [
    BadInput("a hand pose without a time", _then(_hands(pb.HandPose(left=_pose().left))), "INVALID_ARGUMENT", "FIELD_MISSING", "hand_poses.poses[0].time"),
    BadInput("a hand of 20 keypoints", _then(_hands(_pose(), _pose(num_points=20))), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "hand_poses.poses[1].left.keypoints"),
    BadInput("a keypoint far outside of the frame", _then(_hands(_pose(x=7.5))), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "hand_poses.poses[0].left.keypoints[3].x"),
    BadInput("a keypoint in pixels", _then(_hands(_pose(y=240.0))), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "hand_poses.poses[0].left.keypoints[3].y"),
    BadInput("a keypoint NaN", _then(_hands(_pose(x=NAN))), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "hand_poses.poses[0].left.keypoints[3].x"),
    BadInput("visibility 2", _then(_hands(_pose(visibility=2.0))), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "hand_poses.poses[0].left.keypoints[3].visibility"),
    BadInput("a hand pose for a frame gone by", _then(_hands(_pose(frame=3))), "OUT_OF_RANGE", "TIME_IN_PAST", "hand_poses.poses[0].frame_index"),
    BadInput("a hand pose for a sample gone by", _then(_hands(pb.HandPose(sample_index=0))), "OUT_OF_RANGE", "TIME_IN_PAST", "hand_poses.poses[0].sample_index"),
    BadInput("a hand pose for next week", _then(_hands(_pose(frame=14_515_200))), "OUT_OF_RANGE", "TIME_TOO_FAR_AHEAD", "hand_poses.poses[0].frame_index"),
    BadInput("more hand poses than may wait", _then(_hands(*(pb.HandPose(sample_index=9000 + i) for i in range(MAX_POSES + 1)))), "OUT_OF_RANGE", "TOO_MANY_POSES", f"hand_poses.poses[{MAX_POSES}]"),
    BadInput("no hand poses", _then(_hands()), "OK"),
    BadInput("a facial control of an unknown name", _then(_control("mouthFunny")), "INVALID_ARGUMENT", "FIELD_UNKNOWN_VALUE", "facial_controls.controls[0].name"),
    BadInput("a facial control out of its range", _then(_control("headYaw", 90)), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "facial_controls.controls[0].value"),
    BadInput("a facial control NaN", _then(_control(value=NAN)), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "facial_controls.controls[0].value"),
    BadInput("a weight below 0", _then(_control(weight=-0.5)), "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "facial_controls.controls[0].weight"),
    BadInput("a facial control from a frame gone by", _then(_control(first_frame_index=7)), "OUT_OF_RANGE", "TIME_IN_PAST", "facial_controls.first_frame_index"),
    BadInput("a facial control from next week on", _then(_control(first_frame_index=14_515_200)), "OUT_OF_RANGE", "TIME_TOO_FAR_AHEAD", "facial_controls.first_frame_index"),
]  # fmt: skip

LIVE = [
    BadInput("real-time pacing", lambda: [_real_time()], "OK"),
    BadInput("more audio than may be ahead, in real time (130 s)", lambda: [_real_time(), *[audio(bytes(320_000))] * 13], "OUT_OF_RANGE", "AUDIO_TOO_FAR_AHEAD", "audio"),
    BadInput("an acknowledgement of a frame that was not sent", lambda: [config(max_unacked_frames=8), Request(ack=pb.FrameAck(last_frame_index=3))], "OUT_OF_RANGE", "ACK_OF_UNSENT_FRAME", "ack.last_frame_index"),
    BadInput("an interrupt of nothing", lambda: [config(), _INTERRUPT, _INTERRUPT], "OK"),
    BadInput("an interrupt after a sample of next week", lambda: [config(), Request(interrupt=pb.Interrupt(after_sample_index=1 << 40))], "OK"),
    BadInput("a pause without its end, then half-close", _then(Request(pause=pb.Pause())), "OK"),
    BadInput("a resume without a pause", _then(Request(resume=pb.Resume())), "OK"),
    BadInput("another portrait, without a source", _then(Request(change_portrait=pb.ChangePortrait())), "INVALID_ARGUMENT", "FIELD_MISSING", "change_portrait.portrait"),
    BadInput("another portrait of an unknown id", _then(Request(change_portrait=pb.ChangePortrait(portrait=pb.PortraitSource(portrait_id="0" * 64)))), "NOT_FOUND", "PORTRAIT_UNKNOWN", "change_portrait.portrait.portrait_id"),
    BadInput("another portrait, a text file", _then(Request(change_portrait=pb.ChangePortrait(portrait=pb.PortraitSource(image=b"hello" * 20)))), "INVALID_ARGUMENT", "PORTRAIT_FORMAT_UNKNOWN", "change_portrait.portrait.image"),
]  # fmt: skip

NOT_SERVED = [
    BadInput("a consent token", _config(consent_token="x"), "UNIMPLEMENTED", "FIELD_NOT_SERVED", "config.consent_token"),
    BadInput("guidance, with a model that has none", _config(guidance=2.0), "UNIMPLEMENTED", "FIELD_NOT_SERVED", "config.guidance"),
]  # fmt: skip

SECTIONS = {
    "Order and form of messages": ORDER,
    "Portraits": PORTRAIT,
    "Config": CONFIG,
    "Audio": AUDIO,
    "Hand poses and facial controls": CONDITIONS,
    "Live": LIVE,
    "In the contract, but not served yet": NOT_SERVED,
}
CASES = [case for cases in SECTIONS.values() for case in cases]
