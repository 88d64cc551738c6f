"""Single graphs as ONNX files, parity, and the folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import onnx
import onnx_ir
import pytest
import torch
from mirrorme_engines.manifest import engine_sha256
from mirrorme_export.engine_graphs import EngineGraph, fewer_sigmas
from mirrorme_export.errors import (
    ExportError,
    InvalidRequest,
    ParityError,
    UnexportableGraph,
)
from mirrorme_export.exporter import Export, export_model, failed_parity_path
from mirrorme_export.onnx_file import write_onnx
from mirrorme_export.parity import ParityRow, measure_parity
from mirrorme_export.staging import staged
from mirrorme_model.avatar import AvatarModel
from torch import nn


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((8, 8), factor).repeat(1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


class BakedBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 8) + 0.0


class ByItsValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class BreaksAtEight(nn.Module):
    """The runtime refuses the eighth row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(7, dtype=torch.float32)
        return x + rows[torch.arange(x.shape[0])][:, None]


class ToNan(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(-x.abs() - 1)


def graph_of(module: nn.Module) -> EngineGraph:
    return EngineGraph(
        name="small",
        role="decoder",
        module=module.eval(),
        input_names=("x",),
        output_names=("y",),
        example_inputs=lambda batch, seed: (
            torch.randn(batch, 8, generator=torch.Generator().manual_seed(seed)),
        ),
    )


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `Scale(0.5)`."""
    path = tmp_path_factory.mktemp("half") / "model.onnx"
    write_onnx(graph_of(Scale(0.5)), path)
    return path


def test_large_weights_lie_beside_the_file(tmp_path: Path) -> None:
    graph, path = graph_of(Scale(0.5)), tmp_path / "small/1/model.onnx"
    write_onnx(graph, path, max_embedded_bytes=16)
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert path.with_name("model.onnx.data").stat().st_size >= 256
    assert all(row.passed for row in measure_parity(graph, path))
    before = engine_sha256(path)
    write_onnx(graph_of(Scale(0.25)), path, max_embedded_bytes=16)
    assert engine_sha256(path) != before


def test_same_weights_same_bytes(half: Path, tmp_path: Path) -> None:
    again = tmp_path / "model.onnx"
    write_onnx(graph_of(Scale(0.5)), again)
    assert engine_sha256(again) == engine_sha256(half)


def test_the_batch_is_dynamic_and_all_else_fixed(half: Path) -> None:
    model = onnx_ir.load(half)
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None
        assert str(value.shape[0]) == "batch" and len(value.shape) == 2
        assert isinstance(value.shape[1], int)


@pytest.mark.parametrize("module", [BakedBatch(), ByItsValues()])
def test_graphs_that_cannot_be_are_named(tmp_path: Path, module: nn.Module) -> None:
    with pytest.raises(UnexportableGraph, match="small cannot be exported"):
        write_onnx(graph_of(module), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_engine_of_other_weights_is_off(half: Path) -> None:
    rows = measure_parity(graph_of(Scale(0.51)), half, (1, 3))
    assert [row.batch_size for row in rows] == [1, 3]
    assert not any(row.passed for row in rows)
    assert all(1e-3 < row.max_abs_error < 1 for row in rows)
    assert all(row.mean_abs_error <= row.max_abs_error < row.max_abs_value for row in rows)


def test_nan_is_off_even_if_both_agree(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(graph_of(ToNan()), path)
    assert not any(row.passed for row in measure_parity(graph_of(ToNan()), path))


def test_a_batch_that_cannot_be_run_is_off(tmp_path: Path) -> None:
    graph, path = graph_of(Scale(0.5)), tmp_path / "model.onnx"
    write_onnx(graph_of(BreaksAtEight()), path)
    rows = {row.batch_size: row for row in measure_parity(graph, path)}
    assert rows[8].max_abs_error == float("inf") and not rows[8].passed


class ChannelNorm(nn.Module):
    """Of frames, folded into the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.flatten(0, 1)
        normal = frames * torch.rsqrt(frames.square().mean(dim=1, keepdim=True) + 1e-8)
        return normal.unflatten(0, x.shape[:2])


class VideoNorm(nn.Module):
    """Over the second dimension of video."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        video = x.transpose(1, 2)
        normal = video * torch.rsqrt(video.square().mean(dim=1, keepdim=True) + 1e-8)
        return normal.transpose(1, 2)


@pytest.mark.parametrize(
    ("module", "num_frames", "num_means"),
    [(ChannelNorm(), 1, 0), (ChannelNorm(), 2, 1), (VideoNorm(), 2, 0)],
)
def test_a_norm_over_channels_is_the_same_in_any_batch(
    tmp_path: Path, module: nn.Module, num_frames: int, num_means: int
) -> None:
    path = tmp_path / "model.onnx"
    graph = dataclasses.replace(
        graph_of(module),
        example_inputs=lambda batch, seed: (
            torch.randn(
                batch, num_frames, 48, 16, 16, generator=torch.Generator().manual_seed(seed)
            ),
        ),
    )
    write_onnx(graph, path)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("ReduceMean") == num_means
    assert operators.count("Conv") == 1 - num_means
    rows = measure_parity(graph, path)
    assert all(row.passed and row.joined_error == 0 for row in rows)


def test_another_shape_is_off(half: Path) -> None:
    wide = graph_of(nn.Sequential(Scale(0.5), nn.Unflatten(1, (16, 1))))
    assert not any(row.passed for row in measure_parity(wide, half))


def test_uint8_may_be_one_level_off_and_no_more(tmp_path: Path) -> None:
    class Levels(nn.Module):
        def __init__(self, offset: float) -> None:
            super().__init__()
            self.offset = offset

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (100 + self.offset + 0 * x).to(torch.uint8)

    path = tmp_path / "model.onnx"
    write_onnx(graph_of(Levels(0)), path)
    for offset, passed in ((0, True), (1, True), (-1, True), (2, False)):
        rows = measure_parity(graph_of(Levels(offset)), path)
        assert {row.passed for row in rows} == {passed}
        assert {row.max_abs_error for row in rows} == {abs(offset)}


def test_fewer_steps_keep_the_ends() -> None:
    sigmas = (1.0, 0.9, 0.7, 0.4, 0.0)
    assert fewer_sigmas(sigmas, 2) == (1.0, 0.7, 0.0)
    assert fewer_sigmas(sigmas, 1) == (1.0, 0.0)
    for steps in (0, 4, 9):
        with pytest.raises(InvalidRequest, match=f"of {steps} steps: want 1 to 3"):
            fewer_sigmas(sigmas, steps)


def quiet(_name: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def earlier_export(target: Path) -> None:
    target.mkdir()
    (target / "manifest.json").write_text("earlier")
    (target / "stale.plan").write_text("stale")


@pytest.fixture
def quick_graphs(monkeypatch: pytest.MonkeyPatch, tiny_graphs: list[EngineGraph]) -> None:
    """Only the decoder: quick to export."""
    graphs = [graph for graph in tiny_graphs if graph.role == "decoder"]
    monkeypatch.setattr("mirrorme_export.exporter.engine_graphs", lambda *_: graphs)


@pytest.mark.usefixtures("quick_graphs")
def test_a_failed_comparison_leaves_the_target_and_a_report(
    tmp_path: Path, tiny_model: AvatarModel
) -> None:
    def off(graph: EngineGraph, path: Path, sizes: tuple[int, ...]) -> list[ParityRow]:
        row = measure_parity(graph, path, sizes[:1])[0]
        return [row, dataclasses.replace(row, max_abs_error=float("inf"))]

    target = tmp_path / "tiny"
    earlier_export(target)
    with pytest.raises(ParityError, match="decoder and torch differ") as caught:
        export_model(tiny_model, target, trained=False, step=quiet, measure=off)
    assert caught.value.path == failed_parity_path(target)
    document = json.loads(caught.value.path.read_text())
    assert document["passed"] is False
    assert [row["passed"] for row in document["rows"]] == [True, False]
    assert document["rows"][1]["max_abs_error"] == "inf"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny", "tiny-parity.json"]
    assert (target / "manifest.json").read_text() == "earlier"


def test_a_block_that_ends_well_replaces_all(tmp_path: Path) -> None:
    target = tmp_path / "new/tiny"
    for text in ("first", "second"):
        with staged(target) as folder:
            assert not list(folder.iterdir())
            (folder / "manifest.json").write_text(text)
            (folder / text).touch()
    assert sorted(p.name for p in target.iterdir()) == ["manifest.json", "second"]
    assert [p.name for p in target.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_changes_nothing(tmp_path: Path, error: type) -> None:
    target = tmp_path / "tiny"
    earlier_export(target)
    with pytest.raises(error), staged(target) as folder:
        (folder / "manifest.json").write_text("half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]
    assert sorted(p.name for p in target.iterdir()) == ["manifest.json", "stale.plan"]


def test_a_folder_that_is_no_export_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    target.mkdir()
    (target / "thesis.tex").touch()
    with pytest.raises(InvalidRequest, match="is not replaced"), staged(target):
        pass
    assert (target / "thesis.tex").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="is not replaced"), staged(tmp_path / "file"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = pytest.raises(InvalidRequest, match="file cannot be written")
    with refused, staged(tmp_path / "file/tiny"):
        pass


def test_errors_are_one_family() -> None:
    for kind in (InvalidRequest, ParityError, UnexportableGraph):
        assert issubclass(kind, ExportError)


def test_export_is_what_it_returns(tiny_export: Export) -> None:
    assert onnx.load(tiny_export.folder / tiny_export.manifest.engines[0].file).ir_version >= 8
