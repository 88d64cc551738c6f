"""Short forms for the formats of a session, and the media clock's arithmetic.

The results are plain messages of the contract; a caller may build those as well.
"""

from __future__ import annotations

from fractions import Fraction

from mirrorme.animate.v1 import animation_pb2 as pb


def pcm_s16le(sample_rate_hz: int, num_channels: int = 1) -> pb.AudioFormat:
    """Signed 16-bit PCM, little endian; 8000 to 48000 Hz, mono or interleaved stereo."""
    return pb.AudioFormat(
        encoding=pb.AUDIO_ENCODING_PCM_S16LE,
        sample_rate_hz=sample_rate_hz,
        num_channels=num_channels,
    )


def pcm_f32le(sample_rate_hz: int, num_channels: int = 1) -> pb.AudioFormat:
    """32-bit float PCM in [-1, 1], little endian; 8000 to 48000 Hz, mono or stereo."""
    return pb.AudioFormat(
        encoding=pb.AUDIO_ENCODING_PCM_F32LE,
        sample_rate_hz=sample_rate_hz,
        num_channels=num_channels,
    )


def jpeg(quality: int = 90) -> pb.OutputFormat:
    """One JPEG file a frame; quality 1 to 100."""
    return pb.OutputFormat(encoding=pb.FRAME_ENCODING_JPEG, jpeg_quality=quality)


def h264(bitrate_bps: int = 0, key_frame_interval_frames: int = 0) -> pb.OutputFormat:
    """One H.264 access unit a frame. 0 leaves the choice to the server."""
    return pb.OutputFormat(
        encoding=pb.FRAME_ENCODING_H264,
        h264_bitrate_bps=bitrate_bps,
        h264_key_frame_interval_frames=key_frame_interval_frames,
    )


def rgb24() -> pb.OutputFormat:
    """Raw pixels, height x width x 3 bytes."""
    return pb.OutputFormat(encoding=pb.FRAME_ENCODING_RGB24)


def i420() -> pb.OutputFormat:
    """Raw planes Y, U, V, chroma halved in both directions."""
    return pb.OutputFormat(encoding=pb.FRAME_ENCODING_I420)


def frame_rate_fps(timing: pb.AudioTiming) -> Fraction:
    """Frames a second, exactly."""
    return Fraction(timing.frame_rate_numerator, timing.frame_rate_denominator)


def bytes_per_sample(audio_format: pb.AudioFormat) -> int:
    """Of one sample of all channels."""
    width = 4 if audio_format.encoding == pb.AUDIO_ENCODING_PCM_F32LE else 2
    return width * max(1, audio_format.num_channels)
