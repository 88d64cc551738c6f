"""The `mirrorme-export` command: torch to ONNX, and from there to Triton and TensorRT."""

from __future__ import annotations

import click

from mirrorme_export.onnx_command import onnx_command
from mirrorme_export.repository_command import repository_command
from mirrorme_export.tensorrt_command import tensorrt_command
from mirrorme_export.triton_command import triton_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Export models for serving.

    `onnx` comes first and is all that in-process engines need; `tensorrt` builds plans of its
    engines, and `triton` makes its folder a Triton model repository. `repository` does both for a
    server that is about to start, from an export that it only reads.
    """


main.add_command(onnx_command)
main.add_command(repository_command)
main.add_command(tensorrt_command)
main.add_command(triton_command)
