"""The Python client of MirrorMe, and the `mirrorme` command line.

`AnimationClient` needs nothing but gRPC; reading audio files and writing video need the `client`
extra. Knows the contract alone: nothing of the service, engines or models.
"""

from mirrorme_client.client import AnimationClient
from mirrorme_client.credentials import Credentials
from mirrorme_client.errors import AnimationError
from mirrorme_client.formats import h264, i420, jpeg, pcm_f32le, pcm_s16le, rgb24
from mirrorme_client.session import AnimationSession

__all__ = [
    "AnimationClient",
    "AnimationError",
    "AnimationSession",
    "Credentials",
    "h264",
    "i420",
    "jpeg",
    "pcm_f32le",
    "pcm_s16le",
    "rgb24",
]
