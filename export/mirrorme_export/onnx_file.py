"""One torch graph to one ONNX file: dynamic batch, fixed otherwise, the same bytes each time."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import torch
from mirrorme_engines.manifest import EXTERNAL_DATA_SUFFIX
from torch.onnx import OnnxExporterError

from mirrorme_export.engine_graphs import EngineGraph
from mirrorme_export.errors import UnexportableGraph

OPSET = 20
"""The newest that decomposes attention, as every runtime wants it (facts/serving.md 4.4, 4.5)."""
EXAMPLE_BATCH = 2
"""With 1, torch's optimiser would bake the batch into reshapes."""
MAX_EMBEDDED_BYTES = 1 << 30
"""Weights above this go into a file of their own: protobuf ends at 2 GiB."""


def write_onnx(
    graph: EngineGraph, path: Path, *, max_embedded_bytes: int = MAX_EMBEDDED_BYTES
) -> None:
    """Exports a graph to `path`, and large weights to `<path>.data`.

    Raises:
        UnexportableGraph: naming the graph, with torch's reason.
    """
    inputs = graph.example_inputs(EXAMPLE_BATCH, 0)
    batch = torch.export.Dim("batch")
    try:
        with _quiet():
            program = torch.onnx.export(
                graph.module,
                inputs,
                input_names=list(graph.input_names),
                output_names=list(graph.output_names),
                dynamic_shapes=tuple({0: batch} for _ in inputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except (OnnxExporterError, RuntimeError) as error:
        raise UnexportableGraph(f"{graph.name} cannot be exported: {error}") from error
    assert program is not None
    model = program.model
    _declare_outputs(model, graph, inputs)
    _strip(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    external = path.name + EXTERNAL_DATA_SUFFIX
    size_bytes = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value
    )
    ir.save(model, path, external_data=external if size_bytes > max_embedded_bytes else None)


def _declare_outputs(model: ir.Model, graph: EngineGraph, inputs: tuple[torch.Tensor, ...]) -> None:
    """Says what torch knows and shape inference may lose: all but the batch is fixed."""
    for value, output in zip(model.graph.outputs, graph.run(inputs), strict=True):
        value.shape = ir.Shape(["batch", *output.shape[1:]])


def _strip(model: ir.Model) -> None:
    """Removes what tells of the machine that exported: stack traces with paths, and the like."""
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.doc_string = None
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back the exporter's notes, which are about its own workings."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
