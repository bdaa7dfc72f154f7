# SPDX-License-Identifier: Apache-2.0
"""Tensors of a GGUF file in one of the types that a merged model may have."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import ExportError

GGUF_TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""ggml's name of each number type, by the name in --dtype."""


def ggml_type(gguf: Any, dtype: str) -> Any:
    """ggml's type of the numbers that --dtype names."""
    return gguf.GGMLQuantizationType[GGUF_TYPES[dtype]]


def file_type(gguf: Any, dtype: str) -> Any:
    """What a file with these numbers says of its type."""
    name = GGUF_TYPES[dtype]
    return gguf.LlamaFileType["ALL_F32" if name == "F32" else f"MOSTLY_{name}"]


def announce(gguf: Any, writer: Any, name: str, shape: tuple[int, ...], kind: Any) -> None:
    """Tell the writer a tensor's shape and type. Its data follow in the same order."""
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    stored = (*shape[:-1], shape[-1] // numbers * size)
    writer.add_tensor_info(name, stored, np.dtype(np.uint8), int(np.prod(stored)), raw_dtype=kind)


def encoded(gguf: Any, rows: npt.NDArray[Any], kind: Any) -> npt.NDArray[Any]:
    """Weights in a ggml type. ExportError if float16 cannot hold one of them."""
    with np.errstate(over="ignore"):
        data: npt.NDArray[Any] = gguf.quants.quantize(rows, kind)
    if kind == gguf.GGMLQuantizationType.F16 and not np.isfinite(data).all():
        raise ExportError("a weight is too large for float16", "choose --dtype bf16 or f32")
    return data
