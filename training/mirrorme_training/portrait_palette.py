"""Colours and hair styles that identities are drawn from."""

from __future__ import annotations

import torch
from torch import Tensor


def colors(*codes: str) -> Tensor:
    """`[K, 3]` of hexadecimal codes."""
    return torch.tensor([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in codes])


SKIN = colors(
    "fbe0cd", "f6d2b8", "f2c6a6", "eebd97", "e5ad84", "d99e72", "cb8f63", "b97d52",
    "a46a43", "8d5836", "75462b", "5f3823",
)  # fmt: skip
NATURAL_HAIR = colors(
    "17120f", "231a15", "33241b", "4a3122", "62412a", "7d5431", "9c7040", "bf9557",
    "d9b877", "8f3f1f", "b35a2a", "6b6a6c", "a9a7a6", "dad7d2",
)  # fmt: skip
NATURAL_HAIR_WEIGHTS = torch.tensor([4.0, 4, 4, 4, 3, 3, 2, 2, 1.5, 1.2, 1.2, 1, 1, 1])
DYED_HAIR = colors("c24f7c", "4d6fb3", "3f8f83", "7b4fa3", "d86f4a")
IRIS = colors("3b2415", "56341c", "7a5230", "6f7a3a", "4e7d5a", "4a7fa5", "6b93ad", "5c6b78")
IRIS_WEIGHTS = torch.tensor([4.0, 4, 3, 1.5, 1.5, 2, 1.5, 1])
LIP_TINT = colors("b5494f", "a83a4a", "c65f5c", "9c4a45", "b8566b", "8e2f3f")
CLOTHES = colors(
    "2f4858", "33658a", "86bbd8", "f6ae2d", "f26419", "5b8e7d", "8cb369", "bc4b51",
    "f4e9d8", "e8e8e4", "3d3a4b", "6d597a", "b56576", "355070", "264653", "2a9d8f",
    "e76f51", "1f2d3d", "cdb4a0", "7f5539", "d8a7b1", "445544",
)  # fmt: skip
SHIRTS = colors("f7f6f2", "e9eef4", "dfe7ee", "f3e6d8", "2b2d33", "c9d8e6", "ead7dc")
BACKDROP_FAR = colors(
    "e8dccb", "d7e0e3", "c9d6c8", "f0d9c8", "d8cfe0", "b8c7d6", "e6c9b5", "9fb3b5",
    "586b7a", "4a4f63", "6d8376", "8a6f63", "cfd8dc", "f1e6da", "3f4a5a", "a9bfae",
)  # fmt: skip
ACCENT = colors("e9c46a", "e07a5f", "81b29a", "f2cc8f", "84a9c0", "b56576", "6d8fa3", "f4f1de")
FRAMES = colors("1f1d1d", "3a2a20", "7a4a2b", "8c8f94", "c39a4a", "6b2737", "24384f")
METAL = colors("e0b354", "d7d9dd", "c98a6b")

HAIR_COLUMNS = (
    "amount", "top", "side", "line_y", "temple_x", "fringe", "side_y", "lock_y", "back_y",
    "back_width", "curl", "curl_frequency", "bun", "bun_y", "strands", "masculine", "feminine",
)  # fmt: skip
HAIR_STYLES = torch.tensor(
    [
        # amount top side line temple fringe side lock back width curl freq bun bun_y strands m f
        [0, 0.0, 0.00, -0.60, 0.66, 0.00, 0.0, -1, 0.0, 0.70, 0.0, 8, 0, 0, 0.3, 1.2, 0.1],  # bald
        [1, 0.03, 0.02, -0.60, 0.64, 0.0, 0.02, -1, 0.0, 0.7, 0.0, 8, 0, 0, 0.2, 1.5, 0.3],  # buzz
        [1, 0.17, 0.05, -0.58, 0.62, 0.05, 0.08, -1, 0.0, 0.7, 0.015, 9, 0, 0, 0.6, 3.0, 0.6],
        [1, 0.28, 0.06, -0.60, 0.62, 0.02, 0.08, -1, 0.0, 0.7, 0.02, 6, 0, 0, 0.7, 3.0, 0.3],
        [1, 0.24, 0.08, -0.56, 0.60, 0.16, 0.12, -1, 0.2, 0.7, 0.03, 7, 0, 0, 0.7, 2.5, 0.5],
        [1, 0.30, 0.14, -0.56, 0.60, 0.06, 0.12, -1, 0.1, 0.7, 0.06, 11, 0, 0, 0.8, 1.6, 1.0],
        [1, 0.46, 0.40, -0.56, 0.60, 0.0, 0.30, -1, 0.55, 1.1, 0.045, 14, 0, 0, 0.5, 0.8, 1.4],
        [1, 0.17, 0.13, -0.55, 0.58, 0.10, 0.55, 0.90, 0.92, 0.92, 0.015, 7, 0, 0, 0.8, 0.1, 2.5],
        [1, 0.17, 0.14, -0.50, 0.58, 0.30, 0.55, 0.95, 1.0, 0.95, 0.01, 7, 0, 0, 0.8, 0.0, 1.8],
        [1, 0.16, 0.10, -0.57, 0.58, 0.08, 0.50, 2.1, 2.3, 0.95, 0.015, 4, 0, 0, 0.9, 0.2, 3.0],
        [1, 0.20, 0.16, -0.55, 0.57, 0.12, 0.50, 2.0, 2.2, 1.08, 0.05, 5, 0, 0, 0.9, 0.1, 3.0],
        [1, 0.26, 0.26, -0.55, 0.58, 0.10, 0.45, 1.4, 1.6, 1.22, 0.07, 9, 0, 0, 0.8, 0.1, 1.8],
        [1, 0.11, 0.04, -0.57, 0.62, 0.03, 0.08, -1, 0.2, 0.7, 0.01, 7, 0.34, -1.18, 0.8, 0.2, 2.0],
        [1, 0.12, 0.05, -0.56, 0.60, 0.12, 0.15, -1, 0.4, 0.72, 0.01, 7, 0.3, -0.7, 0.8, 0.0, 1.5],
        [1, 0.20, 0.13, -0.56, 0.59, 0.14, 0.35, 0.6, 0.8, 0.88, 0.045, 7, 0, 0, 0.9, 1.0, 1.2],
    ]
)
