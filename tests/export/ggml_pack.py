# SPDX-License-Identifier: Apache-2.0
"""Packs weights in any format of ggml, by llama.cpp's own function. gguf-py makes no K-quants."""

from __future__ import annotations

import ctypes
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Kind

from tests.llama_library import library

FLOATS = {Kind.F32: np.float32, Kind.F16: np.float16}


def pack(weight: npt.NDArray[Any], kind: Kind) -> npt.NDArray[Any]:
    """float32 [N, K] -> uint8 [N, bytes] of a format of blocks, or floats of 16 or 32 bits."""
    if kind in FLOATS:
        return weight.astype(FLOATS[kind])
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = weight.shape
    source = np.ascontiguousarray(weight, np.float32)
    packed = np.zeros((rows, columns // numbers * size), np.uint8)
    places = ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(packed.ctypes.data)
    sizes = (ctypes.c_int64(number) for number in (0, rows, columns))
    written = library().ggml_quantize_chunk(int(kind), *places, *sizes, None)
    assert written == packed.nbytes
    return packed
