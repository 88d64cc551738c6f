"""Hair behind and over the head, facial hair and glasses."""

from __future__ import annotations

import torch
from torch import Tensor

from mirrorme_training.portrait_canvas import Box, Grid
from mirrorme_training.portrait_head import FaceField
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import (
    bump,
    circle,
    coverage,
    ellipse,
    ripple,
    rounded_box,
    smoothstep,
)
from mirrorme_training.portrait_skin import jaw_drop

GROWTH = 0.5
"""How far hair may stand out from the head, world units; bounds the box it is painted on."""


def _point(scene: Scene, x: Tensor | float, y: Tensor | float, z: float) -> tuple[Tensor, Tensor]:
    zero = torch.zeros(1, device=scene.pose.device)
    parts = [torch.as_tensor(v, device=zero.device) + zero for v in (x, y, z)]
    point = torch.stack(torch.broadcast_tensors(*parts), dim=-1)[:, None]
    world = scene.head.project(point)[:, 0]
    return world[:, 0, None, None], world[:, 1, None, None]


def _strands(scene: Scene, across: Tensor, along: Tensor) -> Tensor:
    """Brightness of strands, about -1 to 1."""
    hair = scene.who.hair
    fine = ripple(across * 3.0, along * 0.35, hair.phase, 9.0)
    broad = ripple(across, along * 0.25, hair.phase, 5.0)
    return hair.strands * (0.55 * fine + 0.6 * broad)


