# SPDX-License-Identifier: Apache-2.0
"""unrotate: rows in the coordinates of matmul operands become plain rows.

The Hadamard matrix H of a group is its own inverse but for a factor: H·H = 32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gsqc.numerics.formats import ROTATION_SHIFT, Row
from gsqc.numerics.operators.builder import Builder
from gsqc.numerics.ops.primitives import normalise, store_row
from gsqc.numerics.ops.quantise import random_row, rotate_groups
from gsqc.numerics.ops.registry import Case, Kind, cases, op


@op(Kind.ROW)
def unrotate(b: Builder, x: Row, *, columns: int, bits: int) -> Row:
    """x [..., n] Row of at most 24 bits, n whole groups -> H·x / 32, Row-bits [..., columns].

    The sums are exact, and rounded once.
    """
    y, e = rotate_groups(x)
    y = y.reshape(*x.shape).slice((0,) * len(x.shape), (*x.shape[:-1], columns))
    return store_row(*normalise(y, e - ROTATION_SHIFT, bits), bits)


@cases(unrotate)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, bits in (("to row-24", 24), ("to row-16", 16)):
        yield Case(name, [random_row(rng, (5, 96), 24)], {"columns": 96, "bits": bits})
    yield Case("ragged", [random_row(rng, (2, 5, 64), 16)], {"columns": 40, "bits": 24})
    one = np.zeros((4, 32), np.int32)
    one[range(4), (0, 1, 30, 31)] = 2**23 - 1
    yield Case(
        "one number", [Row(one, np.full((4, 1), -5, np.int32), 24)], {"columns": 32, "bits": 24}
    )
