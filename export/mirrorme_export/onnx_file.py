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
from onnx_ir.passes import common
from onnxscript import optimizer
from torch.onnx import OnnxExporterError

from mirrorme_export.batch_invariance import mean_by_convolution
from mirrorme_export.engine_graphs import EngineGraph
from mirrorme_export.errors import UnexportableGraph
from mirrorme_export.late_initializers import give_weights

OPSET = 20
"""The newest that decomposes attention, as every runtime wants it."""
EXAMPLE_BATCH = 2
"""torch takes 0 and 1 for special cases, not for examples of any size."""
MAX_CPU_BYTES = 1 << 28
"""Engines with more weights are for GPUs, whose kernels promise no equal bits: norms stay norms."""
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
                optimize=False,
            )
            assert program is not None
            model = program.model
            if graph.late:
                give_weights(model, graph.late)
            _simplify(model)
            _cast_pictures_first(model)
            if _weight_bytes(model) <= MAX_CPU_BYTES:
                mean_by_convolution(model)
    except (OnnxExporterError, RuntimeError) as error:
        raise UnexportableGraph(f"{graph.name} cannot be exported: {error}") from error
    _check_inputs(model, graph)
    _declare_outputs(model, graph, inputs)
    _strip(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    external = path.name + EXTERNAL_DATA_SUFFIX
    ir.save(
        model, path, external_data=external if _weight_bytes(model) > max_embedded_bytes else None
    )


def _weight_bytes(model: ir.Model) -> int:
    values = model.graph.initializers.values()
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


def _simplify(model: ir.Model) -> None:
    """Folds constants and joins equal nodes.

    torch's own `optimize` also rewrites patterns, which takes as long as the export, makes no
    difference to ONNX Runtime, and bakes the example's batch into some reshapes.
    """
    optimizer.fold_constants(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.DeduplicateInitializersPass()(model)


def _cast_pictures_first(model: ir.Model) -> None:
    """Lets a uint8 input's cast be all that touches it, as TensorRT wants it."""
    for value in model.graph.inputs:
        casts = [node for node in value.consumers() if node.op_type == "Cast"]
        if value.dtype != ir.DataType.UINT8 or len(casts) != 1:
            continue
        for node, index in list(value.uses()):
            if node is not casts[0]:
                node.replace_input_with(index, casts[0].outputs[0])
    model.graph.sort()


def _check_inputs(model: ir.Model, graph: EngineGraph) -> None:
    """torch bakes a batch in that a graph compares with a number, without a word."""
    found = [value.name for value in model.graph.inputs]
    if found != list(graph.input_names):
        raise UnexportableGraph(f"{graph.name} has inputs {found}: want {list(graph.input_names)}")
    for value in model.graph.inputs:
        if value.shape is None or not value.shape or isinstance(value.shape[0], int):
            raise UnexportableGraph(
                f"{graph.name} cannot be exported: it works for batches of {EXAMPLE_BATCH} alone"
            )


def _declare_outputs(model: ir.Model, graph: EngineGraph, inputs: tuple[torch.Tensor, ...]) -> None:
    """Says what torch knows and shape inference may lose: all but the batch is fixed."""
    for value, output in zip(model.graph.outputs, graph.outputs_like(inputs), strict=True):
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
    names = ("torch", "torch.__trace", "torch.onnx", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
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
