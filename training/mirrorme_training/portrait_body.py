"""Trunk, clothes and the arms that hang; arms that gesture are painted with the hands."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mirrorme_training.portrait_arms import Arm, paint_arm
from mirrorme_training.portrait_canvas import Grid
from mirrorme_training.portrait_cloth import NECK_TOP, body_coordinates, body_tone, cloth_color
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import (
    capsule,
    circle,
    coverage,
    cut,
    ellipse,
    rounded_box,
    smoothstep,
    union,
)


def trunk(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Distance to the clothed trunk without arms."""
    clothes = scene.who.clothes
    top = clothes.shoulder_y
    shape = rounded_box(x, y - top - 2.3, clothes.torso_width, 2.1, 0.35)
    bar = clothes.shoulder_width - 0.36
    ax = x.abs()
    shoulder = capsule(ax, y, (0.2, top + 0.32), (bar, top + 0.48), 0.36, 0.36)
    slope = capsule(ax, y, (0.0, NECK_TOP + 0.27), (bar, top + 0.36), 0.30, 0.22)
    shape = union(shape, shoulder, 0.3)
    return union(shape, slope, 0.35)


def paint_body(scene: Scene) -> None:
    """Chest, clothes with neckline and collar, and upper arms."""
    who, canvas = scene.who, scene.canvas
    clothes = who.clothes
    top = torch.tensor([[[-9.0, NECK_TOP - 0.4], [9.0, 9.0]]], device=scene.pose.device)
    grid = canvas.around(top.expand(len(scene.who.framing), -1, -1), 0.0)
    x, y = body_coordinates(scene, grid)
    pixel, box = grid.pixel, grid.box
    shape = trunk(scene, x, y)
    opening = _neckline(scene, x, y)
    chest = coverage(torch.maximum(shape, opening - 0.06), pixel)
    skin_light = 0.8 - 0.25 * smoothstep(0.1, 0.7, x * -who.light.x)
    canvas.paint(box, scene.lit(who.face.skin, skin_light), chest * (y > NECK_TOP + 0.26))
    _paint_collarbones(scene, grid, x, y, opening)
    folded = clothes.jacket
    light = body_tone(scene, x, y)
    shirt = scene.lit(clothes.shirt, light)
    v_in = ellipse(x, y - NECK_TOP, clothes.neck_half_width * 0.9, 0.38)
    shirt_cover = coverage(torch.maximum(cut(shape, v_in), opening - 0.06), pixel) * folded
    canvas.paint(box, shirt, shirt_cover)
    _paint_tie(scene, grid, x, y, light)
    cloth = cloth_color(scene, x, y)
    body = coverage(cut(shape, opening), pixel)
    near = smoothstep(0.07, 0.0, opening) * (1 - clothes.hood) * 0.16
    canvas.paint(box, cloth * (light - near)[:, None].clamp(0.3, 1.2), body)
    rim = coverage((opening - 0.035).abs() - 0.028, pixel) * body * (1 - clothes.jacket)
    canvas.paint(box, clothes.main * 0.86, rim * (1 - clothes.collar) * 0.7)
    _paint_collars(scene, grid, x, y, opening, body, light)


def _neckline(scene: Scene, x: Tensor, y: Tensor) -> Tensor:
    """Distance to the hole for the neck, negative in it."""
    clothes = scene.who.clothes
    depth = clothes.neck_y - NECK_TOP
    round_ = ellipse(x, y - NECK_TOP, clothes.neck_half_width, depth)
    fall = ((y - NECK_TOP) / depth).clamp_min(-0.2)
    slope = clothes.neck_half_width / depth
    pointed = (x.abs() - clothes.neck_half_width * (1 - fall)) / torch.sqrt(1 + slope * slope)
    pointed = torch.maximum(pointed, NECK_TOP - 0.2 - y)
    return round_ + (pointed - round_) * clothes.v_neck + 9.0 * clothes.turtleneck


def _paint_collarbones(scene: Scene, grid: Grid, x: Tensor, y: Tensor, opening: Tensor) -> None:
    who = scene.who
    bone = (y - 1.42 - 0.03 * torch.cos(x * 3) + 0.16 * x.abs()).abs()
    line = (
        smoothstep(0.04, 0.0, bone)
        * smoothstep(0.03, 0.12, x.abs())
        * smoothstep(0.6, 0.4, x.abs())
    )
    alpha = 0.3 * line * smoothstep(0.02, -0.05, opening) * (1 - who.clothes.jacket)
    scene.canvas.paint(grid.box, who.face.shadow, alpha)


