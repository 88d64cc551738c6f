"""Who is in the picture: everything of a procedural portrait that does not move.

World units: the head of a rest pose is about 2 high (crown -1, chin +1), x to the right, y down,
z towards the viewer. Lengths are in world units, colours `[B, 3]` in 0 to 1, all other fields
`[B]` unless a shape is given. "Left" is the person's left, which is the picture's right.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mirrorme_training.batched import Batched


@dataclass(frozen=True)
class Framing(Batched):
    """The part of the world that the square picture shows."""

    view_height: Tensor
    center_x: Tensor
    center_y: Tensor


@dataclass(frozen=True)
class Light(Batched):
    """One soft key light and the ambient light."""

    x: Tensor
    """-1 (from the left) to 1."""
    y: Tensor
    """-1 (from above) to 1."""
    contrast: Tensor
    """0 (flat) to 1."""
    tint: Tensor
    """Colour of the key light, around 1."""
    shadow: Tensor
    """Colour that shadows multiply with."""


@dataclass(frozen=True)
class Face(Batched):
    """Head shape and skin."""

    width: Tensor
    """Half width at the cheekbones."""
    jaw_width: Tensor
    """Half width at the jaw's corners."""
    chin_y: Tensor
    chin_radius: Tensor
    skin: Tensor
    shadow: Tensor
    """Skin in shadow."""
    blush: Tensor
    """Colour of cheeks and nose tip."""
    blush_strength: Tensor
    freckles: Tensor
    """0 to 1."""
    lines: Tensor
    """0 to 1: folds from nose to mouth and under the eyes."""
    ear_size: Tensor
    neck_width: Tensor
    phase: Tensor
    """[B, 6]"""


@dataclass(frozen=True)
class Eyes(Batched):
    """Eyes and brows."""

    spacing: Tensor
    """From the middle of the face to an eye's middle."""
    y: Tensor
    width: Tensor
    """Half width."""
    opening: Tensor
    """Half height."""
    tilt: Tensor
    iris: Tensor
    iris_radius: Tensor
    lash: Tensor
    """0 to 1."""
    lid: Tensor
    brow: Tensor
    brow_y: Tensor
    """Above the eye, negative."""
    brow_length: Tensor
    brow_thickness: Tensor
    brow_arch: Tensor
    brow_tilt: Tensor


@dataclass(frozen=True)
class Nose(Batched):
    """Nose."""

    y: Tensor
    """Of the tip."""
    width: Tensor
    bridge: Tensor
    """Strength of the bridge's shading."""
    tip: Tensor


@dataclass(frozen=True)
class Mouth(Batched):
    """Mouth at rest."""

    y: Tensor
    width: Tensor
    """Half width."""
    upper: Tensor
    """Thickness of the upper lip."""
    lower: Tensor
    bow: Tensor
    """Depth of the cupid's bow."""
    corners: Tensor
    """How far the corners are raised."""
    lip: Tensor
    teeth: Tensor


@dataclass(frozen=True)
class Hair(Batched):
    """Hair of the head."""

    amount: Tensor
    """0 (bald) or 1."""
    color: Tensor
    shine: Tensor
    top: Tensor
    """Thickness above the skull."""
    side: Tensor
    """Thickness beside the skull."""
    line_y: Tensor
    """Hairline at the forehead."""
    temple_x: Tensor
    """Half width of the face that hair leaves free."""
    part_x: Tensor
    fringe: Tensor
    """How far the fringe hangs below the hairline."""
    fringe_slant: Tensor
    """-1 to 1: which side hangs lower."""
    side_y: Tensor
    """How far down hair covers the head's sides."""
    lock_y: Tensor
    """End of the locks in front of the shoulders; above `side_y`: no locks."""
    back_y: Tensor
    """End of the hair behind the neck."""
    back_width: Tensor
    curl: Tensor
    """Height of the waves of the outline."""
    curl_frequency: Tensor
    bun: Tensor
    """Radius; 0: none."""
    bun_x: Tensor
    bun_y: Tensor
    strands: Tensor
    """Strength of the strands' contrast."""
    phase: Tensor
    """[B, 6]"""


@dataclass(frozen=True)
class Beard(Batched):
    """Facial hair; every part 0 to 1."""

    color: Tensor
    full: Tensor
    goatee: Tensor
    moustache: Tensor
    stubble: Tensor


@dataclass(frozen=True)
class Glasses(Batched):
    """Glasses and earrings."""

    amount: Tensor
    """0 or 1."""
    color: Tensor
    radius_x: Tensor
    radius_y: Tensor
    corner: Tensor
    """0 (square) to 1 (round)."""
    thickness: Tensor
    tint: Tensor
    """Darkness of the lenses."""
    earring: Tensor
    """Radius; 0: none."""
    earring_color: Tensor


@dataclass(frozen=True)
class Clothes(Batched):
    """Body and what it wears. Styles are weights of 0 or 1."""

    main: Tensor
    second: Tensor
    shirt: Tensor
    """Colour below an open collar or jacket."""
    shoulder_width: Tensor
    shoulder_y: Tensor
    torso_width: Tensor
    neck_y: Tensor
    """Lowest point of the neckline."""
    neck_half_width: Tensor
    v_neck: Tensor
    collar: Tensor
    jacket: Tensor
    hood: Tensor
    turtleneck: Tensor
    tie: Tensor
    stripes: Tensor
    dots: Tensor
    pattern_frequency: Tensor
    sleeve: Tensor
    """0 (short) to 1 (to the wrist)."""
    phase: Tensor
    """[B, 6]"""


@dataclass(frozen=True)
class Backdrop(Batched):
    """What is behind the person. Styles are weights of 0 or 1."""

    far: Tensor
    near: Tensor
    accent: Tensor
    glow_x: Tensor
    glow_y: Tensor
    window: Tensor
    shelf: Tensor
    bokeh: Tensor
    arcs: Tensor
    plant: Tensor
    plant_x: Tensor
    texture: Tensor
    phase: Tensor
    """[B, 6]"""


@dataclass(frozen=True)
class Identity(Batched):
    """A batch of people, each in their place and light."""

    framing: Framing
    light: Light
    face: Face
    eyes: Eyes
    nose: Nose
    mouth: Mouth
    hair: Hair
    beard: Beard
    glasses: Glasses
    clothes: Clothes
    backdrop: Backdrop
