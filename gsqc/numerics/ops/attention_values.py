# SPDX-License-Identifier: Apache-2.0
"""attention_values: attention's product P · v, in which no token's result depends on a later one.

The values are rotated and rounded along a head's width, with a scale for each token and head. The
scales are folded into P, which is rounded in groups of 32 tokens. P is not rotated, which would mix
tokens. The result is rotated back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import GROUP, WINDOW, Gse, Row
from gsqc.numerics.operators.builder import Builder
from gsqc.numerics.ops.layout import column_exponents, row_exponents, transpose
from gsqc.numerics.ops.linear import gse_matmul, matmul_shift, product_gradient, to_row
from gsqc.numerics.ops.primitives import store_row
from gsqc.numerics.ops.quantise import (
    mantissas,
    random_row,
    rotate_groups,
    scale_code,
    to_gse,
    whole_groups,
)
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, op
from gsqc.numerics.ops.unrotate import unrotate

VALUE_BITS = 8
"""Bits of the values, and of P beside them."""
MOST_TOKENS = 2**15
"""P · v is rounded as a sum over so many tokens, however many there are."""


@op(Kind.ROW)
def round_values(b: Builder, v: Row) -> Row:
    """v [..., D] Row -> H·v as Row-8 [..., D padded to a multiple of 32], a scale 2^k for each row.

    The scale is that of `to_gse` for a group, with one row as the group.
    """
    y, e = rotate_groups(v)
    y = y.reshape(*v.shape[:-1], y.shape[-2] * GROUP)
    code = scale_code(y.abs().reduce_max(), e, VALUE_BITS)
    # With one scale an octave, the code of a scale is its exponent.
    return store_row(mantissas(y, e, code, VALUE_BITS), code, VALUE_BITS)


@op(Kind.ROW)
def quantise_probabilities(b: Builder, p: Row, values: Row) -> Gse:
    """p [..., R, C] Row, values [..., D, C] Row-8 with an exponent per token -> GSE-8 of p · 2^e.

    The values' exponents e are folded into p. The scale of a group of 32 tokens is that of
    `to_gse`. p is not rotated.
    """
    e = (p.e + values.e) | (p.mantissa & 0)
    m, e = whole_groups(p.mantissa), whole_groups(e)
    groups = (*m.shape[:-1], m.shape[-1] // GROUP, GROUP)
    return to_gse(m.reshape(*groups), e.reshape(*groups), VALUE_BITS)


@op(Kind.LAYOUT)
def value_operand(b: Builder, values: Row) -> Gse:
    """values [G, D, C] Row-8 -> the operand beside `quantise_probabilities`, GSE-8 [G, D, C].

    C is padded to whole groups. All distances and exponents are 0, because those of the values are
    in the other operand.
    """
    heads, width, _ = values.shape
    m = whole_groups(values.mantissa)
    rows = (b.iota((heads, 1, 1), 0) | b.iota((1, width, 1), 1)) & 0
    groups = b.iota((1, 1, m.shape[-1] // GROUP), 2) & 0
    return Gse(m.cast("int8"), (rows | groups).cast("int8"), rows, VALUE_BITS)


@composite
def weigh_rounded(call: Calls, p: Row, values: Row, *, columns: int, bits: int) -> Row:
    """p [G, R, C] Row, values Row-8 [G, D, C] as `round_values` gives them, with the last two axes
    exchanged -> Row-bits [G, R, columns].
    """
    x, w = call(quantise_probabilities, p, values), call(value_operand, values)
    c = call(gse_matmul, x, w, terms=MOST_TOKENS)
    offset = matmul_shift(MOST_TOKENS) - 2 * WINDOW
    rotated = call(
        to_row, c, call(row_exponents, x), call(column_exponents, w), offset=offset, bits=24
    )
    out: Row = call(unrotate, rotated, columns=columns, bits=bits)
    return out


@composite
def weigh_values(call: Calls, p: Row, v: Row, *, bits: int) -> Row:
    """p [G, R, C], v [G, C, D] Row -> P · v, Row-bits [G, R, D]."""
    values = call(transpose, call(round_values, v), permutation=(0, 2, 1))
    out: Row = call(weigh_rounded, p, values, columns=call.type_of(v).shape[-1], bits=bits)
    return out


@weigh_values.define_gradient
def _values_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    """Those of the product of p and vᵀ: the rounding of v counts as none, as everywhere."""
    p, v = call.args
    swap = {"permutation": (0, 2, 1)}
    bits = (VALUE_BITS, VALUE_BITS, g.gradient_bits(call))
    dp, dv_t = product_gradient(g, dy, p, g.call(transpose, v, **swap), bits, call.needs)
    return [dp, None if dv_t is None else g.call(transpose, dv_t, **swap)]


def _probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> Row:
    """Rows that sum to about 1, with zeros behind a column of each."""
    last = rng.integers(0, shape[-1], (*shape[:-1], 1))
    p = rng.random(shape) ** 4 * (np.arange(shape[-1]) <= last)
    p = np.rint(p / p.sum(-1, keepdims=True) * (2**23 - 1))
    return Row(p.astype(np.int32), np.full((*shape[:-1], 1), -23, np.int32), 24)


def _rounded(rng: np.random.Generator, shape: tuple[int, ...]) -> Row:
    """Values [G, D, C] Row-8 with an exponent per token, over many octaves."""
    m = rng.integers(-127, 128, shape).astype(np.int8)
    return Row(m, rng.integers(-30, 5, (shape[0], 1, shape[2])).astype(np.int32), VALUE_BITS)


@cases(round_values)
def _round_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("heads", [random_row(rng, (3, 9, 64), 16)])
    yield Case("ragged", [random_row(rng, (2, 5, 40), 24)])
    shared = Row(
        random_row(rng, (3, 9, 64), 16).m, rng.integers(-9, 5, (1, 9, 1)).astype(np.int32), 16
    )
    yield Case("exponent per token", [shared])


@cases(quantise_probabilities)
def _probability_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, rows, columns in (("heads", 9, 96), ("ragged", 5, 37), ("one token", 1, 1)):
        yield Case(name, [_probabilities(rng, (2, rows, columns)), _rounded(rng, (2, 64, columns))])


@cases(value_operand)
def _operand_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("heads", [_rounded(rng, (3, 64, 96))])
    yield Case("ragged", [_rounded(rng, (2, 32, 37))])


@cases(weigh_rounded)
def _rounded_cases(rng: np.random.Generator) -> Iterator[Case]:
    operands = [_probabilities(rng, (2, 4, 40)), _rounded(rng, (2, 32, 40))]
    yield Case("heads", operands, {"columns": 20, "bits": 16})


@cases(weigh_values)
def _weigh_cases(rng: np.random.Generator) -> Iterator[Case]:
    operands = [_probabilities(rng, (2, 4, 40)), random_row(rng, (2, 40, 20), 16)]
    yield Case("heads", operands, {"bits": 16})
