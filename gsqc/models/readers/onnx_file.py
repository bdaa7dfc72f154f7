# SPDX-License-Identifier: Apache-2.0
"""The content of an .onnx file: its graph and its tensors, which may lie in files beside it.

Nothing of it is run here, and no library of operators is loaded. A tensor's file must lie in the
model's own directory, and its bytes within that file.
"""

from __future__ import annotations

import math
import mmap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsqc.errors import ModelError, OptionError
from gsqc.files.reading import open_file, read_file
from gsqc.models.readers.text_files import first_line

_MOST_BYTES = 2 << 30
"""What protobuf allows a file."""
TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""ONNX's numbers of the types that are read."""
_FIELDS = {1: "float_data", 11: "double_data", 7: "int64_data"}
"""Where a tensor has its numbers if they are not raw. Others are in int32_data."""
_MOST_AXES = 8


@dataclass(frozen=True)
class OnnxFile:
    """An .onnx file.

    graph    the GraphProto
    tensors  its initializers by name; those of files beside it are mapped into memory
    """

    path: Path
    graph: Any
    tensors: dict[str, Tensor]

    @property
    def stored(self) -> int:
        """How many numbers the file has."""
        return sum(t.numel() for t in self.tensors.values())


def read_onnx(path: Path) -> OnnxFile:
    """Read an .onnx file. Raises ModelError, and OptionError if the package onnx is missing."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError as error:
        raise OptionError(f"{error.name} is not installed", "pip install 'gsqc[onnx]'") from None
    try:
        model = onnx.ModelProto.FromString(read_file(path, most_bytes=_MOST_BYTES))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", "check the file") from error
    except (DecodeError, RuntimeError, ValueError) as error:
        raise damaged(path, f"it is no protobuf message ({first_line(error)})") from error
    _require_texts(model.graph, path)
    if not model.graph.node:
        raise damaged(path, "it has no operators")
    if model.functions:
        raise ModelError(
            f"{path.name} has {len(model.functions)} functions of its own",
            "inline them first: onnx.inliner.inline_local_functions",
        )
    if model.graph.sparse_initializer:
        raise ModelError(f"{path.name} has sparse tensors", "export it with dense ones")
    maps: dict[str, Any] = {}
    tensors = {t.name: _tensor(t, path, maps) for t in model.graph.initializer}
    return OnnxFile(path, model.graph, tensors)


def _require_texts(graph: Any, path: Path) -> None:
    """ModelError if a name is no Unicode: protobuf gives such a one as bytes."""
    waiting = [graph]
    while waiting:
        part = waiting.pop()
        names = [t.name for t in (*part.initializer, *part.input, *part.output)]
        for node in part.node:
            names += [node.op_type, node.domain, node.name, *node.input, *node.output]
            for attribute in node.attribute:
                names.append(attribute.name)
                waiting += [attribute.g] if attribute.HasField("g") else []
        if not all(isinstance(name, str) for name in names):
            raise damaged(path, "a name in it is no text")


def damaged(path: Path, what: str) -> ModelError:
    """The error of a file whose content contradicts itself."""
    return ModelError(f"{path.name} is damaged: {what}", "export or fetch it again")


def tensor_of(proto: Any, path: Path) -> Tensor:
    """A tensor that stands in the graph's own file, as an attribute does."""
    return _tensor(proto, path, {})


def _tensor(proto: Any, path: Path, maps: dict[str, Any]) -> Tensor:
    kind = TYPES.get(proto.data_type)
    shape = tuple(proto.dims)
    if kind is None:
        raise ModelError(
            f"{path.name} has a tensor {proto.name[:100]} of ONNX's type {proto.data_type}",
            "gsqc reads floats, integers of 8 to 64 bits and codes of MatMulNBits",
        )
    if any(size < 0 for size in shape) or len(shape) > _MOST_AXES:
        raise damaged(path, f"{proto.name[:100]} has the shape {list(shape)}")
    count = math.prod(shape)
    if proto.data_location == 1:
        raw: Any = _external(proto, path, maps)
    elif proto.HasField("raw_data"):
        raw = proto.raw_data
    else:
        return _listed(proto, path, kind, shape, count)
    if len(raw) != count * kind.itemsize:
        raise damaged(path, f"{proto.name[:100]} of shape {list(shape)} has {len(raw)} bytes")
    if not count:
        return torch.empty(shape, dtype=kind)
    return over_bytes(np.frombuffer(raw, np.uint8), kind).reshape(shape)


def over_bytes(array: Any, kind: torch.dtype) -> Tensor:
    """A tensor over bytes that nobody writes to. They are copied only if they are not aligned."""
    if array.ctypes.data % kind.itemsize:
        array = array.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the array is read-only
        return torch.from_numpy(array).view(kind)


def _listed(proto: Any, path: Path, kind: torch.dtype, shape: Any, count: int) -> Tensor:
    """A tensor whose numbers are a list. Halves are the bits of integers there."""
    values = getattr(proto, _FIELDS.get(proto.data_type, "int32_data"))
    if len(values) != count:
        raise damaged(path, f"{proto.name[:100]} of shape {list(shape)} has {len(values)} numbers")
    if kind in (torch.float16, torch.bfloat16):
        bits = np.asarray(values, np.int64).astype(np.uint16)
        return torch.from_numpy(bits.view(np.int16)).view(kind).reshape(shape)
    if kind.is_floating_point:
        return torch.tensor(list(values), dtype=kind).reshape(shape)
    return torch.from_numpy(np.asarray(values, np.int64)).to(kind).reshape(shape)


def _external(proto: Any, path: Path, maps: dict[str, Any]) -> memoryview:
    """The bytes of a tensor in a file beside the model's."""
    said = {entry.key: entry.value for entry in proto.external_data}
    location = said.get("location", "")
    if location not in maps:
        maps[location] = _mapped(location, path)
    try:
        offset, length = int(said.get("offset", 0)), int(said.get("length", -1))
    except ValueError:
        raise damaged(path, f"{proto.name[:100]} has no place in {location[:100]}") from None
    whole = memoryview(maps[location])
    length = len(whole) - offset if length < 0 else length
    if not 0 <= offset <= offset + length <= len(whole):
        raise damaged(path, f"{proto.name[:100]} lies beyond the end of {location[:100]}")
    return whole[offset : offset + length]


def _mapped(location: str, path: Path) -> Any:
    """A file of the model's directory, mapped into memory."""
    folder = path.parent.resolve()
    try:
        target = (folder / location).resolve()
        if not location or not target.is_relative_to(folder):
            raise ModelError(
                f"{path.name} names the file {location[:200]!r}, which is not in its directory",
                "put the model's files into one directory, without links to others",
            )
        with open_file(target, links=False) as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(
            f"{path.name} needs the file {location[:200]!r} beside it: {reason}",
            "fetch all files of the model",
        ) from error
