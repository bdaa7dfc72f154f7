# SPDX-License-Identifier: Apache-2.0
"""Tensors of a GGUF file as numbers."""

from __future__ import annotations

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from gsqc.errors import ModelError
from gsqc.models.ggml_blocks import READABLE
from gsqc.models.loaded import Float32, GgufTensor
from gsqc.models.readers.gguf_file import Block, GgufFile


def float32_of(block: Block | GgufTensor) -> Float32:
    """The numbers of a tensor in its own shape."""
    array: Float32 = dequantize(np.ascontiguousarray(block.raw), GGMLQuantizationType[block.type])
    return np.asarray(array, np.float32).reshape(block.shape)


def check_types(file: GgufFile) -> None:
    """ModelError if a tensor is of a type whose numbers cannot be read."""
    for kind in sorted({block.type for block in file.tensors.values()}):
        quantisation = GGMLQuantizationType[kind]
        try:
            dequantize(np.zeros((1, GGML_QUANT_SIZES[quantisation][1]), np.uint8), quantisation)
        except NotImplementedError as error:
            raise ModelError(
                f"{file.path.name} has tensors of type {kind}", f"gsqc reads {READABLE}"
            ) from error
