"""`model.py` of Triton's Python backend: one ONNX file of a manifest, run by ONNX Runtime.

Copied into the model repository as it is, and run there by Triton's interpreter, so it imports
nothing of ours. Joins the calls that Triton's dynamic batcher hands over into one run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Its wheels report to their maker, and look at this only while they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]


class TritonPythonModel:
    """One instance of one engine. Triton calls its methods one after another, on one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the file that the configuration names.

        Raises:
            TritonModelException: the file is missing, or not the one that was exported.
        """
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        path = folder / _parameter(config, "onnx_file")
        want = _parameter(config, "onnx_sha256")
        got = _digest(path)
        if got != want:
            raise pb_utils.TritonModelException(
                f"{path} has sha256 {got}, the configuration wants {want}: "
                "the file is damaged or stale, export again"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(_parameter(config, "threads"))
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        # Between runs the cores belong to the other engines on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [tensor.name for tensor in self._session.get_inputs()]
        self._outputs = [tensor.name for tensor in self._session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs all requests in one batch, and gives each its own rows."""
        calls = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs]
            for request in requests
        ]
        try:
            return self._run(calls)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no other base
            # One call's values must not fail the calls that it was joined with.
            if len(calls) > 1:
                return [response for request in requests for response in self.execute([request])]
            failed = pb_utils.TritonError(f"ONNX Runtime: {error}", pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=failed)]

    def _run(self, calls: list[list[np.ndarray]]) -> list[Any]:
        joined = [
            arrays[0] if len(calls) == 1 else np.concatenate(arrays)
            for arrays in zip(*calls, strict=True)
        ]
        outputs: Sequence[Any] = self._session.run(
            self._outputs, dict(zip(self._inputs, joined, strict=True))
        )
        responses, start = [], 0
        for arrays in calls:
            end = start + len(arrays[0])
            tensors = [
                pb_utils.Tensor(name, output[start:end])
                for name, output in zip(self._outputs, outputs, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start = end
        return responses


def _parameter(config: dict[str, Any], key: str) -> str:
    return config["parameters"][key]["string_value"]


def _digest(path: Path) -> str:
    """The same as `mirrorme_engines.manifest.engine_sha256`."""
    digest = hashlib.sha256()
    external = path.with_name(path.name + ".data")
    try:
        for part in (path, external) if external.exists() else (path,):
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise pb_utils.TritonModelException(f"{path} cannot be read: {error}") from error
    return digest.hexdigest()
