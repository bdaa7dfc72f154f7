# SPDX-License-Identifier: Apache-2.0
"""U·V: what codes have lost of a weight, in low rank, as a bundle holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.models.codes import encode_row16, row16_floats

Array = npt.NDArray[Any]
LOW_RANK, FACTORS = "lorc_", "uv"


def array_name(factor: str, key: str) -> str:
    """The name of an array of U or V in a bundle, behind that of the weight."""
    return f"{LOW_RANK}{factor}_{key}"


def factors(error: Array, rank: int) -> tuple[Array, Array]:
    """float [n, k] -> U [n, rank] and V [rank, k] with the least |error - U·V|, by the eigenvectors
    of the smaller of E·Eᵀ and Eᵀ·E in float64.

    A column of U is as long as the row of V. They are zero beyond the rank of the error itself.
    """
    wide = error.astype(np.float64)
    if wide.shape[0] > wide.shape[1]:
        v, u = factors(wide.T, rank)
        return u.T, v.T
    powers, vectors = np.linalg.eigh(wide @ wide.T)
    kept = min(rank, len(wide))
    roots = np.sqrt(np.sqrt(np.maximum(powers[::-1][:kept], 0)))
    left = vectors[:, ::-1][:, :kept]
    right = left.T @ wide
    right = np.divide(right, roots[:, None], out=np.zeros_like(right), where=roots[:, None] > 0)
    missing = rank - kept
    return np.pad(left * roots, ((0, 0), (0, missing))), np.pad(right, ((0, missing), (0, 0)))


def low_rank_arrays(error: Array, rank: int) -> dict[str, Array]:
    """U and V in 16 bits, by their names in the bundle: mantissas, and exponents of their rows."""
    return {
        array_name(name, key): array
        for name, factor in zip(FACTORS, factors(error, rank), strict=True)
        for key, array in encode_row16(factor).arrays.items()
    }


def product(arrays: Mapping[str, Array]) -> Array:
    """U·V in float64, of the arrays of a bundle, flat or not."""
    u, v = (
        row16_floats(arrays[array_name(name, "codes")], arrays[array_name(name, "exponents")])
        for name in FACTORS
    )
    return np.asarray(u @ v)


def rank_of(types: Mapping[str, Any]) -> int:
    """The rank of U and V, from arrays or their types by the names in a bundle."""
    return int(types[array_name("v", "codes")].shape[0])
