# SPDX-License-Identifier: Apache-2.0
"""The GGUF container, version 2 and 3: metadata by key and tensors by name.

Read here and not with gguf.GGUFReader, because a model file comes from anywhere: every length is
held against what is left of the file before it is used, so that a damaged file ends in a sentence
and not in an endless loop. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from gsqc.errors import ModelError
from gsqc.files.reading import open_file
from gsqc.limits import MAXIMUM_VOCABULARY
from gsqc.models.ggml_blocks import READABLE

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_MOST_ENTRIES = 1 << 20
"""Values of the metadata, and tensors."""
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class Block:
    """A tensor as stored: uint8 rows [N, bytes per row], ggml's type name, and its shape (N, K) or
    (K,).
    """

    raw: npt.NDArray[np.uint8]
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GgufFile:
    """Metadata by key (numbers, strings, lists), and tensors by ggml's names."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Block]


class _Cursor:
    def __init__(self, data: npt.NDArray[np.uint8], path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def damaged(self, what: str) -> ModelError:
        return ModelError(
            f"{self.path.name} is damaged: {what}",
            "the file is incomplete or changed: fetch it again",
        )

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise self.damaged(f"it ends at byte {len(self.data)}, within its header")
        self.at += count
        return self.data[self.at - count : self.at].tobytes()

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def string(self) -> str:
        try:
            return self.take(self.number("<Q")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a string is not UTF-8") from error

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise self.damaged(f"a value has the unknown type {kind}")
        element, count = self.number("<I"), self.number("<Q")
        if count > MAXIMUM_VOCABULARY:
            raise self.damaged(f"a list of {count} values")
        if element in _SCALARS:
            code = _SCALARS[element]
            return np.frombuffer(self.take(count * struct.calcsize(code)), code).tolist()
        if element != _STRING:
            raise self.damaged(f"a list has elements of type {element}")
        return [self.string() for _ in range(count)]


def read_gguf(path: Path) -> GgufFile:
    """Open a .gguf file, or all parts of one that was split, whichever of them `path` is.

    Tensors are views of the mapped files, and the metadata is that of the first part. Raises
    ModelError.
    """
    file = _read_part(path)
    count = file.metadata.get("split.count")
    if count is None or count == 1:
        return file
    name = _PART.fullmatch(path.name)
    if name is None or type(count) is not int or int(name[2]) != count:
        raise ModelError(
            f"{path.name} is one of {count} parts, and its name does not say which",
            "give the parts the names that they had: NAME-00001-of-0000N.gguf",
        )
    parts = [path.with_name(f"{name[1]}-{k:05d}-of-{name[2]}.gguf") for k in range(1, count + 1)]
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise ModelError(
            f"{path.name} is one of {count} parts, and {missing[0]} is not beside it",
            "put all parts into one directory",
        )
    return _joined([_read_part(part) for part in parts])


def _joined(parts: list[GgufFile]) -> GgufFile:
    """One file of its parts in order. ModelError if they are not the parts of one file."""
    first, tensors = parts[0], dict[str, Block]()
    for k, part in enumerate(parts):
        if (part.metadata.get("split.no"), part.metadata.get("split.count")) != (k, len(parts)):
            raise ModelError(
                f"{part.path.name} is not part {k + 1} of {len(parts)}", "fetch it again"
            )
        tensors |= part.tensors
    said, found = first.metadata.get("split.tensors.count"), sum(len(p.tensors) for p in parts)
    if found != len(tensors) or said not in (None, found):
        raise ModelError(
            f"the parts of {first.path.name} do not fit together: they have {found} tensors, "
            f"{len(tensors)} of different names, and the first part says {said}",
            "fetch all parts again",
        )
    return GgufFile(first.path, first.metadata, tensors)


def _read_part(path: Path) -> GgufFile:
    """A .gguf file that may be one of several."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = np.memmap(file, np.uint8, "r") if size else np.zeros(0, np.uint8)
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror}", "check the path and its permissions"
        ) from error
    if data[:4].tobytes() != _MAGIC:
        raise ModelError(
            f"{path.name} is not a GGUF file", "give a .gguf file or a Hugging Face directory"
        )
    cursor = _Cursor(np.asarray(data), path)
    cursor.at = len(_MAGIC)
    version = cursor.number("<I")
    if version not in _VERSIONS:
        raise ModelError(
            f"{path.name} has GGUF version {version}", "gsqc reads little-endian versions 2 and 3"
        )
    tensor_count, value_count = cursor.number("<Q"), cursor.number("<Q")
    for count in (tensor_count, value_count):
        if count > _MOST_ENTRIES:
            raise cursor.damaged(f"it has {count} entries")
    metadata: dict[str, Any] = {}
    for _ in range(value_count):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.number("<I"))
    return GgufFile(path, metadata, _tensors(cursor, tensor_count, metadata))


def _tensors(cursor: _Cursor, count: int, metadata: dict[str, Any]) -> dict[str, Block]:
    entries: list[tuple[str, tuple[int, ...], int, int]] = []
    for _ in range(count):
        name, rank = cursor.string(), cursor.number("<I")
        if not 1 <= rank <= _MOST_DIMENSIONS:
            raise cursor.damaged(f"{name} has {rank} dimensions")
        shape = tuple(cursor.number("<Q") for _ in range(rank))[::-1]
        entries.append((name, shape, cursor.number("<I"), cursor.number("<Q")))
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise cursor.damaged(f"its alignment is {alignment}")
    start = -(-cursor.at // alignment) * alignment
    tensors = {
        name: _tensor(cursor, name, shape, kind, start + offset)
        for name, shape, kind, offset in entries
    }
    if len(tensors) != count:
        raise cursor.damaged("two tensors have the same name")
    return tensors


def _tensor(cursor: _Cursor, name: str, shape: tuple[int, ...], kind: int, at: int) -> Block:
    try:
        quantisation = GGMLQuantizationType(kind)
        numbers, size = GGML_QUANT_SIZES[quantisation]
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"{name} of {cursor.path.name} has the unknown tensor type {kind}",
            f"gsqc reads {READABLE}",
        ) from error
    if shape[-1] % numbers or 0 in shape:
        raise cursor.damaged(f"{name} has the shape {list(shape)} in type {quantisation.name}")
    row_bytes = shape[-1] // numbers * size
    rows = int(np.prod(shape[:-1], dtype=object))
    end = at + rows * row_bytes
    if end > len(cursor.data):
        raise cursor.damaged(f"{name} ends at byte {end}, the file at {len(cursor.data)}")
    return Block(cursor.data[at:end].reshape(rows, row_bytes), quantisation.name, shape)
