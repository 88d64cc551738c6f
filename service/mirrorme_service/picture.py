"""A decoded portrait, wherever its pixels are."""

from __future__ import annotations

from typing import Protocol

from PIL import Image


class Picture(Protocol):
    """An upright RGB picture. `PIL.Image.Image` is one; `RemotePicture` is in another process."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    def resize(
        self,
        size: tuple[int, int],
        resample: int | None = None,
        box: tuple[float, float, float, float] | None = None,
        reducing_gap: float | None = None,
    ) -> Image.Image:
        """The picture, or the box of it, in another size; see `PIL.Image.Image.resize`."""
        ...
