"""Head, neck, ears and nose."""

from __future__ import annotations

import torch
from torch import Tensor

from mirrorme_training.portrait_head import FaceField
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import (
    bump,
    capsule,
    circle,
    coverage,
    ellipse,
    ripple,
    smoothstep,
    union,
)

JAW_DROP = 0.17
"""How far the chin falls when the jaw is fully open, world units."""


def jaw_drop(scene: Scene) -> Tensor:
    """How far the chin is below its rest, `[B, 1, 1]`."""
    return JAW_DROP * scene.control("jawOpen")


def face_outline(scene: Scene, field: FaceField) -> Tensor:
    """Distance to the outline of the head without hair and ears, `[B, h, w]`."""
    face, drop = scene.who.face, jaw_drop(scene)[:, 0, 0]
    x, y = field.grid.x, field.grid.y
    zero = torch.zeros_like(drop)

    def anchor(px: Tensor, py: Tensor, pz: float) -> tuple[Tensor, Tensor]:
        point = torch.stack(torch.broadcast_tensors(px, py, zero + pz), dim=-1)[:, None]
        world = scene.head.project(point)[:, 0]
        return world[:, 0, None, None], world[:, 1, None, None]

    width, jaw = face.width[:, 0, 0], face.jaw_width[:, 0, 0]
    chin, chin_y = face.chin_radius[:, 0, 0], face.chin_y[:, 0, 0]
    aside = 0.09 * (scene.pose.control("jawLeft") - scene.pose.control("jawRight"))
    ahead = scene.pose.control("jawForward")
    puff = 0.05 * scene.pose.control("cheekPuff")
    skull = anchor(zero, zero - 0.20, -0.08)
    middle_top = anchor(zero, zero + 0.15, 0.18)
    middle_end = anchor(zero, chin_y - 0.32 + drop * 0.8, 0.34)
    roll = scene.head.roll[:, None, None]
    rx, ry = x - skull[0], y - skull[1]
    cos, sin = roll.cos(), roll.sin()
    shape = ellipse(cos * rx + sin * ry, cos * ry - sin * rx, face.width + 0.015, 0.80)
    middle = capsule(x, y, middle_top, middle_end, face.width - 0.2, 0.27)
    shape = union(shape, middle, 0.1)
    for side in (-1.0, 1.0):
        cheek = anchor(side * (width - 0.27 + puff), zero + 0.20, 0.16)
        corner = anchor(side * (jaw - 0.16 + puff) + 0.6 * aside, 0.56 + drop * 0.55, 0.16)
        end = anchor(side * chin * 0.55 + aside, chin_y - chin + drop + 0.03 * ahead, 0.40)
        shape = union(shape, capsule(x, y, cheek, corner, 0.26, 0.17), 0.1)
        shape = union(shape, capsule(x, y, corner, end, 0.17, face.chin_radius), 0.1)
    return shape


def paint_neck(scene: Scene) -> None:
    """The neck with the shadow that the head casts on it."""
    who, canvas = scene.who, scene.canvas
    base = _neck_base(scene)
    top = scene.head.project(torch.tensor([[[0.0, 0.55, -0.2]]], device=base.device))
    grid = canvas.around(torch.cat([top, base], dim=1), 0.75)
    start, end = ((p[:, 0, 0, None, None], p[:, 0, 1, None, None]) for p in (top, base))
    width = who.face.neck_width
    shape = capsule(grid.x, grid.y, start, end, width * 0.98, width * 1.04)
    flare = capsule(grid.x, grid.y, end, (end[0], end[1] + 0.3), width * 1.0, width * 1.7)
    shape = union(shape, flare, 0.25)
    side = (grid.x - start[0]) / width * who.light.x
    cast = smoothstep(0.62, 0.12, grid.y - start[1] - 0.42 + 0.1 * side)
    light = (0.75 + 0.3 * side).clamp(0, 1) * (1 - 0.85 * cast)
    color = scene.lit(who.face.skin, light)
    color = color + (who.face.shadow - color) * (0.55 * cast * who.light.contrast)[:, None]
    canvas.paint(grid.box, color, coverage(shape, grid.pixel))


