"""How a clip is painted: which part of the picture, and how much of what speech does not move."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from mirrorme_model.vae_config import SPATIAL_FACTOR

from mirrorme_training.portrait_canvas import Canvas
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_pose import (
    BREATH,
    CONTROLS,
    GAZE_CONTROLS,
    HEAD_CONTROLS,
    SPEECH_CONTROLS,
    Pose,
    with_controls,
)
from mirrorme_training.recipe import BankConfig

_SMILES = ("mouthSmileLeft", "mouthSmileRight")
_STILL_MOVES = 0.12
_MOVING_TOGETHER = (
    HEAD_CONTROLS,
    GAZE_CONTROLS,
    ("eyeBlinkLeft", "eyeBlinkRight"),
    _SMILES,
    (BREATH,),
)
"""In a still clip each of them moves by a small chance all the same."""


@dataclass(frozen=True)
class PaintManner:
    """What is painted of a clip."""

    size_px: int
    """Of the whole picture."""
    crop_px: int | None = None
    """As in `PaintConfig`."""
    liveliness: float = 1.0
    """As in `PaintConfig`, of all but `moving`."""
    moving: frozenset[str] = frozenset()
    """Controls that move in full whatever the liveliness."""
    sway: float = 1.0
    """As in `BankConfig`."""

    def calmed(self, pose: Pose) -> Pose:
        """The pose with less movement than speech makes. A smile stays, but does not change."""
        names = [
            name for name in CONTROLS if name not in SPEECH_CONTROLS and name not in self.moving
        ]
        less = {name: self.liveliness * pose.control(name) for name in names}
        for name in _SMILES:
            if name in less:
                less[name] = less[name] + (1 - self.liveliness) * pose.control(name).mean()
        return dataclasses.replace(
            with_controls(pose, **less),
            shoulders=self.sway * pose.shoulders,
            sway=self.sway * pose.sway,
        )

    def cropped(self, who: Identity) -> tuple[Identity, int]:
        """The person as seen through the part that is painted, and its side in pixels."""
        if self.crop_px is None:
            return who, self.size_px
        framing = who.framing
        canvas = Canvas(framing, 1, self.size_px)
        mouth = torch.stack([torch.zeros_like(framing.center_x), who.mouth.y.flatten()], dim=-1)
        corner = (canvas.to_pixels(mouth) - self.crop_px / 2)[0] / SPATIAL_FACTOR
        most = (self.size_px - self.crop_px) // SPATIAL_FACTOR
        corner = corner.round().clamp(0, most) * SPATIAL_FACTOR
        share = self.crop_px / self.size_px
        pixel = framing.view_height / self.size_px
        view = framing.view_height * share
        shift = (corner + self.crop_px / 2 - self.size_px / 2) * pixel
        closer = dataclasses.replace(
            framing,
            view_height=view,
            center_x=framing.center_x + shift[0],
            center_y=framing.center_y + shift[1],
        )
        return dataclasses.replace(who, framing=closer), self.crop_px


def draw_manner(
    number: int, bank: BankConfig, size_px: int, seed: int, *, speaks: bool
) -> PaintManner:
    """Of a clip that is painted on demand."""
    random = np.random.default_rng([seed, number, 3])
    manner = PaintManner(size_px, sway=bank.sway)
    if bank.whole_px is not None:
        manner = dataclasses.replace(manner, size_px=bank.whole_px, crop_px=size_px)
    if random.random() >= bank.still or not speaks:
        return manner
    moving = [names for names in _MOVING_TOGETHER if random.random() < _STILL_MOVES]
    together = frozenset(name for names in moving for name in names)
    return dataclasses.replace(manner, liveliness=0.0, moving=together)
