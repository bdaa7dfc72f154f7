# SPDX-License-Identifier: Apache-2.0
"""experts_linear: the first product of all experts, whose matrices stand one below the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.ops.layout import join_rows, reshape
from gsqc.numerics.ops.linear import product, product_gradient, to_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Calls, Case, cases, composite


@composite
def experts_linear(
    call: Calls, x: Row, w: Row, *, experts: int, x_bits: int, w_bits: int, bits: int
) -> Row:
    """x [T, K], w [E·N, K] -> Row-bits [T, E, N].

    As `linear`, but the result of each expert is a row of its own. So no expert's numbers are
    rounded to the size of another's.
    """
    c, row_e, column_e, offset = product(call, x, w, x_bits=x_bits, w_bits=w_bits)
    tokens, columns = call.type_of(c).shape
    width = columns // experts
    y: Row = call(
        to_row,
        call(reshape, c, shape=(tokens, experts, width)),
        call(reshape, row_e, shape=(tokens, 1, 1)),
        call(reshape, column_e, shape=(1, experts, width)),
        offset=offset,
        bits=bits,
    )
    return y


@experts_linear.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    bits = (call.attributes["x_bits"], call.attributes["w_bits"], g.gradient_bits(call))
    rows = g.call(join_rows, dy)
    return list(product_gradient(g, rows, call.args[0], call.args[1], bits, call.needs))


@cases(experts_linear)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    widths = {"x_bits": 8, "w_bits": 8, "bits": 16, "experts": 3}
    yield Case("ragged", [random_row(rng, (5, 40), 16), random_row(rng, (21, 40), 24)], widths)