def _neck_base(scene: Scene) -> Tensor:
    pose = scene.pose
    y = scene.who.clothes.shoulder_y[:, 0, 0] + 0.05 - 0.015 * pose.breath
    return torch.stack(torch.broadcast_tensors(pose.sway, y), dim=-1)[:, None]


def paint_ears(scene: Scene) -> None:
    """Ears and earrings; the ear on the far side is hidden by the head painted over it."""
    who, canvas = scene.who, scene.canvas
    size = who.face.ear_size
    for side in (-1.0, 1.0):
        width = who.face.width[:, 0, 0]
        spot = torch.stack([side * width, 0 * width + 0.10, 0 * width - 0.12], dim=-1)[:, None]
        center = scene.head.project(spot)
        grid = canvas.around(center, 0.42)
        x = grid.x - center[:, 0, 0, None, None]
        y = grid.y - center[:, 0, 1, None, None]
        tilt = x - 0.18 * side * y * -1.0
        shape = union(
            ellipse(tilt, y + 0.04, size * 0.52, size),
            circle(x + side * 0.02, y - size * 0.75, size * 0.3),
            0.08,
        )
        light = (0.62 + 0.35 * side * who.light.x).clamp(0, 1) + 0 * shape
        color = scene.lit(who.face.skin, light)
        inner = smoothstep(
            0.02, -0.06, ellipse(tilt + side * 0.012, y + 0.03, size * 0.3, size * 0.66)
        )
        inner = inner * 0.6
        color = color + (who.face.shadow * 0.95 - color) * inner[:, None]
        rosy = who.face.blush
        color = color + (rosy - color) * (0.18 + 0 * shape)[:, None]
        canvas.paint(grid.box, color, coverage(shape, grid.pixel))
        ring = circle(x + side * 0.02, y - size * 1.05 - who.glasses.earring, who.glasses.earring)
        shown = coverage(ring, grid.pixel) * (who.glasses.earring > 0)
        glint = 0.75 + 0.5 * bump(x + side * 0.03, y - size * 1.05, 0.03, 0.03)
        canvas.paint(grid.box, who.glasses.earring_color * glint[:, None], shown)


def paint_skin(scene: Scene) -> Tensor:
    """The head's skin. Returns its coverage on the face field's box, `[B, h, w]`."""
    who, field = scene.who, scene.face
    face, light = who.face, who.light
    x, y = field.x, field.y
    outline = face_outline(scene, field)
    cover = coverage(outline, field.grid.pixel)
    lower = y - jaw_drop(scene) * smoothstep(0.5, 0.95, y)
    lit = smoothstep(-0.25, 0.85, field.light)
    color = scene.lit(face.skin, lit)
    dark = _hollows(scene, x, lower)
    edge = smoothstep(-0.16, 0.0, outline) * smoothstep(0.2, 0.75, lower)
    dark = dark + 0.35 * edge * (0.6 + 0.4 * (1 - lit))
    color = (
        color + (face.shadow - color) * (dark.clamp(0, 1) * (0.5 + 0.5 * light.contrast))[:, None]
    )
    cheeks = bump(x.abs() - 0.43, lower - 0.33, 0.2, 0.15) + 0.4 * bump(x, lower - 0.36, 0.13, 0.1)
    color = color + (face.blush - color) * (cheeks * face.blush_strength)[:, None]
    color = color + (_spots(scene, x, lower) * -0.09)[:, None]
    glow = bump(x + light.x * -0.25, y + 0.52, 0.35, 0.2)
    glow = glow + 0.8 * bump(x.abs() - 0.4, lower - 0.2, 0.13, 0.07) * (
        0.5 + 0.5 * x.sign() * light.x
    )
    color = color + (glow * 0.10 * light.contrast)[:, None] * (0.4 + 0.6 * face.skin)
    scene.canvas.paint(field.grid.box, color, cover)
    return cover


