# SPDX-License-Identifier: Apache-2.0
"""Real operands: rows of SmolLM2-135M's first product.

x is the input of layer 0's attention for random tokens: embeddings, RMS-normalised, times the
norm's weight. y is rows of that layer's query weight. Both are what the model's Q4_1 file holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from gsqc.models.catalogue import find_model
from gsqc.numerics.formats import GROUP
from hardware.group_formats import Numbers

EPSILON = 1e-5
"""Of the model's norms."""


@dataclass(frozen=True)
class Rows:
    """Both sides of `streams` × `each` products: [streams, each, 18 groups, 32]."""

    x: Numbers
    y: Numbers


def model_rows(streams: int, each: int, seed: int = 0) -> Rows:
    """Random tokens and random rows of the weight. Raises ModelError without the model."""
    tensors = {t.name: t for t in GGUFReader(find_model("smollm2-135m")).tensors}

    def read(name: str) -> Numbers:
        tensor = tensors[name]
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float64)

    rng = np.random.default_rng(seed)
    count = streams * each
    table, weight = read("token_embd.weight"), read("blk.0.attn_q.weight")
    x = table[rng.choice(len(table), count, replace=False)]
    x = x / np.sqrt((x * x).mean(1, keepdims=True) + EPSILON) * read("blk.0.attn_norm.weight")
    y = weight[rng.choice(len(weight), count, replace=count > len(weight))]
    return Rows(*(side.reshape(streams, each, -1, GROUP) for side in (x, y)))
