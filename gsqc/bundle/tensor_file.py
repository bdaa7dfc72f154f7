# SPDX-License-Identifier: Apache-2.0
"""Safetensors files without copies: written piece by piece, and read as views of the mapped file.

The safetensors library copies on both ways. A session would hold the base twice while it starts,
and the state twice while it is saved. The files are the same.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gsqc.bundle.json_text import read_json
from gsqc.bundle.plan import ALIGNMENT, TensorPlan, element_count

Array = npt.NDArray[Any]
_DTYPES = {"I8": "int8", "U8": "uint8", "I16": "int16", "I32": "int32"}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
MAXIMUM_HEADER_BYTES = 100_000_000
"""As in the safetensors library."""


@dataclass(frozen=True)
class LateTensor:
    """A tensor that is made when it is written. `make` gives an array of this type and shape."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    make: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.dtype.itemsize * math.prod(self.shape)


def array_of(tensor: Array | LateTensor) -> Array:
    """The tensor itself."""
    return tensor.make() if isinstance(tensor, LateTensor) else tensor


def tensor_file(
    tensors: Mapping[str, Array | LateTensor], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """The content of a safetensors file, in pieces.

    Tensors whose size is a multiple of ALIGNMENT come first, so each of them begins at one. Within
    both parts they go by name.
    """
    names = sorted(tensors, key=lambda name: (tensors[name].nbytes % ALIGNMENT != 0, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in names:
        array = tensors[name]
        end = position + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        tensor, array = tensors[name], array_of(tensors[name])
        assert (array.dtype, array.shape) == (tensor.dtype, tensor.shape), name
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


class MappedTensors(Mapping[str, Array]):
    """The tensors of a safetensors file by name, flat. Those that it does not align are copied.

    metadata  the texts of its header by name

    Raises ValueError if it is no safetensors file of integers, and OSError if it cannot be read.
    Writing to a tensor does not change the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Map an open file. It may be closed afterwards."""
        self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        length = int.from_bytes(self._memory[:8], "little")
        if not 2 <= length <= min(MAXIMUM_HEADER_BYTES, len(self._memory) - 8):
            raise ValueError("its header is longer than the file")
        header = read_json(self._memory[8 : 8 + length])
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        self.metadata = _metadata(header.pop("__metadata__", {}))
        data = np.frombuffer(self._memory, np.uint8, offset=8 + length)
        self._tensors = {name: _tensor(data, entry) for name, entry in header.items()}

    def __getitem__(self, name: str) -> Array:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def release_pages(self) -> None:
        """Let the system drop the pages that were read. It reads them again when needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)


def check_tensors(tensors: Mapping[str, Array], expected: Mapping[str, TensorPlan]) -> None:
    """Raise ValueError unless each expected tensor is there, with its type and size."""
    for name, plan in expected.items():
        if name not in tensors:
            raise ValueError(f"it has no tensor {name}")
        tensor = tensors[name]
        if tensor.dtype != np.dtype(plan.dtype) or tensor.size != plan.count:
            raise ValueError(
                f"{name} has {tensor.size} elements of {tensor.dtype} "
                f"and should have {plan.count} of {plan.dtype}"
            )


def _metadata(data: Any) -> dict[str, str]:
    """The texts of the header by name."""
    texts = [*data, *data.values()] if isinstance(data, dict) else [None]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ValueError("its metadata are no texts")
    return dict(data)


def _tensor(data: Array, entry: Any) -> Array:
    """A tensor of the data section, by its entry in the header."""
    if not isinstance(entry, dict):
        raise ValueError("a tensor is no object")
    name, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(name, str) or name not in _DTYPES:
        raise ValueError("a tensor has no known type")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError("a tensor has no shape or no place")
    dtype, count, (start, end) = np.dtype(_DTYPES[name]), element_count(shape), offsets
    if type(start) is not int or type(end) is not int:
        raise ValueError("an offset is no valid number")
    if not 0 <= start <= end <= data.size or count * dtype.itemsize != end - start:
        raise ValueError("a tensor leaves the file")
    part = data[start:end]
    if part.ctypes.data % ALIGNMENT == 0:
        return part.view(dtype)
    memory = np.empty(part.size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    copy = memory[first : first + part.size]
    np.copyto(copy, part)
    return copy.view(dtype)
