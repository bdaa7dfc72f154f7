# SPDX-License-Identifier: Apache-2.0
"""An adapter's fixed-point numbers as float32 and back.

The value of an int32 is p / 2^24 (docs/number-format.md). A float32 holds 24 significant bits, so
every number up to 1 in magnitude is exact. A larger one, up to 64, is rounded to the nearest
float32, half to even, with a relative error of 2^-24 at most.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
FRACTION_BITS = 24


def to_float32(p: Int32) -> Float32:
    """int32 with 24 fraction bits -> float32.

    It is exact up to 1 in magnitude, and else rounded to nearest, half to even.
    """
    return np.ldexp(p.astype(np.float64), -FRACTION_BITS).astype(np.float32)


def to_int32(values: npt.NDArray[Any]) -> tuple[Int32, int]:
    """Finite floats -> int32 with 24 fraction bits, and how many of them changed.

    They are rounded half to even and clamped below 64. A float32 of 1/2 or more has no bits below
    2^-24, so it is exact. A smaller one is off by 2^-25 at most.
    """
    exact = np.ldexp(values.astype(np.float64), FRACTION_BITS)
    limit = 2.0**30 - 1
    p = np.rint(exact).clip(-limit, limit)
    return p.astype(np.int32), int((p != exact).sum())
