# SPDX-License-Identifier: Apache-2.0
"""Encodes exported weights as floats, and writes a safetensors file one tensor at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import ExportError
from gsqc.export.fixed_point import Float32
from gsqc.files.writing import create_file

FLOAT_TYPES = {
    "f32": ("F32", "float32", 4),
    "f16": ("F16", "float16", 2),
    "bf16": ("BF16", "bfloat16", 2),
}
"""safetensors' name, torch's name and bytes of each number type, by the name in --dtype."""
_ALIGNMENT = 64


def encode_floats(values: Float32, dtype: str) -> npt.NDArray[Any]:
    """float32 -> the bits of `dtype` (bf16 as uint16), rounded to nearest, half to even.

    ExportError on overflow.
    """
    if dtype == "f32":
        return values
    if dtype == "bf16":
        pattern = np.ascontiguousarray(values).view(np.uint32)
        rounded: npt.NDArray[Any] = ((pattern + 0x7FFF + ((pattern >> 16) & 1)) >> 16).astype(
            np.uint16
        )
        return rounded
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError("a weight is too large for float16", "choose --dtype bf16 or f32")
    return half


def write_float_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, read: Callable[[str], Float32]
) -> None:
    """Write a safetensors file with the tensors of `shapes`, one after the other."""
    kind, _, size = FLOAT_TYPES[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * size
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with create_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            data = np.asarray(encode_floats(read(name), dtype), order="C")
            assert data.shape == shape
            file.write(data.reshape(-1).view(np.uint8).data)
