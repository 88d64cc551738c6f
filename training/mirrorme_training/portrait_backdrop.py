"""The room behind the person. It does not move."""

from __future__ import annotations

import torch

from mirrorme_training.portrait_canvas import Grid
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_shapes import (
    circle,
    coverage,
    ellipse,
    ripple,
    rounded_box,
    smoothstep,
)


def paint_backdrop(scene: Scene) -> None:
    """Wall, glow and one of several kinds of decoration."""
    room, canvas = scene.who.backdrop, scene.canvas
    grid = canvas.whole()
    x, y = grid.x, grid.y
    down = smoothstep(-1.8, 3.4, y)
    color = room.far + (room.near - room.far) * down[:, None]
    glow = torch.exp(-(((x - room.glow_x) / 1.9) ** 2) - ((y - room.glow_y) / 1.7) ** 2)
    color = color + (0.16 * glow)[:, None] * scene.who.light.tint
    grain = room.texture * (ripple(x, y, room.phase, 9.0) + ripple(y, x, room.phase, 23.0))
    color = color * (1 + grain)[:, None]
    part = canvas.rgb
    part += color
    _paint_shapes(scene, grid)
    _paint_plant(scene, grid)
    edge = ((x - scene.who.framing.center_x) / scene.who.framing.view_height) ** 2
    edge = edge + ((y - scene.who.framing.center_y) / scene.who.framing.view_height) ** 2
    canvas.shade(grid.box, (1.03 - 0.22 * edge)[:, None])


def _paint_shapes(scene: Scene, grid: Grid) -> None:
    room, canvas, box = scene.who.backdrop, scene.canvas, grid.box
    x, y, pixel = grid.x, grid.y, grid.pixel
    if float(room.window.max()) > 0:
        shift = torch.cos(room.phase[:, 0]) * 0.8
        u = x + 0.35 * (y - 0.2) - shift
        pane = (u % 0.9 - 0.45).abs() - 0.37
        pane = torch.maximum(pane, (u).abs() - 1.35)
        row = ((y + 0.6) % 1.15 - 0.575).abs() - 0.5
        pane = torch.maximum(torch.maximum(pane, row), (y - 0.1).abs() - 1.7)
        soft = smoothstep(0.05, -0.05, pane)
        canvas.paint(box, room.far * 0.4 + 0.62, 0.42 * soft * room.window)
    if float(room.shelf.max()) > 0:
        _paint_shelf(scene, grid)
    if float(room.bokeh.max()) > 0:
        for i in range(6):
            cx = -2.2 + 0.88 * i + 0.5 * torch.cos(room.phase[:, i])
            cy = -0.5 + 1.1 * torch.sin(room.phase[:, i] * 3 + i)
            radius = 0.22 + 0.16 * torch.sin(room.phase[:, i] * 5) + 0.02 * i
            disc = circle(x - cx, y - cy, radius)
            inner = 0.16 + 0.10 * smoothstep(-0.2, 0.0, disc)
            tint = room.accent * 0.75 + 0.25
            canvas.paint(box, tint, inner * smoothstep(0.05, -0.03, disc) * room.bokeh)
    if float(room.arcs.max()) > 0:
        cx = 0.5 * torch.cos(room.phase[:, 0])
        disc = circle(x - cx, y - 0.1, 1.75 + 0.25 * torch.sin(room.phase[:, 1]))
        canvas.paint(box, room.accent, 0.55 * coverage(disc, pixel * 1.5) * room.arcs)
        second = circle(x + 1.6 * torch.cos(room.phase[:, 2]).sign(), y - 1.9, 1.1)
        canvas.paint(box, room.near * 0.82, 0.6 * coverage(second, pixel * 1.5) * room.arcs)


def _paint_shelf(scene: Scene, grid: Grid) -> None:
    room, canvas, box = scene.who.backdrop, scene.canvas, grid.box
    x, y = grid.x, grid.y
    level = (y + 1.25 + 0.2 * torch.cos(room.phase[:, 0])) / 1.15
    row, within = torch.floor(level), level % 1
    shelf = smoothstep(0.07, 0.05, (within - 0.955).abs())
    wide = 0.17
    column = torch.floor(x / wide + row * 0.37)
    local = (x / wide + row * 0.37) % 1
    hash_ = torch.sin(column * 12.9898 + row * 78.233 + room.phase[:, 1]) * 43758.5453
    seed = hash_ - torch.floor(hash_)
    tall = 0.42 + 0.4 * ((seed * 7.13) % 1)
    standing = smoothstep(0.02, 0.06, within - (0.9 - tall)) * smoothstep(0.91, 0.89, within)
    book = standing * smoothstep(0.02, 0.14, local) * smoothstep(0.98, 0.86, local) * (seed > 0.22)
    tones = torch.stack([seed, (seed * 3.7) % 1, (seed * 9.1) % 1], dim=1)
    spine = room.accent * 0.55 + 0.4 * tones * room.far
    niche = room.near * 0.82
    canvas.paint(box, niche, 0.55 * room.shelf * torch.ones_like(within))
    canvas.paint(box, spine, 0.62 * book * room.shelf)
    canvas.paint(box, room.far * 0.95, 0.8 * shelf * room.shelf)


def _paint_plant(scene: Scene, grid: Grid) -> None:
    room, canvas = scene.who.backdrop, scene.canvas
    if float(room.plant.max()) == 0:
        return
    x, y = grid.x - room.plant_x, grid.y - 2.2
    green = torch.tensor([0.30, 0.46, 0.34], device=x.device)[None, :, None, None]
    for i in range(7):
        angle = (i - 3) * 0.30 + 0.12 * torch.sin(room.phase[:, i % 6] + i)
        reach = 1.5 - 0.12 * abs(i - 3) + 0.15 * torch.cos(room.phase[:, (i + 2) % 6])
        sin, cos = torch.sin(angle), torch.cos(angle)
        u, v = cos * x + sin * y, cos * y - sin * x
        leaf = ellipse(u, v + reach * 0.62, 0.16, reach * 0.45)
        stem = rounded_box(u, v + reach * 0.2, 0.018, reach * 0.25, 0.01)
        leaf = torch.minimum(leaf, stem)
        vein = 0.9 + 0.2 * smoothstep(-0.02, 0.02, u) - 0.06 * (i % 3)
        color = (green * 0.75 + room.far * 0.22) * vein[:, None]
        canvas.paint(grid.box, color, 0.9 * smoothstep(0.02, -0.02, leaf) * room.plant)
