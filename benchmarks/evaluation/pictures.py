"""The page of pictures: strips of frames and curves, as PNG files with an HTML page around them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

mpl.use("Agg")
from matplotlib import pyplot

_STRIP_FRAMES = 10
_STRIP_HEIGHT_PX = 128


class Pictures:
    """Owns the folder that the page lies in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._entries: list[tuple[str, str]] = []

    def strips(
        self, name: str, caption: str, rows: Sequence[NDArray[np.uint8]], *, first: int = 0
    ) -> None:
        """Rows of frames, one `[T, H, W, 3]` above the other, spread over their time."""
        pictures = []
        for frames in rows:
            picks = np.linspace(first, len(frames) - 1, _STRIP_FRAMES).round().astype(int)
            pictures.append(np.concatenate(list(frames[picks]), axis=1))
        image = Image.fromarray(np.concatenate(pictures))
        scale = _STRIP_HEIGHT_PX * len(rows) / image.height
        image = image.resize((round(image.width * scale), round(image.height * scale)))
        path = self.folder / f"{name}.jpg"
        image.save(path, quality=85)
        self._entries.append((path.name, caption))

    def curves(
        self, name: str, caption: str, curves: Mapping[str, NDArray[np.float64]], label: str
    ) -> None:
        """Curves over the frames of a clip."""
        figure, axes = pyplot.subplots(figsize=(10, 2.6), layout="constrained")
        for title, curve in curves.items():
            axes.plot(np.arange(len(curve)) / 24, curve, label=title, linewidth=1)
        axes.set_xlabel("s")
        axes.set_ylabel(label)
        axes.legend(fontsize=8)
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=90)
        pyplot.close(figure)
        self._entries.append((path.name, caption))

    def write_page(self, table: str) -> Path:
        """`index.html` with a table, given as HTML, above all pictures."""
        parts = [
            f'<figure><img src="{name}"><figcaption>{html.escape(caption)}</figcaption></figure>'
            for name, caption in self._entries
        ]
        style = (
            "body{font:15px sans-serif;max-width:84rem;margin:2rem auto}img{max-width:100%}"
            "td,th{padding:.2rem .6rem;text-align:left}.failed{color:#b00020}"
        )
        page = self.folder / "index.html"
        page.write_text(
            f"<!doctype html><meta charset=utf-8><title>Evaluation</title><style>{style}</style>"
            f"<h1>Evaluation</h1>{table}{''.join(parts)}\n"
        )
        return page