def _paint_tie(scene: Scene, grid: Grid, x: Tensor, y: Tensor, light: Tensor) -> None:
    clothes = scene.who.clothes
    knot = rounded_box(x, y - 1.56, 0.085 - 0.1 * (y - 1.56), 0.075, 0.02)
    blade = torch.maximum(x.abs() - 0.05 - 0.06 * (y - 1.63), 1.62 - y)
    tone = light * (1 + 0.1 * torch.sin(14 * (y + x))) - 0.12 * smoothstep(1.75, 1.63, y)
    cover = coverage(torch.minimum(knot, blade), grid.pixel) * clothes.tie
    scene.canvas.paint(grid.box, clothes.second * tone[:, None], cover)


def _paint_collars(
    scene: Scene, grid: Grid, x: Tensor, y: Tensor, opening: Tensor, body: Tensor, light: Tensor
) -> None:
    clothes, canvas, box, pixel = scene.who.clothes, scene.canvas, grid.box, grid.pixel
    ax = x.abs()
    fall = ((y - NECK_TOP) / (clothes.neck_y - NECK_TOP)).clamp(0, 1)
    wide = 0.26 * torch.sin(torch.pi * fall.clamp(0.02, 1) ** 0.75)
    lapel = torch.maximum(opening - wide, -opening - 0.0)
    on = coverage(lapel, pixel) * clothes.jacket * body
    canvas.paint(box, clothes.main * (light * 1.09)[:, None], on)
    edge = (
        coverage((opening - wide).abs() - 0.008, pixel * 1.3)
        * clothes.jacket
        * body
        * (fall > 0.03)
    )
    canvas.paint(box, clothes.main * 0.55, 0.75 * edge * (fall < 0.99))
    # The two leaves of a shirt's collar, also under a jacket.
    shirt = clothes.collar + clothes.jacket
    color = torch.where(clothes.jacket[:, None] > 0, clothes.shirt, clothes.main)
    leaf = _triangle(ax, y, (0.34, 1.06), (0.02, 1.46), (0.33, 1.66))
    shade = smoothstep(0.07, -0.02, leaf) * smoothstep(1.15, 1.3, y) * shirt
    canvas.paint(box, color * 0.5, 0.3 * shade)
    tone = 1.05 + 0.1 * (x * scene.who.light.x)
    canvas.paint(box, color * tone[:, None].clamp(0, 1.15), coverage(leaf, pixel) * shirt)
    placket = smoothstep(0.02, 0.008, (x - 0.07).abs()) * (y > clothes.neck_y)
    canvas.paint(box, clothes.main * 0.7, 0.5 * placket * clothes.collar * body)
    spacing = (y - clothes.neck_y - 0.12) % 0.42 - 0.21
    button = coverage(circle(x, spacing, 0.026), pixel) * (y > clothes.neck_y + 0.1)
    canvas.paint(box, clothes.main * 0.45 + 0.4, 0.85 * button * clothes.collar * body)
    hood = ellipse(x, y - 1.29, 0.64, 0.30)
    ring = cut(hood, ellipse(x, y - 1.19, 0.43, 0.26))
    tone = light * 0.98 - 0.25 * smoothstep(-0.12, 0.0, ellipse(x, y - 1.19, 0.43, 0.26).neg())
    tone = tone - 0.15 * smoothstep(-0.05, 0.0, hood)
    canvas.paint(box, clothes.main * tone[:, None], coverage(ring, pixel) * clothes.hood)
    string = torch.maximum(
        (ax - 0.2 - 0.03 * torch.sin(4 * y)).abs() - 0.017, (y - 1.85).abs() - 0.32
    )
    canvas.paint(box, clothes.shirt * 0.95, coverage(string, pixel) * clothes.hood)
    tube = rounded_box(x, y - 1.24, scene.who.face.neck_width * 1.16, 0.24, 0.08)
    tone = light * (0.97 + 0.05 * torch.sin(48 * x)) - 0.3 * smoothstep(1.26, 1.04, y)
    canvas.paint(box, clothes.main * tone[:, None], coverage(tube, pixel) * clothes.turtleneck)


def _triangle(
    x: Tensor, y: Tensor, a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]
) -> Tensor:
    """Distance to a triangle; exact inside and near its sides."""
    turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    sides = []
    for (x0, y0), (x1, y1) in ((a, b), (b, c), (c, a)):
        dx, dy = x1 - x0, y1 - y0
        length = math.copysign(math.hypot(dx, dy), turn)
        sides.append(((x - x0) * dy - (y - y0) * dx) / length)
    return torch.stack(sides).amax(dim=0)


def paint_hanging_arms(scene: Scene, arms: tuple[Arm, Arm]) -> None:
    """Upper arms, in front of the trunk's sides."""
    for arm in arms:
        paint_arm(scene, arm, upper=True)
