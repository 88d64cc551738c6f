"""One line of the table: a figure of what was made, beside the same of truth and of junk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A figure. None where it was not measured."""

    group: str
    """Names what `--only` picks."""
    name: str
    definition: str
    made: float | None
    """Of the frames that the service sent."""
    truth: float | None = None
    """The same measure of rendered frames: what a perfect model would reach."""
    vae: float | None = None
    """The same of rendered frames that went through the model's VAE."""
    control: float | None = None
    """The same of something that must fail."""
    control_is: str = ""
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def bar(self) -> str:
        """For people; empty: no bar, the figure is for information."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def passed(self) -> bool | None:
        """Whether `made` is within the bar; None: there is no bar, or it was not measured."""
        if self.made is None or not self.bar:
            return None
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= self.made <= high

    def to_json(self) -> dict[str, Any]:
        """All fields, and what follows from them."""
        fields = {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }
        return {**fields, "bar": self.bar, "passed": self.passed}
