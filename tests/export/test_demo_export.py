"""`demo`, as it is served: sessions that share a batch must not see each other."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from mirrorme_export.exporter import export_model
from mirrorme_export.weights import Shape, random_model


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_rows_of_a_batch_are_bit_identical_to_rows_alone(tmp_path: Path) -> None:
    export = export_model(
        random_model("demo", Shape(), seed=0),
        tmp_path / "demo",
        trained=False,
        step=lambda _name: contextlib.nullcontext(),
    )
    assert export.parity.passed
    assert {row.engine: row.joined_error for row in export.parity.rows} == {
        "identity_encoder": 0,
        "audio_encoder": 0,
        "denoiser": 0,
        "decoder": 0,
    }
