"""The mouth: lips as curves over its width, with teeth and tongue between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorme_training.portrait_head import FaceField
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import bump, coverage, ellipse, smoothstep

OPENING = 0.225
"""Distance between the lips at `jawOpen` 1, world units."""


@dataclass(frozen=True)
class LipShape:
    """The lips of every frame in face coordinates, all `[B, 1, 1]`."""

    x: Tensor
    """Middle, off the face's when the jaw goes sideways."""
    y: Tensor
    """Where closed lips meet, in the middle."""
    left_width: Tensor
    """From the middle to the corner on the person's left."""
    right_width: Tensor
    rise: Tensor
    """Of the upper lip's inner edge above `y`."""
    fall: Tensor
    """Of the lower lip's inner edge below `y`."""
    upper: Tensor
    lower: Tensor
    """Thickness where neither side is pressed."""
    left_press: Tensor
    """How far that side is pressed together, 0 to 1."""
    right_press: Tensor
    roundness: Tensor
    left_corner: Tensor
    """Raised, positive up."""
    right_corner: Tensor


def lip_shape(scene: Scene) -> LipShape:
    """What the controls make of the mouth at rest."""
    mouth, c = scene.who.mouth, scene.control

    def both(name: str) -> Tensor:
        return _both(c, name)

    jaw, pucker, funnel = c("jawOpen"), c("mouthPucker"), c("mouthFunnel")
    roll = c("mouthRollLower")
    sneer = both("noseSneer")
    smile, stretch = both("mouthSmile"), both("mouthStretch")
    parted = _parted(c)
    rise, fall = parting(c)
    rounding = (pucker + 0.7 * funnel).clamp(0, 1)

    def width(side: str) -> Tensor:
        drawn_out = 0.16 * c("mouthSmile" + side) + 0.16 * c("mouthStretch" + side)
        drawn_in = 0.46 * pucker + 0.26 * funnel + 0.07 * jaw
        return mouth.width * (1 + drawn_out - drawn_in).clamp_min(0.42)

    thick = 1 + 0.28 * rounding - 0.12 * stretch - 0.12 * smile
    corner = mouth.corners + 0.01 * (1 - rounding)
    closed_drop = 0.4 * OPENING * jaw * (1 - parted)
    forward = c("jawForward")
    return LipShape(
        x=0.07 * (c("jawLeft") - c("jawRight")),
        y=mouth.y + 0.012 * jaw + closed_drop - 0.012 * sneer,
        left_width=width("Left"),
        right_width=width("Right"),
        rise=rise,
        fall=fall,
        upper=mouth.upper * thick * (1 - 0.2 * c("mouthUpperUp")),
        lower=mouth.lower * (1 + 0.35 * forward) * thick * (1 - 0.6 * roll),
        left_press=c("mouthPressLeft"),
        right_press=c("mouthPressRight"),
        roundness=rounding,
        left_corner=corner + 0.075 * c("mouthSmileLeft") - 0.06 * c("mouthFrownLeft"),
        right_corner=corner + 0.075 * c("mouthSmileRight") - 0.06 * c("mouthFrownRight"),
    )


def parting(control: Callable[[str], Tensor]) -> tuple[Tensor, Tensor]:
    """How far the upper lip's inner edge rises and the lower lip's falls, world units, of what
    `control` gives by name."""
    jaw, funnel = control("jawOpen"), control("mouthFunnel")
    parted = _parted(control)
    rise = OPENING * 0.14 * jaw + 0.042 * control("mouthUpperUp") + 0.012 * funnel
    rise = rise + 0.02 * _both(control, "noseSneer")
    fall = OPENING * 0.86 * jaw + 0.06 * control("mouthLowerDown") + 0.028 * funnel
    return rise * parted, fall * parted * (1 - 0.55 * control("mouthRollLower"))


def _parted(control: Callable[[str], Tensor]) -> Tensor:
    closed, pressed = control("mouthClose"), _both(control, "mouthPress")
    return (1 - closed).clamp(0, 1) * (1 - pressed).clamp(0, 1)


def _both(control: Callable[[str], Tensor], name: str) -> Tensor:
    return 0.5 * (control(name + "Left") + control(name + "Right"))


def lip_gap(scene: Scene, lips: LipShape) -> Tensor:
    """Ends of the opening in the middle of the mouth, upper and lower, `[B, 2, 2]` world."""
    ends = torch.cat([lips.y - lips.rise, lips.y + lips.fall], dim=1)[..., 0]
    return scene.head.project(scene.head.surface(lips.x[..., 0] + 0 * ends, ends))


def mouth_corners(scene: Scene, lips: LipShape) -> Tensor:
    """The person's left and right corner of the mouth, `[B, 2, 2]` world."""
    x = torch.cat([lips.x + lips.left_width, lips.x - lips.right_width], dim=1)[..., 0]
    y = torch.cat([lips.y - lips.left_corner, lips.y - lips.right_corner], dim=1)[..., 0]
    return scene.head.project(scene.head.surface(x, y))


