"""The format of the frames that a session delivers: checked, defaults filled in."""

from __future__ import annotations

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_service import request_validation as check

DEFAULT_JPEG_QUALITY = 90
DEFAULT_KEY_FRAME_INTERVAL_FRAMES = 48
MAX_KEY_FRAME_INTERVAL_FRAMES = 240
MIN_BITRATE_BPS = 50_000
MAX_BITRATE_BPS = 50_000_000

# Option, the encoding that it belongs to, smallest and largest value, default.
_OPTIONS = (
    ("jpeg_quality", pb.FRAME_ENCODING_JPEG, 1, 100, DEFAULT_JPEG_QUALITY),
    ("h264_bitrate_bps", pb.FRAME_ENCODING_H264, MIN_BITRATE_BPS, MAX_BITRATE_BPS, 0),
    (
        "h264_key_frame_interval_frames",
        pb.FRAME_ENCODING_H264,
        1,
        MAX_KEY_FRAME_INTERVAL_FRAMES,
        DEFAULT_KEY_FRAME_INTERVAL_FRAMES,
    ),
)


def effective_output(field: str, output: pb.OutputFormat) -> pb.OutputFormat:
    """The format in force. An option of another encoding is refused.

    Raises:
        InvalidRequest
    """
    encoding = check.check_enum(
        f"{field}.encoding", output.encoding, pb.FrameEncoding, pb.FRAME_ENCODING_JPEG
    )
    result = pb.OutputFormat(encoding=pb.FrameEncoding.Name(encoding))
    for option, owner, low, high, default in _OPTIONS:
        value = getattr(output, option)
        if not value:
            value = default if encoding == owner else 0
        elif encoding != owner:
            name = pb.FrameEncoding.Name(encoding)
            reason = f"is {value}, but the encoding is {name}: leave one of them out"
            raise check.conflict(f"{field}.{option}", reason)
        elif not low <= value <= high:
            raise check.out_of_range(f"{field}.{option}", value, f"{low} to {high}")
        setattr(result, option, value)
    return result
