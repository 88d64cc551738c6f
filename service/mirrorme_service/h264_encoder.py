"""One H.264 access unit a frame, by libx264.

Annex B; every key frame is an IDR frame with SPS and PPS before it, so a client may start at any of
them. No B-frames and no look-ahead: each frame comes out at once. One thread: the same frames give
the same bytes, and sessions share the CPU fairly.
"""

from __future__ import annotations

from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorTrc

from mirrorme_service.disclosure import mark_h264
from mirrorme_service.frame_encoder import EncodedFrame, Frames
from mirrorme_service.yuv_converter import YuvConverter

_CONSTANT_QUALITY_CRF = 20
# Seconds of the target bitrate that a burst (a key frame) may take at once.
_BUFFER_S = 0.5


class H264Encoder:
    """Constant quality, or a target bitrate.

    Args:
        width_px, height_px: even.
        frame_rate: frames a second.
        bitrate_bps: None: constant quality.
        key_frame_interval_frames: a key frame at least so often; exactly so often unless forced.
    """

    def __init__(
        self,
        width_px: int,
        height_px: int,
        frame_rate: Fraction,
        *,
        bitrate_bps: int | None,
        key_frame_interval_frames: int,
    ) -> None:
        x264 = {
            "keyint": key_frame_interval_frames,
            "min-keyint": 1,
            "scenecut": 0,
            "bframes": 0,
            "repeat-headers": 1,
            "annexb": 1,
            "chromaloc": 1,  # chroma is the mean of its four pixels
        }
        options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "forced-idr": "1",
            "x264-params": ":".join(f"{name}={value}" for name, value in x264.items()),
        }
        codec = av.CodecContext.create("libx264", "w")
        assert isinstance(codec, VideoCodecContext)
        codec.width, codec.height = width_px, height_px
        codec.pix_fmt = "yuv420p"
        codec.framerate = frame_rate
        codec.time_base = 1 / frame_rate
        codec.thread_count = 1
        codec.colorspace = 1  # BT.709, as an ISO 23001-8 matrix code
        codec.color_range = 1  # limited
        codec.color_primaries = ColorPrimaries.BT709
        codec.color_trc = ColorTrc.BT709
        if bitrate_bps is None:
            options["crf"] = str(_CONSTANT_QUALITY_CRF)
        else:
            codec.bit_rate = bitrate_bps
            options["maxrate"] = str(bitrate_bps)
            options["bufsize"] = str(round(bitrate_bps * _BUFFER_S))
        codec.options = options
        codec.open()
        self._codec: VideoCodecContext | None = codec
        self._converter = YuvConverter()
        self._num_encoded = 0

    def encode(self, frames: Frames, *, force_key_frame: bool = False) -> list[EncodedFrame]:
        """Encodes consecutive frames. The very first frame is a key frame anyway."""
        assert self._codec is not None, "closed"
        encoded = []
        for index, pixels in enumerate(frames):
            frame = self._converter.convert(pixels)
            frame.pts = self._num_encoded
            force = force_key_frame and index == 0
            frame.pict_type = PictureType.I if force else PictureType.NONE
            (packet,) = self._codec.encode(frame)
            data = bytes(packet)
            if packet.is_keyframe:
                data = mark_h264(data)
            encoded.append(EncodedFrame(data, is_key_frame=packet.is_keyframe))
            self._num_encoded += 1
        return encoded

    def close(self) -> None:
        """Frees the encoder's memory."""
        self._codec = None
