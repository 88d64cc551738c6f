"""Draws identities: thousands of people, rooms and lights, one a seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mirrorme_training import portrait_palette as palette
from mirrorme_training.portrait_draw import Draw
from mirrorme_training.portrait_identity import (
    Backdrop,
    Beard,
    Clothes,
    Eyes,
    Face,
    Framing,
    Glasses,
    Hair,
    Identity,
    Light,
    Mouth,
    Nose,
)

HALF_BODY_VIEW = (4.6, 4.8)
"""View heights of half-body pictures, world units."""
CLOSE_UP_VIEW = (3.1, 3.25)
"""View heights of close-up pictures, world units."""
_MOUTH_Y, _CLOSE_UP_MOUTH_Y = 0.47, 0.67
"""Where the mouth is in the picture, from the top: mouths that are in the same place are learned
much sooner. The gateway crops portraits so, too."""
_OFF_PLACE = 0.006
"""How far off its place a mouth may be: detectors of faces are not exact."""


def sample_identity(seeds: Sequence[int], *, close_up: bool = False) -> Identity:
    """One person a seed; the same seed is the same person, however it is batched.

    Args:
        close_up: head and shoulders instead of a half body. The person does not change.
    """
    draw = Draw(seeds)
    feminine = draw.unit()
    view, shift = _framing(draw, close_up)
    light = _light(draw)
    face = _face(draw, feminine)
    hair = _hair(draw, feminine)
    eyes = _eyes(draw, feminine, hair)
    nose = Nose(
        y=draw.around(0.36, 0.05),
        width=draw.around(0.135, 0.035) + 0.012 * (1 - feminine),
        bridge=draw.uniform(0.35, 1.0),
        tip=draw.uniform(0.3, 1.0),
    )
    mouth = _mouth(draw, feminine, face)
    beard = _beard(draw, feminine, hair)
    place = _CLOSE_UP_MOUTH_Y if close_up else _MOUTH_Y
    center_y = mouth.y + (0.5 - place + shift[1]) * view
    return Identity(
        Framing(view, shift[0] * view, center_y), light, face, eyes, nose, mouth, hair, beard,
        _glasses(draw, feminine), _clothes(draw, feminine), _backdrop(draw),
    )  # fmt: skip


def _mix(a: Tensor, b: Tensor, share: Tensor | float) -> Tensor:
    share = share[:, None] if isinstance(share, Tensor) else share
    return a + (b - a) * share


def _jitter(draw: Draw, color: Tensor, amount: float) -> Tensor:
    tone = draw.around(0.0, amount)[:, None]
    tints = torch.stack([draw.around(0.0, amount * 0.4) for _ in range(3)], dim=1)
    return (color * (1 + tone) + tints).clamp(0.02, 0.98)


def _framing(draw: Draw, close_up: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """View height, and the mouth's shift off its place as shares of it."""
    half_body = draw.uniform(*HALF_BODY_VIEW)
    close = draw.uniform(*CLOSE_UP_VIEW)
    down = draw.uniform(-_OFF_PLACE, _OFF_PLACE)
    shift = (draw.around(0.0, _OFF_PLACE), down)
    return close if close_up else half_body, shift


def _light(draw: Draw) -> Light:
    side = torch.where(draw.unit() < 0.5, -1.0, 1.0)
    warm = draw.around(0.0, 1.0)[:, None] * torch.tensor([[0.05, 0.01, -0.05]])
    return Light(
        x=side * draw.uniform(0.25, 0.75),
        y=draw.uniform(-0.8, -0.35),
        contrast=draw.uniform(0.45, 1.0),
        tint=1.02 + warm,
        shadow=torch.tensor([[0.84, 0.73, 0.76]]) - 0.5 * warm,
    )


def _face(draw: Draw, feminine: Tensor) -> Face:
    tone = draw.unit() * (len(palette.SKIN) - 1)
    low = tone.floor().long()
    skin = _mix(palette.SKIN[low], palette.SKIN[(low + 1).clamp_max(11)], tone - low)
    skin = _jitter(draw, skin, 0.03)
    dark = 1 - skin.mean(1)
    shadow = skin * torch.tensor([[0.80, 0.66, 0.62]])
    blush = _mix(skin, torch.tensor([[0.86, 0.36, 0.32]]), 0.45)
    return Face(
        width=draw.around(0.72, 0.055) - 0.015 * feminine,
        jaw_width=draw.around(0.50, 0.07) - 0.055 * (feminine - 0.5),
        chin_y=draw.around(0.985, 0.06) - 0.03 * feminine,
        chin_radius=draw.around(0.185, 0.045) - 0.035 * (feminine - 0.5),
        skin=skin,
        shadow=shadow,
        blush=blush,
        blush_strength=draw.uniform(0.12, 0.5) * (1 - 0.4 * dark) * (0.6 + 0.6 * feminine),
        freckles=draw.chance(0.1 * (skin.mean(1) > 0.62)) * draw.uniform(0.3, 1.0),
        lines=draw.chance(0.4) * draw.uniform(0.2, 1.0) * (1 - 0.5 * feminine),
        ear_size=draw.around(0.2, 0.03),
        neck_width=draw.around(0.36, 0.03) - 0.09 * (feminine - 0.5),
        phase=draw.phases(),
    )


