# SPDX-License-Identifier: Apache-2.0
"""row_product and scale_rows: numbers for whole rows, as a router gives them to experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder
from gsqc.numerics.ops.layout import join_rows, view
from gsqc.numerics.ops.linear import product_gradient
from gsqc.numerics.ops.primitives import narrow16, normalise, row_sum, store_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, op

LOGIT_BITS = 30
"""Bits of a router's logits: a choice between experts is not made by a rounding."""
ROUTER_BITS = 8
"""Bits of the operands of a router's gradient."""


@op(Kind.ROW)
def row_product(b: Builder, x: Row, y: Row) -> Row:
    """x, y [..., n] Row that broadcast, n ≤ 2^15 -> Σ x·y of each row, Row-30 [..., 1].

    Both are rounded to 16 bits. Their products are summed exactly, and the sum is rounded once.
    """
    (m, e), (n, f) = narrow16(x), narrow16(y)
    total, k = row_sum(m * n)
    return store_row(*normalise(total, e + f + k, LOGIT_BITS), LOGIT_BITS)


@op(Kind.ROW)
def scale_rows(b: Builder, x: Row, factors: Row) -> Row:
    """x [T, E, n] Row, factors [T, E] Row-24 -> x times the factor of its row, Row-16 [T, E, n].

    A row with the factor 0 is zero. 0.6 ulp.
    """
    tokens, experts, _ = x.shape
    m, e = narrow16(x)
    f = (factors.mantissa << (30 - factors.bits)).reshape(tokens, experts, 1)
    f_e = factors.e.reshape(tokens, 1, 1) - (30 - factors.bits)
    return store_row(*normalise(f.mulr15(m), e + f_e + 15, 16), 16)


@scale_rows.define_gradient
def _scale_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    x, factors = call.args
    products = g.call(row_product, dy, x) if call.needs[1] else None
    d_factors = None if products is None else g.call(join_rows, products)
    return [g.call(scale_rows, dy, factors), d_factors]


@composite
def router_logits(call: Calls, x: Row, w: Row) -> Row:
    """x [T, K], w [E, K] Row -> x · wᵀ, Row-30 [T, E]: of 16 bits and not of 8, as `linear` is."""
    (tokens, width), experts = call.type_of(x).shape, call.type_of(w).shape[0]
    rows = call(view, x, shape=(tokens, 1, width), exponent_shape=(tokens, 1, 1))
    columns = call(view, w, shape=(1, experts, width), exponent_shape=(1, experts, 1))
    logits: Row = call(join_rows, call(row_product, rows, columns))
    return logits


@router_logits.define_gradient
def _router_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    bits = (ROUTER_BITS, ROUTER_BITS, g.gradient_bits(call))
    return list(product_gradient(g, dy, call.args[0], call.args[1], bits, call.needs))


@cases(row_product)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    x, w = random_row(rng, (5, 1, 96), 16), random_row(rng, (1, 4, 96), 16)
    yield Case("router", [x, w])
    yield Case("ragged", [random_row(rng, (3, 4, 37), 24), random_row(rng, (3, 4, 37), 16)])
    limit = np.full((2, 1, 2048), 2**15 - 1, np.int16)
    large = Row(limit, np.zeros((2, 1, 1), np.int32), 16)
    yield Case("largest", [large, Row(-limit, large.e, 16)])


def _factors(rng: np.random.Generator, tokens: int, experts: int) -> Row:
    """Probabilities of which many are zero."""
    m = rng.integers(0, 2**23, (tokens, experts)) * rng.integers(0, 2, (tokens, experts))
    return Row(m.astype(np.int32), np.full((tokens, 1), -23, np.int32), 24)


@cases(scale_rows)
def _scale_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, bits in (("experts", (5, 4, 32), 16), ("ragged", (3, 3, 19), 24)):
        yield Case(name, [random_row(rng, shape, bits), _factors(rng, *shape[:2])])


@cases(router_logits)
def _router_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("ragged", [random_row(rng, (5, 40), 16), random_row(rng, (6, 40), 16)])