def paint_mouth(scene: Scene) -> tuple[FaceField, Tensor, Tensor]:
    """Paints the mouth.

    Returns:
        The part of the face that holds it, the coverage of lips and opening, and of the opening
        alone, `[B, h, w]`.
    """
    lips = lip_shape(scene)
    spots = torch.cat([mouth_corners(scene, lips), lip_gap(scene, lips)], dim=1)
    field = scene.face.crop(scene.canvas.around(spots, 0.3).box)
    mouth, box, pixel = scene.who.mouth, field.grid.box, field.grid.pixel
    aside = field.x - lips.x
    t = aside / torch.where(aside > 0, lips.left_width, lips.right_width)
    press = torch.lerp(lips.right_press, lips.left_press, smoothstep(-0.6, 0.6, t))
    arch = (1 - t * t).clamp_min(0)
    corner = torch.where(t > 0, lips.left_corner, lips.right_corner)
    v = field.y - lips.y + corner * t * t
    bend = arch.clamp_min(1e-6) ** (1.0 - 0.48 * lips.roundness)
    inner_top, inner_end = -lips.rise * bend, lips.fall * bend**0.8
    swell = arch.clamp_min(1e-6) ** 0.62
    notch = (
        1
        - 0.28 * mouth.bow * bump(t, 0 * t, 0.13, 1.0)
        + 0.1 * mouth.bow * bump(t.abs() - 0.28, 0 * t, 0.2, 1.0)
    )
    outer_top = inner_top - lips.upper * (1 - 0.45 * press) * swell * notch
    outer_end = inner_end + lips.lower * (1 - 0.4 * press) * arch.clamp_min(1e-6) ** 0.72
    shown = (arch > 0).float()
    whole = coverage(outer_top - v, pixel) * coverage(v - outer_end, pixel) * shown
    gap = inner_end - inner_top
    opening = coverage(inner_top - v, pixel) * coverage(v - inner_end, pixel) * shown
    opening = opening * smoothstep(0.0, 0.35, gap / pixel)
    _paint_lips(scene, field, lips, t, v, (outer_top, inner_top, inner_end, outer_end), whole)
    _paint_inside(scene, field, lips, t, v, opening)
    seam_width = 0.008 + 0.3 * pixel
    seam = coverage((v - inner_end).abs() - seam_width, pixel) * smoothstep(1.06, 0.9, t.abs())
    seam = seam * smoothstep(0.05, 0.0, gap)
    scene.canvas.paint(box, mouth.lip * 0.45, 0.85 * seam)
    dots = bump(t.abs() - 1.0, v, 0.06, 0.018)
    scene.canvas.paint(box, scene.who.face.shadow * 0.7, 0.7 * dots)
    return field, whole, opening


def _paint_lips(
    scene: Scene,
    field: FaceField,
    lips: LipShape,
    t: Tensor,
    v: Tensor,
    edges: tuple[Tensor, Tensor, Tensor, Tensor],
    whole: Tensor,
) -> None:
    lip, box = scene.who.mouth.lip, field.grid.box
    outer_top, inner_top, inner_end, outer_end = edges
    up = ((v - outer_top) / (inner_top - outer_top + 1e-3)).clamp(0, 1)
    down = ((v - inner_end) / (outer_end - inner_end + 1e-3)).clamp(0, 1)
    is_upper = (v < 0.5 * (inner_top + inner_end)).float()
    tone_up = 0.86 - 0.12 * up
    tone_down = 1.06 - 0.22 * down**2 + 0.02 * (1 - down)
    tone = is_upper * tone_up + (1 - is_upper) * tone_down
    color = scene.lit(lip, smoothstep(-0.4, 0.8, field.light)) * tone[:, None]
    scene.canvas.paint(box, color, 0.93 * whole)
    shine = bump(t - 0.12 * scene.who.light.x.sign(), down - 0.32, 0.32, 0.2) * (1 - is_upper)
    bright = lip * 0.6 + 0.42
    scene.canvas.paint(box, bright, (0.4 * shine * whole).clamp(0, 1))


def _paint_inside(
    scene: Scene, field: FaceField, lips: LipShape, t: Tensor, v: Tensor, opening: Tensor
) -> None:
    box, pixel, mouth = field.grid.box, field.grid.pixel, scene.who.mouth
    canvas = scene.canvas
    depth = smoothstep(0.0, 0.2, lips.fall)
    hollow = torch.tensor([0.30, 0.07, 0.08], device=v.device)[None, :, None, None]
    canvas.paint(box, hollow * (1 - 0.35 * depth)[:, None], opening)
    tongue = scene.control("tongue")
    lift = 0.10 * tongue * depth
    wide = 0.62 * torch.minimum(lips.left_width, lips.right_width)
    mound = ellipse(field.x - lips.x, v - lips.fall - 0.02 + lift, wide, 0.075 + 0.02 * depth)
    flesh = torch.tensor([0.76, 0.36, 0.37], device=v.device)[None, :, None, None]
    shade = 1 - 0.3 * smoothstep(0.0, -0.07, mound)
    canvas.paint(
        box, flesh * (1.25 - 0.3 * shade)[:, None], coverage(mound, pixel) * opening * 0.95
    )
    rest = mouth.y + 0.012 * scene.control("jawOpen") - lips.y
    teeth_end = rest + 0.034 - 0.03 * t * t
    upper_teeth = coverage(v - teeth_end, pixel) * smoothstep(1.0, 0.8, t.abs())
    white = mouth.teeth * (1.0 - 0.22 * t * t)[:, None]
    canvas.paint(box, white, upper_teeth * opening * (1 - 0.7 * lips.roundness))
    fall = 0.86 * OPENING * scene.control("jawOpen")
    lower_edge = fall - 0.008 + 0.02 * t * t
    lower_teeth = coverage(lower_edge - v, pixel) * smoothstep(0.85, 0.65, t.abs())
    low_on = (smoothstep(0.0, 0.05, lips.fall - fall + 0.03)) * opening
    canvas.paint(box, mouth.teeth * 0.9, 0.9 * lower_teeth * low_on)
    under = smoothstep(0.035, 0.0, v + lips.rise * (1 - t * t).clamp_min(0))
    canvas.paint(box, hollow * 0.6, 0.4 * under * opening)
