# SPDX-License-Identifier: Apache-2.0
"""The two orders of the rows of q and k: rotary pairs (2j, 2j + 1) of a head in GGUF, (j, j + D/2)
in Hugging Face.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def split_half_order(rows: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Rows of q or k [H·D, …] from GGUF's order, pairs (2j, 2j + 1) of a head, to Hugging Face's,
    (j, j + D/2).
    """
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def pair_order(rows: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """The inverse of `split_half_order`."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