def _hollows(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Shading of sockets, under the lower lip, and folds of age."""
    who = scene.who
    eyes, mouth = who.eyes, who.mouth
    socket_x, socket_y = x.abs() - eyes.spacing, y - eyes.y
    dark = 0.5 * bump(socket_x + 0.06, socket_y + 0.06, 0.18, 0.10)
    dark = dark + 0.12 * bump(socket_x + 0.02, socket_y - 0.13, 0.14, 0.05)
    dark = dark + 0.4 * bump(x, y - mouth.y - mouth.lower - 0.075, 0.14, 0.04)
    smile = 0.5 * (scene.control("mouthSmileLeft") + scene.control("mouthSmileRight"))
    sneer = torch.where(x > 0, scene.control("noseSneerLeft"), scene.control("noseSneerRight"))
    wrinkle = smoothstep(0.018, 0.0, (y - 0.12 - 0.5 * x.abs()).abs() - 0.004)
    dark = dark + 0.3 * sneer * wrinkle * smoothstep(0.16, 0.1, x.abs())
    fold_x = x.abs() - 0.19 - 0.42 * (y - 0.36)
    fold = (
        smoothstep(0.036, 0.0, fold_x.abs()) * smoothstep(0.33, 0.42, y) * smoothstep(0.64, 0.5, y)
    )
    dark = dark + fold * (0.22 * who.face.lines + 0.3 * smile + 0.35 * sneer)
    bag = smoothstep(0.02, 0.0, (socket_y - 0.125 + 0.9 * socket_x**2).abs())
    dark = dark + 0.12 * who.face.lines * bag * smoothstep(0.16, 0.1, socket_x.abs())
    return dark


def _spots(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    face = scene.who.face
    noise = ripple(x, y, face.phase, 46.0) + 0.6 * ripple(y, x, face.phase, 71.0)
    where = bump(x.abs() - 0.27, y - 0.24, 0.3, 0.16)
    return face.freckles * where * smoothstep(0.5, 0.8, noise)


def paint_nose(scene: Scene) -> None:
    """Bridge, wings, nostrils and tip; they stand out from the face when it turns."""
    who, field = scene.who, scene.face
    nose, face, light = who.nose, who.face, who.light
    tip_x, tip_y = scene.head.protrusion(0.2)
    rise = smoothstep(-0.05, 0.36, field.y)
    x = field.x - tip_x * rise
    y = field.y - tip_y * rise - nose.y
    away = light.x.sign()
    pitch = scene.head.pitch[:, None, None]
    turn = tip_x * 1.2
    sneer = torch.where(x > 0, scene.control("noseSneerLeft"), scene.control("noseSneerRight"))
    y = y + 0.035 * sneer * smoothstep(-0.3, 0.05, y)
    width = nose.width * (1 + 0.12 * sneer)
    strength = nose.bridge * light.contrast
    bridge = smoothstep(
        0.10, 0.0, (x * -away - 0.055 - 0.10 * smoothstep(-0.3, 0.0, y)).abs() - 0.005
    )
    bridge = bridge * smoothstep(-0.46, -0.30, y) * smoothstep(0.03, -0.06, y)
    under = bump(x + away * 0.02, y - 0.085, width * 0.9, 0.042)
    wing_x = x.abs() - width + 0.01
    wings = smoothstep(0.028, 0.0, (ellipse(wing_x + 0.045, y - 0.02, 0.062, 0.062)).abs())
    wings = wings * smoothstep(-0.01, 0.03, wing_x + 0.045)
    shadow = 0.34 * bridge * strength + 0.62 * under * (0.6 + 0.4 * light.contrast) + 0.5 * wings
    box = field.grid.box
    scene.canvas.paint(box, face.shadow, shadow.clamp(0, 0.9))
    nostril = ellipse(
        x.abs() - width * 0.52 + x.sign() * turn * 0.1,
        y - 0.058 + 0.15 * pitch,
        width * 0.30,
        0.022 + 0.03 * pitch.clamp(-0.4, 0.6),
    )
    hole = smoothstep(0.012, -0.012, nostril)
    scene.canvas.paint(box, face.shadow * 0.55, 0.8 * hole)
    shine = bump(x - away * 0.018 * -1, y + 0.02, 0.05, 0.042) * nose.tip
    shine = shine + 0.5 * bump(x + away * -0.012, y + 0.2, 0.028, 0.16)
    glow = face.skin * 0.55 + 0.45
    scene.canvas.paint(box, glow, (0.42 * shine).clamp(0, 1))
