"""Speaks from a microphone, live: raw PCM from standard input, H.264 to standard output.

arecord -f S16_LE -r 16000 -t raw | python examples/live.py me.png | ffplay -f h264 -
"""

import asyncio
import sys
from pathlib import Path

from mirrorme.animate.v1 import animation_pb2 as pb
from mirrorme_client import AnimationClient, h264, pcm_s16le
from mirrorme_client.pcm_input import PcmInput


async def main(portrait: Path, target: str = "localhost:50051") -> None:
    """The face is idle until there is speech, and ends with the microphone."""
    microphone = PcmInput(pcm_s16le(16000))
    async with AnimationClient(target) as client:
        session = client.animate(
            portrait,
            audio=microphone,
            audio_format=microphone.format,
            output=h264(),
            pacing=pb.PACING_REAL_TIME,
            on_event=tell,
        )
        async with session:
            async for batch in session:
                for frame in batch.frames:
                    sys.stdout.buffer.write(frame.data)
                sys.stdout.buffer.flush()


def tell(event: pb.SessionEvent) -> None:
    """Says what happens in the video."""
    sys.stderr.write(f"frame {event.frame_index}: {event.WhichOneof('event')}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
