"""What a gateway's memory does while streams follow one another.

    python benchmarks/memory.py --engines engines/repository/demo [--minutes 10]

Writes results/memory.json.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from gateway_process import Gateway, running_gateway
from mirrorme.animate.v1 import animation_pb2 as pb
from stream import register_twice, report, stream

STREAM_S = 30.0


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to stream")
    arguments = parser.parse_args()
    report("memory", asyncio.run(measure(arguments.engines, arguments.minutes)))


async def measure(engines: Path, minutes: float) -> dict[str, dict[str, Any]]:
    """All figures, by group."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_gateway(engines, Path(folder) / "gateway.log") as gateway:
            portrait = (await register_twice(gateway))["info"]
            return {"memory": await measure_memory(gateway, portrait, minutes)}


async def measure_memory(
    gateway: Gateway, portrait: pb.PortraitInfo, minutes: float
) -> dict[str, Any]:
    """Resident memory while streams follow one another."""
    samples_mib: list[float] = []
    end_s = time.perf_counter() + 60 * minutes
    while time.perf_counter() < end_s:
        await stream(gateway, portrait, STREAM_S)
        samples_mib.append(gateway.rss_mib)
    half = len(samples_mib) // 2
    return {
        "minutes": minutes,
        "streams": len(samples_mib),
        "rss_mib_first": round(samples_mib[0], 1),
        "rss_mib_max": round(max(samples_mib), 1),
        "rss_mib_last": round(samples_mib[-1], 1),
        "second_half_growth": round(samples_mib[-1] / samples_mib[half] - 1, 4),
    }


if __name__ == "__main__":
    main()
