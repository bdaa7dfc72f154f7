# SPDX-License-Identifier: Apache-2.0
"""Between integers and floats, for tests: what a value stands for, and a float tensor as a Row."""

from __future__ import annotations

import numpy as np

from gsqc.numerics.formats import Gse, Row


def to_float(value: Row | Gse) -> np.ndarray:
    """m · 2^e (or m · 2^(e - d)) in float64, exact."""
    m = np.asarray(value.m, np.float64)
    if isinstance(value, Gse):
        exponent = np.asarray(value.e) - np.repeat(np.asarray(value.d, np.int32), 32, axis=-1)
        return np.ldexp(m, exponent)
    return np.ldexp(m, np.broadcast_to(value.e, m.shape))


def to_row(x: np.ndarray, bits: int) -> Row:
    """x [..., n] rounded to a Row with `bits` bits."""
    top = np.abs(x).max(-1, keepdims=True)
    exponent = np.where(top > 0, np.frexp(top)[1] - (bits - 1), -120).astype(np.int32)
    limit = 2 ** (bits - 1) - 1
    m = np.clip(np.rint(np.ldexp(x, -exponent)), -limit, limit)
    return Row(m.astype(np.int16 if bits <= 16 else np.int32), exponent, bits)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Root of the summed squared error over that of the reference."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