def _hair(draw: Draw, feminine: Tensor) -> Hair:
    table = palette.HAIR_STYLES
    columns = {name: i for i, name in enumerate(palette.HAIR_COLUMNS)}
    share = (1.5 * (feminine - 0.5) + 0.5).clamp(0.03, 0.97)[:, None]
    weights = table[:, columns["masculine"]] * (1 - share) + table[:, columns["feminine"]] * share
    row = table[draw.index(weights)]
    get = {name: row[:, i] for name, i in columns.items()}
    color = draw.pick(palette.NATURAL_HAIR, palette.NATURAL_HAIR_WEIGHTS)
    dyed = draw.chance(0.05)
    color = _jitter(draw, _mix(color, draw.pick(palette.DYED_HAIR), dyed), 0.12)
    long = get["back_y"] > 1.2
    return Hair(
        amount=get["amount"],
        color=color,
        shine=(color * 1.25 + 0.1 * draw.uniform(0.7, 1.6)[:, None]).clamp(0, 1),
        top=get["top"] * draw.uniform(0.75, 1.25),
        side=get["side"] * draw.uniform(0.8, 1.25),
        line_y=get["line_y"] + draw.around(0.0, 0.07),
        temple_x=get["temple_x"] + draw.around(0.0, 0.025),
        part_x=torch.where(draw.unit() < 0.5, -1.0, 1.0) * draw.uniform(0.0, 0.38),
        fringe=get["fringe"] * draw.uniform(0.6, 1.4),
        fringe_slant=draw.uniform(-1.0, 1.0),
        side_y=get["side_y"] + draw.around(0.0, 0.05),
        lock_y=get["lock_y"] + draw.around(0.0, 0.25) * long,
        back_y=get["back_y"] + draw.around(0.0, 0.3) * long,
        back_width=get["back_width"] * draw.uniform(0.94, 1.06),
        curl=get["curl"] * draw.uniform(0.6, 1.4),
        curl_frequency=get["curl_frequency"] * draw.uniform(0.8, 1.25),
        bun=get["bun"] * draw.uniform(0.85, 1.15),
        bun_x=draw.around(0.0, 0.12),
        bun_y=get["bun_y"],
        strands=get["strands"] * draw.uniform(0.6, 1.2),
        phase=draw.phases(),
    )


def _eyes(draw: Draw, feminine: Tensor, hair: Hair) -> Eyes:
    brow = _mix(hair.color, torch.tensor([[0.13, 0.09, 0.07]]), 0.5)
    lid = torch.tensor([[0.45, 0.25, 0.28]]) * draw.uniform(0.6, 1.3)[:, None]
    return Eyes(
        spacing=draw.around(0.31, 0.03),
        y=draw.around(-0.02, 0.03),
        width=draw.around(0.165, 0.02) + 0.01 * (feminine - 0.5),
        opening=draw.around(0.082, 0.016) + 0.014 * (feminine - 0.5),
        tilt=draw.around(0.02, 0.05),
        iris=_jitter(draw, draw.pick(palette.IRIS, palette.IRIS_WEIGHTS), 0.1),
        iris_radius=draw.around(0.088, 0.008),
        lash=(0.25 + 0.75 * feminine) * draw.uniform(0.7, 1.1),
        lid=lid,
        brow=brow,
        brow_y=draw.around(-0.215, 0.035) + 0.025 * (0.5 - feminine),
        brow_length=draw.around(0.2, 0.03),
        brow_thickness=draw.around(0.034, 0.010) + 0.010 * (0.5 - feminine),
        brow_arch=draw.around(0.05, 0.03),
        brow_tilt=draw.around(0.0, 0.08),
    )


