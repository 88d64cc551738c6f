"""Animates a portrait with a speech file, frame by frame, into numbered JPEG files.

python examples/client.py examples/portrait_1.png examples/speech.wav [HOST:PORT]
"""

import asyncio
import sys
from pathlib import Path

from mirrorme_client import AnimationClient, jpeg
from mirrorme_client.audio_file import AudioFile


async def main(portrait: Path, speech: Path, target: str = "localhost:50051") -> None:
    """Frames arrive while the speech is still being sent."""
    async with AnimationClient(target) as client:
        with AudioFile(speech) as audio:
            session = client.animate(
                portrait, audio=audio, audio_format=audio.format, output=jpeg(quality=90)
            )
            async with session:
                async for batch in session:
                    for index, frame in enumerate(batch.frames, batch.first_frame_index):
                        save(index, frame.data)


def save(index: int, picture: bytes) -> None:
    """Writes one frame."""
    Path(f"{index:05}.jpg").write_bytes(picture)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
