"""Whether the gateway can animate now, as health checks hear it.

It follows inference, not the process being up: chunks made for sessions count, and a gateway
without any makes one of silence for itself from time to time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import numpy as np

from mirrorme_service.errors import AnimationError
from mirrorme_service.model import Conditions, Model, Strengths

log = logging.getLogger(__name__)


class Readiness:
    """Watches the engines from `start` to `stop`.

    Args:
        check: makes a chunk, or raises an AnimationError.
        last_success_s: when a chunk was last made, by `clock`.
        tell: called with the first answer and with each change.
        period_s: without a chunk for so long, one is made.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        check: Callable[[], Awaitable[None]],
        last_success_s: Callable[[], float],
        tell: Callable[[bool], Awaitable[None]],
        *,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check
        self._last_success_s = last_success_s
        self._tell = tell
        self._period_s = period_s
        self._clock = clock
        self._is_ready = False

    async def start(self) -> None:
        """Tells that the engines are ready, as they were warmed up just now; looks from now on."""
        await self._set(True)
        self._looking = asyncio.create_task(self._keep_looking(), name="readiness")

    async def stop(self) -> None:
        """Looks no more."""
        self._looking.cancel()
        await asyncio.wait([self._looking])

    async def look(self) -> None:
        """Looks whether chunks are made; makes one if none was lately."""
        if self._clock() - self._last_success_s() < self._period_s:
            await self._set(True)
            return
        try:
            await self._check()
        except AnimationError as error:
            log.error("not ready: a chunk of silence cannot be made: %s", error)
            await self._set(False)
        else:
            await self._set(True)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            await self.look()

    async def _set(self, is_ready: bool) -> None:
        if is_ready != self._is_ready:
            self._is_ready = is_ready
            await self._tell(is_ready)


async def animate_silence(model: Model) -> None:
    """Makes one chunk, of silence and a grey portrait, through every engine that a chunk needs.

    Raises:
        AnimationError: it cannot be made.
    """
    chunk, window = model.manifest.chunk, model.clock.window(0)
    still = np.zeros(model.latent_shape, np.float32)
    pcm = np.zeros(window.stop_sample - window.start_sample, np.float32)
    num_frames, num_controls = model.clock.chunk_frames, len(model.manifest.controls)
    no_controls = np.zeros((num_frames, num_controls), np.float32)
    num_decoded = chunk.decoder_context_latents + chunk.decoder_lookahead_latents
    latents = await model.denoise(
        noise=np.zeros((chunk.num_latents, *still.shape), np.float32),
        identity=still,
        motion=np.zeros((chunk.motion_latents, *still.shape), np.float32),
        audio_tokens=await model.encode_audio(pcm, window),
        conditions=Conditions(
            np.zeros((num_frames, 2, 21, 3), np.float32), no_controls, no_controls
        ),
        strengths=Strengths(expression=1.0, guidance=1.0),
    )
    padding = np.zeros((num_decoded, *still.shape), np.float32)
    await model.decode(np.concatenate([padding, latents]))
