"""Eyes, lids, lashes and brows."""

from __future__ import annotations

import torch
from torch import Tensor

from mirrorme_training.portrait_head import FaceField
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import bump, circle, coverage, smoothstep

SIDES = ((-1.0, "Right"), (1.0, "Left"))
"""Picture side and the person's name for it."""


def paint_eyes(scene: Scene) -> None:
    """Both eyes and brows, on the skin."""
    eyes = scene.who.eyes
    for side, name in SIDES:
        center_x = side * eyes.spacing[:, 0, 0]
        spots = torch.stack([center_x, eyes.y[:, 0, 0] - 0.08], dim=-1)
        points = scene.head.project(scene.head.surface(spots[:, :1], spots[:, 1:]))
        field = scene.face.crop(scene.canvas.around(points, 0.42).box)
        if field.grid.box.empty:
            continue
        _paint_eye(scene, field, side, name)
        _paint_brow(scene, field, side, name)


def _paint_eye(scene: Scene, field: FaceField, side: float, name: str) -> None:
    who, canvas, box = scene.who, scene.canvas, field.grid.box
    eyes, pixel = who.eyes, field.grid.pixel
    out = field.x * side - eyes.spacing
    v = field.y - eyes.y + eyes.tilt * out / eyes.width
    t = out / eyes.width
    arch = (1 - t * t).clamp_min(0)
    open_ = 1 - scene.control("eyeBlink" + name).clamp(0, 1)
    squint = scene.control("eyeSquint" + name)
    lift = open_ * (1 + 0.35 * scene.control("eyeWide" + name) - 0.25 * squint)
    low = eyes.opening * 0.72 * arch * (1 - 0.45 * squint)
    high = -eyes.opening * 1.12 * arch.clamp_min(1e-6) ** 0.72 * (1 - 0.18 * t)
    rest = low * 0.75
    upper = rest + (high - rest) * lift
    inside = coverage(upper - v, pixel) * coverage(v - low, pixel) * (arch > 0)

    socket = smoothstep(0.0, -0.16, v - upper) * smoothstep(-0.21, -0.05, v - high)
    socket = socket * smoothstep(1.35, 0.6, t.abs())
    lid_color = who.face.shadow * 0.7 + who.eyes.lid * 0.3
    canvas.paint(box, lid_color, 0.32 * socket * (0.4 + 0.6 * eyes.lash))

    lid = coverage(high - v, pixel) * coverage(v - upper, pixel) * (arch > 0)
    canvas.paint(box, who.face.skin * 0.93, 0.85 * lid * (1 - lift).clamp(0, 1))

    ball = 0.93 - 0.30 * smoothstep(0.10, -0.01, v - upper) - 0.14 * t.abs() ** 3
    white = torch.stack([ball * 1.01, ball * 0.985, ball * 0.98], dim=1)
    canvas.paint(box, white, inside)
    _paint_iris(scene, field, side, inside, out, v, upper)

    width = 0.016 + 0.017 * eyes.lash
    wing = smoothstep(-1.2, 0.9, t)
    line = (v - upper + 0.3 * width).abs() - width * (0.45 + 0.55 * wing)
    reach = smoothstep(1.14, 1.0, t.abs())
    lash_color = torch.full_like(who.face.skin, 0.10) + 0.12 * who.eyes.brow
    canvas.paint(box, lash_color, coverage(line, pixel * 1.3) * reach * (0.55 + 0.45 * eyes.lash))
    flick = (v - upper + 0.10 * (t - 0.85)).abs() - 0.016 * eyes.lash * smoothstep(1.42, 0.9, t)
    flick_on = smoothstep(0.8, 0.95, t) * smoothstep(1.42, 1.3, t) * (eyes.lash > 0.55)
    canvas.paint(box, lash_color, coverage(flick, pixel * 1.3) * flick_on * eyes.lash)
    lower_line = (v - low).abs() - 0.006
    canvas.paint(
        box, who.face.shadow * 0.6, 0.5 * coverage(lower_line, pixel * 1.5) * (arch > 0.05)
    )
    crease = (v - high + 0.042 - 0.02 * lift).abs() - 0.007
    crease_on = smoothstep(1.05, 0.75, t.abs())
    canvas.paint(box, who.face.shadow * 0.75, 0.6 * coverage(crease, pixel * 1.5) * crease_on)


def _paint_iris(
    scene: Scene,
    field: FaceField,
    side: float,
    inside: Tensor,
    out: Tensor,
    v: Tensor,
    upper: Tensor,
) -> None:
    eyes, pixel, box = scene.who.eyes, field.grid.pixel, field.grid.box
    gaze_x = scene.control("gaze_x") * 0.078
    gaze_y = scene.control("gaze_y") * -0.045
    x = out * side - gaze_x
    y = v - gaze_y + 0.006
    radius = eyes.iris_radius
    distance = circle(x, y, radius)
    depth = smoothstep(0.05, -0.09, v - upper)
    ring = smoothstep(-0.028, 0.0, distance)
    glow = bump(x, y - radius * 0.5, radius * 0.7, radius * 0.45)
    tone = 1.0 + 0.55 * glow - 0.45 * ring - 0.4 * depth
    canvas = scene.canvas
    canvas.paint(box, eyes.iris * tone[:, None], coverage(distance, pixel) * inside)
    pupil = coverage(circle(x, y, radius * 0.46), pixel) * inside
    canvas.paint(box, torch.full_like(eyes.iris, 0.04), 0.95 * pupil)
    light_x = scene.who.light.x.sign() * 0.032
    spark = coverage(circle(x - light_x, y + 0.032, radius * 0.27), pixel)
    spark = spark + 0.45 * coverage(circle(x + light_x, y - 0.035, radius * 0.15), pixel)
    canvas.paint(box, torch.ones_like(eyes.iris), (0.92 * spark).clamp(0, 1) * inside)


def _paint_brow(scene: Scene, field: FaceField, side: float, name: str) -> None:
    eyes, pixel = scene.who.eyes, field.grid.pixel
    out = field.x * side - eyes.spacing - 0.015
    s = out / eyes.brow_length
    inner, outer = smoothstep(0.6, -1.0, s), smoothstep(-0.4, 1.0, s)
    raise_ = 0.10 * scene.control("browInnerUp") * inner
    raise_ = raise_ + 0.09 * scene.control("browOuterUp" + name) * outer
    raise_ = raise_ - scene.control("browDown" + name) * (0.035 + 0.045 * inner)
    arch = eyes.brow_arch * (1 - (s - 0.25) ** 2)
    curve = eyes.y + eyes.brow_y - arch - raise_ + eyes.brow_tilt * out
    taper = smoothstep(1.08, 0.25, s) * 0.75 + 0.25
    taper = taper * smoothstep(-1.12, -0.88, s) * smoothstep(1.1, 1.0, s)
    shape = (field.y - curve).abs() - eyes.brow_thickness * taper
    soft = coverage(shape, pixel * 1.2) * smoothstep(-1.15, -0.85, s) * smoothstep(1.12, 0.95, s)
    scene.canvas.paint(field.grid.box, eyes.brow, 0.9 * soft)
