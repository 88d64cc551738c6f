"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Counts of one evaluation. Few give figures that are about right."""

    name: str
    fitting_poses: int
    """Renderings that a person's face reader is fitted on."""
    recitals: int
    """Clips of synthetic speech, each of another person; 2 or more."""
    recordings: int
    """Of human speech, at most."""
    reconstructed: int
    """Portraits through the VAE."""
    portraits: int
    """Among which people are recognised."""
    recognised: int
    """People who are streamed, to be recognised; as many as `portraits` at most."""
    gesturing: int
    """People who move their hands."""
    steered: int
    """People whose controls are swept."""
    control_poses: int
    """Renderings that a person's control reader is fitted on."""
    true_sweeps: bool
    """Whether sweeps are rendered, too."""
    idling: int
    """People who are silent."""
    idle_s: int
    true_idle_s: int
    """Of silence that is rendered."""
    drift_s: int
    """Length of the long stream."""
    drift_part_s: int
    """Of its beginning and its end."""


WHOLE = Scale(
    name="whole", fitting_poses=320, recitals=8, recordings=100, reconstructed=40, portraits=100,
    recognised=100, gesturing=4, steered=2, control_poses=2160, true_sweeps=True, idling=2,
    idle_s=30, true_idle_s=30, drift_s=600, drift_part_s=60,
)  # fmt: skip
QUICK = Scale(
    name="quick", fitting_poses=220, recitals=2, recordings=2, reconstructed=8, portraits=100,
    recognised=12, gesturing=1, steered=1, control_poses=480, true_sweeps=False, idling=1,
    idle_s=30, true_idle_s=15, drift_s=60, drift_part_s=15,
)  # fmt: skip
SMOKE = Scale(
    name="smoke", fitting_poses=24, recitals=2, recordings=1, reconstructed=2, portraits=3,
    recognised=2, gesturing=1, steered=1, control_poses=34, true_sweeps=False, idling=1,
    idle_s=10, true_idle_s=4, drift_s=4, drift_part_s=1,
)  # fmt: skip
"""Whether it runs at all: its figures mean nothing."""
