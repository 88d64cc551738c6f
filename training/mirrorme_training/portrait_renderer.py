"""Paints portraits and returns them with the truth about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorme_training.batched import Batched
from mirrorme_training.portrait_arms import paint_arm, solve_arms
from mirrorme_training.portrait_backdrop import paint_backdrop
from mirrorme_training.portrait_body import paint_body, paint_hanging_arms
from mirrorme_training.portrait_canvas import Box, Canvas
from mirrorme_training.portrait_eyes import paint_eyes
from mirrorme_training.portrait_hair import (
    GROWTH,
    paint_back_hair,
    paint_beard,
    paint_front_hair,
    paint_glasses,
    paint_hair_shadow,
)
from mirrorme_training.portrait_hands import paint_hand
from mirrorme_training.portrait_head import HeadSpace, head_grid
from mirrorme_training.portrait_identity import Identity
from mirrorme_training.portrait_mouth import lip_gap, lip_shape, mouth_corners, paint_mouth
from mirrorme_training.portrait_pose import Pose
from mirrorme_training.portrait_scene import Scene
from mirrorme_training.portrait_skin import paint_ears, paint_neck, paint_nose, paint_skin


@dataclass(frozen=True)
class RenderedFrames(Batched):
    """Frames and what is true of them."""

    frames: Tensor
    """[B, H, W, 3] uint8, R first"""
    face_mask: Tensor
    """[B, H, W] uint8, 255 where the face's skin and features are seen"""
    mouth_mask: Tensor
    """[B, H, W] uint8, 255 on lips and what is between them"""
    mouth_open_px: Tensor
    """[B] distance between the lips in the middle of the mouth, pixels"""
    mouth_open_ratio: Tensor
    """[B] the same distance over the width of this person's mouth at rest"""
    mouth_corners_px: Tensor
    """[B, 2, 2] the person's left and right corner, pixels from the top left"""
    controls: Tensor
    """[B, C] as given, in the order of `portrait_pose.CONTROLS`"""
    hand_keypoints: Tensor
    """[B, 2, 21, 3] left and right hand: x and y in 0 to 1 of the frame, visibility 0 or 1"""
    face_box_px: Tensor
    """[B, 4] left, top, right, bottom of the face from brows to chin"""


_CPU_PIXELS = 2**19
"""Pixels painted at once on a CPU: as many as stay near its caches. More takes longer a frame."""


@torch.no_grad()
def render(identity: Identity, pose: Pose, size_px: int) -> RenderedFrames:
    """Paints one square frame a pose.

    Args:
        identity: one person for all frames, or one a frame.
        pose: `[B]` frames.
        size_px: height and width.
    """
    if len(identity) not in (1, len(pose)):
        raise ValueError(f"got {len(identity)} identities for {len(pose)} poses: want 1 or as many")
    step = max(1, _CPU_PIXELS // size_px**2)
    if pose.device.type != "cpu" or len(pose) <= step:
        return _render(identity, pose, size_px)
    parts = []
    for start in range(0, len(pose), step):
        some = slice(start, start + step)
        who = identity if len(identity) == 1 else identity[some]
        parts.append(_render(who, pose[some], size_px))
    return RenderedFrames.join(parts)


def _render(identity: Identity, pose: Pose, size_px: int) -> RenderedFrames:
    canvas = Canvas(identity.framing, len(pose), size_px)
    head = HeadSpace(identity, pose)
    face = head.field(head_grid(canvas, head, GROWTH))
    scene = Scene(canvas, identity.spread(), pose, head, face)
    arms = solve_arms(scene)
    paint_backdrop(scene)
    paint_back_hair(scene)
    paint_neck(scene)
    paint_body(scene)
    paint_hanging_arms(scene, arms)
    paint_ears(scene)
    skin = paint_skin(scene)
    paint_hair_shadow(scene, skin)
    paint_nose(scene)
    paint_beard(scene, skin)
    mouth_field, mouth, _ = paint_mouth(scene)
    paint_eyes(scene)
    paint_glasses(scene)
    hair = paint_front_hair(scene)
    face_mask = _full(canvas, face.grid.box, skin * (1 - hair))
    mouth_mask = _full(canvas, mouth_field.grid.box, mouth)
    for index, arm in enumerate(arms):
        paint_arm(scene, arm, upper=False)
        painted = paint_hand(scene, index)
        if painted is not None:
            box, cover = painted
            rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
            face_mask[:, rows, columns] *= 1 - cover
            mouth_mask[:, rows, columns] *= 1 - cover
    return _collect(scene, face_mask, mouth_mask)


def _full(canvas: Canvas, box: Box, part: Tensor) -> Tensor:
    size = (canvas.num_frames, canvas.size_px, canvas.size_px)
    whole = torch.zeros(size, device=canvas.rgb.device)
    whole[:, box.top : box.bottom, box.left : box.right] = part
    return whole


def _collect(scene: Scene, face_mask: Tensor, mouth_mask: Tensor) -> RenderedFrames:
    canvas, pose, who = scene.canvas, scene.pose, scene.who
    lips = lip_shape(scene)
    gap = canvas.to_pixels(lip_gap(scene, lips))
    open_px = (gap[:, 1] - gap[:, 0]).norm(dim=-1)
    rest_width = canvas.lengths_to_pixels(2 * who.mouth.width[:, 0, 0])
    keypoints = canvas.to_pixels(pose.hands[..., :2]) / canvas.size_px
    inside = ((keypoints > 0) & (keypoints < 1)).all(-1) & (pose.hand_shown[..., None] > 0)
    corners = [[-0.68, -0.3], [0.68, -0.3], [-0.5, 0.95], [0.5, 0.95]]
    spots = torch.tensor(corners, device=pose.device)[None]
    outline = canvas.to_pixels(scene.head.project(scene.head.surface(spots[..., 0], spots[..., 1])))
    return RenderedFrames(
        frames=_to_uint8(canvas.rgb).permute(0, 2, 3, 1).contiguous(),
        face_mask=_to_uint8(face_mask),
        mouth_mask=_to_uint8(mouth_mask),
        mouth_open_px=open_px,
        mouth_open_ratio=open_px / rest_width,
        mouth_corners_px=canvas.to_pixels(mouth_corners(scene, lips)),
        controls=pose.controls,
        hand_keypoints=torch.cat([keypoints, inside.float()[..., None]], dim=-1),
        face_box_px=torch.cat([outline.amin(dim=1), outline.amax(dim=1)], dim=1),
    )


def _to_uint8(values: Tensor) -> Tensor:
    return (values.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
