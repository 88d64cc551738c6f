"""Digits as pixels, for labels in pictures where no font is at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00010 00100 01000 11111",
    "3": "11111 00010 00100 00010 00001 10001 01110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    ".": "00000 00000 00000 00000 00000 01100 01100",
    "s": "00000 00000 01110 10000 01110 00001 11110",
    " ": "00000 00000 00000 00000 00000 00000 00000",
}


def draw_text(text: str, scale: int = 1) -> NDArray[np.bool_]:
    """A mask `[7 * scale, 6 * scale * len(text)]`; only digits, dot, `s` and space."""
    columns = []
    for character in text:
        rows = [[bit == "1" for bit in row] for row in _ROWS[character].split()]
        columns.append(np.pad(np.array(rows, bool), ((0, 0), (0, 1))))
    return np.kron(np.hstack(columns), np.ones((scale, scale), bool))
