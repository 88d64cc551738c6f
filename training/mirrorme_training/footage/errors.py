"""What can go wrong with footage, by what the user can do about it."""

from __future__ import annotations


class FootageError(Exception):
    """The run cannot go on: settings, the output folder, the disk, MediaPipe."""


class VideoError(Exception):
    """One video cannot be used; the others can."""
