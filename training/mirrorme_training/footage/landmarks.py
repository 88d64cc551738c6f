"""What a detector finds in a picture, whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""`[H, W, 3]`, R first."""
Floats = NDArray[np.float32]

NUM_FACE_POINTS = 478
"""MediaPipe's face mesh with irises."""
BLENDSHAPE_NAMES = (
    "_neutral",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeLookDownLeft",
    "eyeLookDownRight",
    "eyeLookInLeft",
    "eyeLookInRight",
    "eyeLookOutLeft",
    "eyeLookOutRight",
    "eyeLookUpLeft",
    "eyeLookUpRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "noseSneerLeft",
    "noseSneerRight",
)
"""The order in which MediaPipe's Face Landmarker gives them."""


@dataclass(frozen=True)
class FaceBox:
    """Forehead to chin, in 0 to 1 of the picture; partly outside where the face is cut."""

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def width(self) -> float:
        """In 0 to 1 of the picture's width."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """In 0 to 1 of the picture's height."""
        return self.bottom - self.top


@dataclass(frozen=True)
class FrameLandmarks:
    """One person in one square picture; NaN where nothing was found."""

    face: Floats
    """[478, 3] in 0 to 1 of the picture; z is of x's scale, smaller nearer."""
    hands: Floats
    """[2, 21, 2] the person's own left and right hand, in 0 to 1 of the picture"""
    blendshapes: Floats
    """[52] in the order of `BLENDSHAPE_NAMES`"""

    @property
    def found_face(self) -> bool:
        """There is a face."""
        return bool(np.isfinite(self.face[0, 0]))


class Landmarker(Protocol):
    """Finds faces and hands. Frames of a stream come in their order; `restart` begins another."""

    def restart(self) -> None:
        """Forgets the frames before."""
        ...

    def faces(self, picture: Pixels) -> list[FaceBox]:
        """All faces, without memory of other pictures."""
        ...

    def landmarks(self, picture: Pixels) -> FrameLandmarks:
        """Of the stream's next frame."""
        ...