def _fall(scene: Scene, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Hair hanging down: position across, half width and the waves' shift, at every row."""
    who = scene.who
    hair = who.hair
    top = _point(scene, 0.0, -0.15, -0.2)
    sway = scene.pose.sway[:, None, None]
    down = smoothstep(-0.1, 1.3, grid.y)
    x = grid.x - top[0] * (1 - down) - sway * down
    start = who.face.width + 0.03 + hair.side
    half = start + (hair.back_width - start) * smoothstep(-0.2, 1.3, grid.y)
    half = half * torch.sqrt((1 - ((0.05 - grid.y).clamp_min(0) / 0.8) ** 2).clamp_min(1e-3))
    wave = hair.curl * torch.sin(grid.y * hair.curl_frequency + hair.phase[:, 0])
    return x, half, wave * smoothstep(-0.2, 0.6, grid.y)


def paint_back_hair(scene: Scene) -> None:
    """Hair behind the neck and shoulders, and the bun."""
    who, canvas = scene.who, scene.canvas
    hair = who.hair
    bottom = float(hair.back_y.max())
    grid = canvas.grid(_column(scene, 1.7, bottom + 0.25))
    x, half, wave = _fall(scene, grid)
    tips = 0.04 * torch.sin(x * 17 + hair.phase[:, 3])
    end = hair.back_y - 0.22 * (x / half) ** 2 + tips
    sides = (x.abs() - half - wave * x.sign()) * 0.95
    body = torch.maximum(torch.maximum(sides, grid.y - end), -0.25 - grid.y)
    shape = torch.where(hair.back_y > 0.3, body, torch.full_like(body, 9.0))
    cover = coverage(shape, grid.pixel) * hair.amount
    tone = 0.60 + 0.12 * _strands(scene, x, grid.y) + 0.08 * x * who.light.x
    tone = tone + 0.1 * smoothstep(0.5, 1.5, grid.y)
    canvas.paint(grid.box, hair.color * tone[:, None], cover)
    bun = _point(scene, hair.bun_x[:, 0, 0], hair.bun_y[:, 0, 0], -0.25)
    bx, by = grid.x - bun[0], grid.y - bun[1]
    wobble = 0.035 * torch.sin(torch.atan2(by, bx) * 7 + hair.phase[:, 1])
    knot = circle(bx, by * 1.08, hair.bun + wobble)
    swirl = torch.sin(
        12 * torch.sqrt(bx * bx + by * by + 1e-6) / (hair.bun + 0.1) + 2 * torch.atan2(by, bx)
    )
    tone = (
        0.92
        + 0.1 * swirl * hair.strands
        - 0.35 * (by / (hair.bun + 0.1)) * 0.6
        + 0.15 * bx * who.light.x
    )
    canvas.paint(
        grid.box,
        hair.color * tone[:, None],
        coverage(knot, grid.pixel) * (hair.bun > 0) * hair.amount,
    )


def _column(scene: Scene, half_width: float, bottom: float) -> Box:
    canvas = scene.canvas
    points = torch.tensor([[[-half_width, -1.9], [half_width, bottom]]], device=scene.pose.device)
    sway = scene.pose.sway[:, None, None] * torch.tensor([1.0, 0.0], device=scene.pose.device)
    return canvas.around(points + sway, 0.1).box


def _window(scene: Scene, field: FaceField) -> Tensor:
    """Distance to the part of the face that hair leaves free, negative there."""
    hair = scene.who.hair
    x, y = field.x, field.y
    high = 0.35 - hair.line_y
    power = 2.6
    u = (x / hair.temple_x).abs().clamp_min(1e-4)
    w = ((0.35 - y) / high).clamp_min(1e-4)
    radius = (u**power + w**power) ** (1 / power)
    opening = (radius - 1) * hair.temple_x * 0.85
    side = (x - hair.part_x) * torch.where(hair.part_x > 0, -1.0, 1.0)
    sweep = smoothstep(-0.1, 0.9, side) + 0.6 * smoothstep(0.0, -0.5, side)
    slant = 1 + hair.fringe_slant * x
    tips = 0.018 * torch.sin(x * 24 + hair.phase[:, 2]) + 0.025 * torch.sin(
        x * 11 + hair.phase[:, 3]
    )
    fringe_y = hair.line_y + hair.fringe * (0.35 + 1.15 * sweep * slant) + tips
    fringe = y - fringe_y
    return torch.maximum(opening, -fringe)


def hair_mask(scene: Scene, field: FaceField) -> tuple[Tensor, Tensor]:
    """Distance to the hair over the head and to its outer outline, `[B, h, w]` each."""
    hair, face = scene.who.hair, scene.who.face
    center = _point(scene, 0.0, -0.20, -0.10)
    x, y = field.grid.x - center[0], field.grid.y - center[1]
    roll = scene.head.roll[:, None, None]
    cos, sin = roll.cos(), roll.sin()
    x, y = cos * x + sin * y, cos * y - sin * x
    angle = torch.atan2(y, x)
    waves = torch.sin(angle * hair.curl_frequency + hair.phase[:, 0])
    waves = waves + 0.5 * torch.sin(angle * hair.curl_frequency * 1.7 + hair.phase[:, 1])
    lean = 0.12 * hair.top * hair.part_x.sign() * -x
    rise = hair.top / 2
    outline = ellipse(x, y + rise * 0.9 + lean, face.width + 0.03 + hair.side, 0.81 + rise)
    calm = torch.where(hair.lock_y > 1.2, 0.3, 1.0)  # long hair hangs where short hair stands
    outline = outline - hair.curl * calm * waves
    window = _window(scene, field)
    strand_end = 0.03 * torch.sin(field.x * 40 + hair.phase[:, 4])
    bottom = (field.y - hair.side_y - strand_end) * 0.9
    mask = torch.maximum(torch.maximum(outline, -window), bottom)
    return mask, outline


def paint_hair_shadow(scene: Scene, skin: Tensor) -> None:
    """The soft shadow that the hair casts on the skin."""
    field, who = scene.face, scene.who
    window = _window(scene, field)
    bottom = smoothstep(0.05, -0.1, field.y - who.hair.side_y)
    near = smoothstep(-0.13, 0.0, window) * bottom
    strength = 0.42 * who.light.contrast * who.hair.amount * (0.35 + who.hair.top * 2).clamp(0, 1)
    scene.canvas.paint(field.grid.box, who.face.shadow * 0.9, near * strength * skin)


def paint_front_hair(scene: Scene) -> Tensor:
    """Hair over the head and locks in front of the shoulders. Returns its coverage."""
    who, canvas, field = scene.who, scene.canvas, scene.face
    hair = who.hair
    _paint_locks(scene)
    mask, outline = hair_mask(scene, field)
    cover = coverage(mask, field.grid.pixel) * hair.amount
    part = hair.part_x
    across = (field.x - part) / (0.35 + (field.y + 1.15).clamp_min(0))
    along = field.y
    strands = _strands(scene, across, along)
    light = 0.5 + 0.5 * field.light
    ring = torch.exp(-(((field.y + 0.78 + 0.25 * (field.x - 0.4 * who.light.x) ** 2) / 0.13) ** 2))
    ring = ring * (0.6 + 0.4 * strands) * (0.35 + 0.65 * light)
    depth = smoothstep(-0.22, 0.0, outline)
    tone = 0.78 + 0.30 * light + 0.16 * strands - 0.22 * depth
    roots = smoothstep(0.10, 0.0, _window(scene, field))
    tone = tone - 0.10 * roots
    color = hair.color * tone[:, None]
    color = (
        color
        + (hair.shine - color) * (0.55 * ring.clamp(0, 1) * (0.5 + 0.5 * hair.strands))[:, None]
    )
    canvas.paint(field.grid.box, color, cover)
    return cover


def _paint_locks(scene: Scene) -> None:
    who, canvas = scene.who, scene.canvas
    hair = who.hair
    bottom = float(hair.lock_y.max())
    if bottom < 0:
        return
    grid = canvas.grid(_column(scene, 1.6, bottom + 0.2))
    x, half, wave = _fall(scene, grid)
    length = (hair.lock_y - 0.2).clamp_min(0.1)
    left = smoothstep(hair.lock_y, hair.lock_y - 0.4 * length, grid.y)
    for side in (-1.0, 1.0):
        temple = _point(scene, side * (hair.temple_x[:, 0, 0] + 0.02), 0.0, 0.3)
        rest = scene.pose.sway[:, None, None] + side * 0.55
        down = smoothstep(0.0, 1.4, grid.y)
        inner = (temple[0] + (rest - temple[0]) * down - grid.x + x) * side
        outer = half + wave * side
        middle, width = (inner + outer) / 2, (outer - inner).clamp_min(0.1) / 2
        width = width * torch.sqrt(left + 1e-4)
        shape = (x * side - middle - wave * (1 - down)).abs() - width
        shape = torch.maximum(torch.maximum(shape, grid.y - hair.lock_y), -0.3 - grid.y)
        cover = coverage(shape * 0.95, grid.pixel) * (hair.lock_y > 0) * hair.amount
        local = (x * side - middle) / (width + 0.05)
        tone = 0.90 + 0.16 * _strands(scene, local * 0.4, grid.y) + 0.1 * local * side * who.light.x
        tone = tone - 0.2 * smoothstep(-0.08, 0.0, shape) * smoothstep(0.2, 0.6, grid.y)
        canvas.paint(grid.box, hair.color * tone[:, None], cover)


def paint_beard(scene: Scene, skin: Tensor) -> None:
    """Beard, moustache and stubble, below the mouth's layer."""
    who, field = scene.who, scene.face
    beard, mouth = who.beard, who.mouth
    x = field.x
    y = field.y - jaw_drop(scene) * smoothstep(mouth.y, 0.95, field.y)
    noise = ripple(x, y, who.face.phase, 38.0)
    edge = 0.015 * noise
    line = 0.50 - 0.10 * smoothstep(0.25, 0.6, x.abs()) - 0.62 * smoothstep(0.54, 0.70, x.abs())
    jaw = smoothstep(-0.02, 0.08, y - line - edge)
    cheek_line = smoothstep(-0.03, 0.06, y - 0.36 + 0.5 * (x.abs() - 0.4) - edge)
    region = jaw * torch.maximum(cheek_line, smoothstep(0.5, 0.62, x.abs()))
    chin = smoothstep(0.03, -0.03, ellipse(x, y - 0.88, 0.27, 0.22) + edge)
    tache_y = y - (mouth.y - 0.09) - 0.28 * x * x
    thick = 0.055 * (1 - (x / 0.31) ** 2).clamp_min(0) * (1 - 0.25 * bump(x, 0 * x, 0.03, 1.0))
    tache = smoothstep(0.012, -0.012, tache_y.abs() - thick) * smoothstep(0.31, 0.27, x.abs())
    frame = smoothstep(0.03, -0.03, ellipse(x, y - mouth.y - 0.07, 0.29, 0.30) + edge)
    frame = frame * smoothstep(0.0, 0.03, ellipse(x, y - mouth.y - 0.02, 0.235, 0.105))
    frame = frame * smoothstep(-0.06, 0.02, y - mouth.y)
    full = torch.maximum(
        region * smoothstep(0.0, 0.04, ellipse(x, y - mouth.y - 0.01, 0.27, 0.115)), chin
    )
    alpha = torch.maximum(beard.full * full, beard.goatee * frame)
    alpha = torch.maximum(alpha, beard.moustache * tache)
    alpha = torch.maximum(
        alpha, 0.42 * beard.stubble * torch.maximum(torch.maximum(region, chin), tache)
    )
    tone = 0.88 + 0.12 * noise + 0.14 * field.light
    scene.canvas.paint(field.grid.box, beard.color * tone[:, None], 0.94 * alpha * skin)


def paint_glasses(scene: Scene) -> None:
    """Frames a little in front of the eyes, and their temples."""
    who, field = scene.who, scene.face
    glasses, eyes = who.glasses, who.eyes
    if float(glasses.amount.max()) == 0.0:
        return
    shift_x, shift_y = scene.head.protrusion(0.09)
    x, y = field.x - shift_x, field.y - shift_y - eyes.y - 0.02
    pixel, box = field.grid.pixel, field.grid.box
    corner = glasses.corner * torch.minimum(glasses.radius_x, glasses.radius_y)
    lens = rounded_box(
        x.abs() - eyes.spacing - 0.012, y, glasses.radius_x, glasses.radius_y, corner
    )
    inside = coverage(lens, pixel) * glasses.amount
    scene.canvas.paint(box, torch.full_like(glasses.color, 0.08), inside * glasses.tint)
    slope = x.abs() - eyes.spacing + 0.5 * y
    streak = smoothstep(0.05, 0.03, (slope - 0.06).abs()) * inside
    scene.canvas.paint(box, torch.ones_like(glasses.color), 0.13 * streak)
    bridge = (y + 0.04 + 0.6 * x * x).abs() - glasses.thickness * 0.9
    bridge = torch.maximum(bridge, x.abs() - (eyes.spacing - glasses.radius_x + 0.03))
    hinge = x.abs() - eyes.spacing - glasses.radius_x
    temple = torch.maximum((y + 0.06).abs() - glasses.thickness, -hinge)
    temple = torch.maximum(temple, x.abs() - who.face.width)
    frame = torch.minimum(torch.minimum(lens.abs() - glasses.thickness, bridge), temple)
    drop = coverage(torch.minimum(lens.abs(), temple.abs()) - 0.03, pixel * 6)
    scene.canvas.paint(box, who.face.shadow, 0.16 * drop * glasses.amount * (field.rim > 0.1))
    light = 0.85 + 0.35 * smoothstep(0.0, -0.2, y)
    scene.canvas.paint(box, glasses.color * light[:, None], coverage(frame, pixel) * glasses.amount)
