# SPDX-License-Identifier: Apache-2.0
"""Float formats of exported weights, and a safetensors file of them written one tensor at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import ExportError
from gsqc.export.adapter import Float32

FLOAT_TYPES = {
    "f32": ("F32", "float32", 4),
    "f16": ("F16", "float16", 2),
    "bf16": ("BF16", "bfloat16", 2),
}
"""By the name that --dtype takes: safetensors' name, torch's name, bytes of a number."""
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
        raise ExportError("a weight is larger than float16 holds", "choose --dtype bf16 or f32")
    return half


def write_float_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, read: Callable[[str], Float32]
) -> None:
    """A safetensors file with the tensors of `shapes`, each read, encoded and written in turn."""
    kind, _, size = FLOAT_TYPES[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * size
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            data = np.ascontiguousarray(encode_floats(read(name), dtype))
            assert data.shape == shape
            file.write(data.reshape(-1).view(np.uint8).data)
