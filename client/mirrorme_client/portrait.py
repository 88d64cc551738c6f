"""A portrait as the caller has it: picture bytes, a picture file, or a registered one."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from mirrorme.animate.v1 import animation_pb2 as pb

from mirrorme_client.errors import UnreadableInput

Portrait: TypeAlias = bytes | Path | str | pb.PortraitInfo
"""PNG, JPEG or WebP content; the path of such a file; the id of a registered portrait; or what
`register_portrait` returned."""


def portrait_source(
    portrait: Portrait, crop_mode: pb.CropMode = pb.CROP_MODE_UNSPECIFIED
) -> pb.PortraitSource:
    """The portrait as the contract has it; reads the file if it is one.

    Raises:
        UnreadableInput: the file cannot be read.
    """
    match portrait:
        case pb.PortraitInfo():
            return pb.PortraitSource(portrait_id=portrait.portrait_id, crop_mode=crop_mode)
        case str():
            return pb.PortraitSource(portrait_id=portrait, crop_mode=crop_mode)
        case _:
            return pb.PortraitSource(image=read_picture(portrait), crop_mode=crop_mode)


def read_picture(picture: bytes | Path) -> bytes:
    """The content of a picture file.

    Raises:
        UnreadableInput: the file cannot be read, or is empty.
    """
    if isinstance(picture, bytes):
        return picture
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise UnreadableInput(f"cannot read the portrait {picture}: {error.strerror}") from error
    if not content:
        raise UnreadableInput(f"the portrait {picture} is empty")
    return content
