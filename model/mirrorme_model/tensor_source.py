"""Weights by name, read one at a time: no more of them is in memory than is asked for.

A file is mapped into memory for one tensor and let go again, so that reading a checkpoint costs the
memory of the model alone. Weights merged with others (`lora.MergedSource`) are one more source
around these: it changes what `read` gives, and nothing else has to know.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mirrorme_model.errors import CheckpointError

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
_STORED_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class TensorSource(Protocol):
    """Tensors that are read when they are needed."""

    @property
    def shapes(self) -> Shapes:
        """Of all tensors, by name."""
        ...

    def read(self, name: str) -> Tensor:
        """One tensor: float32, on the CPU, in memory of its own."""
        ...


class MemorySource:
    """Tensors that are in memory already."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.shapes: Shapes = {name: tuple(t.shape) for name, t in tensors.items()}

    def read(self, name: str) -> Tensor:
        """See `TensorSource`."""
        return self._tensors[name].detach().to("cpu", torch.float32, copy=True).contiguous()


class SafetensorsSource:
    """The tensors of safetensors files, whose names do not overlap."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Reads the files' headers.

        Raises:
            CheckpointError: a file cannot be read, or stores a type that is no float of 16 or 32
                bits.
        """
        self._files: dict[str, Path] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for path in paths:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 - it is no dict
                        stored = file.get_slice(name)
                        _check_type(path, name, stored.get_dtype())
                        if name in shapes:
                            raise CheckpointError(
                                f"{name} is both in {self._files[name]} and {path}"
                            )
                        shapes[name] = tuple(stored.get_shape())
                        self._files[name] = path
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{path} cannot be read: {error}") from error
        self.shapes: Shapes = shapes

    def read(self, name: str) -> Tensor:
        """See `TensorSource`."""
        path = self._files[name]
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor(name).to(torch.float32, copy=True)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {name} cannot be read: {error}") from error


class PickleSource:
    """The tensors of a `pytorch_model.bin`; nothing but tensors is unpickled."""

    def __init__(self, path: Path) -> None:
        """Maps the file into memory, or reads it whole if it is of PyTorch's oldest format.

        Raises:
            CheckpointError: the file cannot be read, or holds something else than tensors by name.
        """
        try:
            tensors = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        if not isinstance(tensors, dict) or not all(
            isinstance(tensor, Tensor) for tensor in tensors.values()
        ):
            raise CheckpointError(f"{path} does not hold tensors by name")
        self._memory = MemorySource(tensors)
        self.shapes = self._memory.shapes

    def read(self, name: str) -> Tensor:
        """See `TensorSource`."""
        return self._memory.read(name)


class RenamedSource:
    """Some tensors of another source, under other names."""

    def __init__(self, source: TensorSource, names: Mapping[str, str]) -> None:
        """`names` maps the new names to the source's."""
        self._source, self._names = source, names
        self.shapes: Shapes = {new: source.shapes[old] for new, old in names.items()}

    def read(self, name: str) -> Tensor:
        """See `TensorSource`."""
        return self._source.read(self._names[name])


class JoinedSource:
    """Several sources as one; the first that has a name gives it."""

    def __init__(self, *sources: TensorSource) -> None:
        self._of: dict[str, TensorSource] = {}
        for source in reversed(sources):
            self._of |= dict.fromkeys(source.shapes, source)
        self.shapes: Shapes = {name: source.shapes[name] for name, source in self._of.items()}

    def read(self, name: str) -> Tensor:
        """See `TensorSource`."""
        return self._of[name].read(name)


def _check_type(path: Path, name: str, stored: str) -> None:
    if stored not in _STORED_TYPES:
        raise CheckpointError(
            f"{path} stores {name} as {stored}: want {', '.join(_STORED_TYPES.values())}; "
            "quantised checkpoints are not supported"
        )
