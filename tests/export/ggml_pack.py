# SPDX-License-Identifier: Apache-2.0
"""Packs weights in any format of ggml, by llama.cpp's own function. gguf-py makes no K-quants."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType as Kind

FLOATS = {Kind.F32: np.float32, Kind.F16: np.float16}


@cache
def _library() -> Any:
    package = pytest.importorskip("xllamacpp")
    library = ctypes.CDLL(str(package.xllamacpp.__file__))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    return library


def pack(weight: npt.NDArray[Any], kind: Kind) -> npt.NDArray[Any]:
    """float32 [N, K] -> uint8 [N, bytes] of a format of blocks, or floats of 16 or 32 bits."""
    if kind in FLOATS:
        return weight.astype(FLOATS[kind])
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = weight.shape
    source = np.ascontiguousarray(weight, np.float32)
    packed = np.zeros((rows, columns // numbers * size), np.uint8)
    written = _library().ggml_quantize_chunk(
        kind, source.ctypes.data, packed.ctypes.data, 0, rows, columns, None
    )
    assert written == packed.nbytes
    return packed