def _mouth(draw: Draw, feminine: Tensor, face: Face) -> Mouth:
    natural = face.skin * torch.tensor([[0.83, 0.58, 0.56]])
    tinted = draw.pick(palette.LIP_TINT)
    lip = _mix(natural, tinted, (feminine > 0.55).float() * draw.uniform(0.0, 0.75))
    return Mouth(
        y=draw.around(0.625, 0.03),
        width=draw.around(0.255, 0.035),
        upper=draw.around(0.052, 0.016) + 0.016 * (feminine - 0.5),
        lower=draw.around(0.075, 0.02) + 0.018 * (feminine - 0.5),
        bow=draw.uniform(0.0, 1.0),
        corners=draw.around(0.03, 0.02),
        lip=lip,
        teeth=torch.tensor([[0.97, 0.95, 0.91]]) * draw.uniform(0.93, 1.0)[:, None],
    )


def _beard(draw: Draw, feminine: Tensor, hair: Hair) -> Beard:
    kind = draw.index(torch.tensor([4.0, 1.5, 2.2, 1.2, 1.0]))
    able = (feminine < 0.42).float()
    grown = draw.uniform(0.75, 1.0)
    return Beard(
        color=_jitter(draw, hair.color * 0.85, 0.08),
        full=able * (kind == 2) * grown,
        goatee=able * (kind == 3) * grown,
        moustache=able * ((kind == 2) | (kind == 3) | (kind == 4)) * grown,
        stubble=able * (kind == 1) * draw.uniform(0.25, 0.55),
    )


def _glasses(draw: Draw, feminine: Tensor) -> Glasses:
    color = palette.FRAMES
    return Glasses(
        amount=draw.chance(0.22),
        color=draw.pick(color),
        radius_x=draw.around(0.235, 0.025),
        radius_y=draw.around(0.18, 0.03),
        corner=draw.uniform(0.35, 1.0),
        thickness=draw.uniform(0.012, 0.028),
        tint=draw.chance(0.08) * draw.uniform(0.1, 0.3),
        earring=draw.chance(0.5 * (feminine > 0.55)) * draw.uniform(0.03, 0.06),
        earring_color=draw.pick(palette.METAL),
    )


def _clothes(draw: Draw, feminine: Tensor) -> Clothes:
    # crew neck, V-neck, collar, jacket, hood, turtleneck
    kind = draw.index(torch.tensor([3.0, 2.0, 2.5, 2.5, 1.5, 1.5]))
    v_neck = ((kind == 1) | (kind == 3)).float()
    pattern = draw.index(torch.tensor([5.0, 1.5, 1.0]))
    plain = (kind == 3).float()
    deep = torch.where(kind == 1, draw.uniform(0.25, 0.6), torch.full_like(v_neck, 0.1))
    deep = torch.where(kind == 3, draw.uniform(0.9, 1.25), deep)
    return Clothes(
        main=_jitter(draw, draw.pick(palette.CLOTHES), 0.08),
        second=_jitter(draw, draw.pick(palette.CLOTHES), 0.08),
        shirt=_jitter(draw, draw.pick(palette.SHIRTS), 0.03),
        shoulder_width=draw.around(1.36, 0.09) - 0.3 * (feminine - 0.5),
        shoulder_y=draw.around(1.36, 0.05),
        torso_width=draw.around(1.05, 0.07) - 0.2 * (feminine - 0.5),
        neck_y=draw.around(1.40, 0.03) + deep,
        neck_half_width=draw.around(0.46, 0.04),
        v_neck=v_neck,
        collar=(kind == 2).float(),
        jacket=(kind == 3).float(),
        hood=(kind == 4).float(),
        turtleneck=(kind == 5).float(),
        tie=plain * (feminine < 0.5) * draw.chance(0.45),
        stripes=(pattern == 1) * (1 - plain),
        dots=(pattern == 2) * (1 - plain),
        pattern_frequency=draw.uniform(5.0, 11.0),
        sleeve=torch.where(kind >= 2, 1.0, draw.chance(0.4) * 1.0),
        phase=draw.phases(),
    )


def _backdrop(draw: Draw) -> Backdrop:
    kind = draw.index(torch.tensor([1.5, 2.0, 1.5, 2.0, 2.0]))
    far = _jitter(draw, draw.pick(palette.BACKDROP_FAR), 0.06)
    return Backdrop(
        far=far,
        near=(far * draw.uniform(0.72, 0.95)[:, None]).clamp(0, 1),
        accent=_jitter(draw, draw.pick(palette.ACCENT), 0.08),
        glow_x=draw.uniform(-1.5, 1.5),
        glow_y=draw.uniform(-1.2, 0.5),
        window=(kind == 1).float(),
        shelf=(kind == 2).float(),
        bokeh=(kind == 3).float(),
        arcs=(kind == 4).float(),
        plant=draw.chance(0.3),
        plant_x=torch.where(draw.unit() < 0.5, -1.0, 1.0) * draw.uniform(1.6, 2.1),
        texture=draw.uniform(0.0, 0.03),
        phase=draw.phases(),
    )
