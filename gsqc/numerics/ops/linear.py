# SPDX-License-Identifier: Apache-2.0
"""linear: y = x · wᵀ on operands in GSE. In a graph it is one call, until expand_composites makes
single ops of it.

before:  y = linear(x, w, x_bits, w_bits, bits)
after:   y = to_row(gse_matmul(quantise(x), quantise(w)), …)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gsqc.numerics.formats import GROUP, ROTATION_SHIFT, WINDOW, Gse, Row, largest_operand
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.layout import column_exponents, row_exponents, transpose
from gsqc.numerics.ops.primitives import normalise_mixed, store_row
from gsqc.numerics.ops.quantise import MOST_SHIFT, quantise, random_row
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, op


def matmul_shift(k: int) -> int:
    """The rounding shift s of a matmul over k numbers: |Σ| < 2^30 · 2^s for all operands."""
    return max(1, (k - 1).bit_length())


def _aligned(x: Gse) -> Tensor:
    """x GSE-b [..., K] -> its aligned mantissas m << (WINDOW - d), int16 [..., K], exact."""
    *lead, n = x.shape
    m = x.m.cast("int32").reshape(*lead, n // GROUP, GROUP)
    d = x.d.cast("int32").reshape(*lead, n // GROUP, 1)
    aligned: Tensor = (m << (WINDOW - d)).reshape(*lead, n).cast("int16")
    return aligned


@op(Kind.MATMUL)
def gse_matmul(b: Builder, x: Gse, w: Gse, *, terms: int = 0) -> Tensor:
    """x [N, M, K] and w [N, C, K] GSE (or without N) -> int32 [N, M, C], below 2^30.

        (Σ_k ax·aw + 2^(s-1)) >> s with the aligned mantissas ax, aw and s = matmul_shift(K)

    terms  at least K, and then in its place: the rounding is that of a sum over so many

    The sum of int16 products is exact, and the one rounding is half up. The exponent is that which
    `to_row` takes, with `product_exponent` as its offset. GSQ-Tuning (arXiv 2502.12913), section
    3.2, with an exact sum in place of a float accumulator.
    """
    ax, aw = _aligned(x), _aligned(w)
    assert not terms or terms >= x.shape[-1], (terms, x.shape)
    shift = matmul_shift(terms or x.shape[-1])
    if len(x.shape) == 3:
        return b.matmul(ax, aw, shift)
    c = b.matmul(ax.reshape(1, *ax.shape), aw.reshape(1, *aw.shape), shift)
    return c.reshape(x.shape[0], w.shape[0])


def product_exponent(k: int) -> int:
    """What is added to the exponents of row i of x and row j of w, for a matmul over k numbers.

    Both operands are rotated.
    """
    return matmul_shift(k) - 2 * WINDOW - ROTATION_SHIFT


@op(Kind.ROW)
def to_row(
    b: Builder, c: Tensor, row_e: Tensor, column_e: Tensor, *, offset: int, bits: int
) -> Row:
    """c int32 [..., M, C] with |c| < 2^30 -> Row-bits [..., M, C], rounded half up.

    The exponent of c is row_e [..., M, 1] + column_e [..., 1, C] + offset.
    """
    return store_row(*normalise_mixed(c, column_e + (row_e + offset), bits), bits)


def _operand(call: Calls, x: Any, bits: int, balance: Any, *, up: bool) -> Any:
    """x in GSE-bits, if it is not in GSE already."""
    if isinstance(call.type_of(x), Gse):
        return x
    if balance is None:
        return call(quantise, x, bits=bits)
    return call(quantise, x, balance, bits=bits, up=up)


def product(
    call: Calls, x: Any, w: Any, balance: Any = None, *, x_bits: int, w_bits: int
) -> tuple[Any, Any, Any, int]:
    """x · wᵀ before it is rounded to rows. x and w are Rows, or in GSE already.

    Gives the int32 result, the exponents of its rows and of its columns, and what is added to them.
    """
    qx = _operand(call, x, x_bits, balance, up=True)
    qw = _operand(call, w, w_bits, balance, up=False)
    c = call(gse_matmul, qx, qw)
    offset = product_exponent(call.type_of(qx).shape[-1])
    return c, call(row_exponents, qx), call(column_exponents, qw), offset


@composite
def linear(
    call: Calls, x: Row, w: Row, balance: Any = None, *, x_bits: int, w_bits: int, bits: int
) -> Row:
    """x [..., M, K], w [..., C, K] -> Row-bits [..., M, C].

    Operands that are Rows are quantised to GSE-x_bits and GSE-w_bits.

    balance  int8 [1, K], 0 to MOST_SHIFT: column k of x is multiplied by 2^balance[k], and that of
             w by its inverse. The product is the same, and both operands lose less. SmoothQuant
             (Xiao et al. 2022, arXiv 2211.10438), here by powers of two. Gradients do without.
    """
    c, row_e, column_e, offset = product(call, x, w, balance, x_bits=x_bits, w_bits=w_bits)
    row: Row = call(to_row, c, row_e, column_e, offset=offset, bits=bits)
    return row


@linear.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    bits = (call.attributes["x_bits"], call.attributes["w_bits"], g.gradient_bits(call))
    gradients = product_gradient(g, dy, call.args[0], call.args[1], bits, call.needs)
    return [*gradients, *[None] * (len(call.needs) - 2)]


def product_gradient(
    g: Any, dy: Any, x: Any, w: Any, bits: tuple[int, int, int], needs: Sequence[bool]
) -> tuple[Any, Any]:
    """dx = dy · w and dw = dyᵀ · x of y = x · wᵀ, Row-24 (GSQ-Tuning, equation 5). None where
    `needs` says that nobody wants it.

    g     adds calls to the backward graph, as in a gradient rule
    bits  of the operands made of x, of w and of gradients

    The operands of each product are grouped along the axis that it reduces over. Where w is itself
    a transpose, dw is made transposed, so that the rows of what w is made from share exponents.
    """
    rank = len(g.shape(x))
    swap = (*range(rank - 2), rank - 1, rank - 2)
    x_bits, w_bits, grad_bits = bits
    dx = dw = None
    if needs[0]:
        w_t = g.call(transpose, w, permutation=swap)
        dx = g.call(linear, dy, w_t, x_bits=grad_bits, w_bits=w_bits, bits=24)
    if needs[1]:
        dy_t, x_t = g.call(transpose, dy, permutation=swap), g.call(transpose, x, permutation=swap)
        if g.is_call(w, transpose):
            dw_t = g.call(linear, x_t, dy_t, x_bits=x_bits, w_bits=grad_bits, bits=24)
            dw = g.call(transpose, dw_t, permutation=swap)
        else:
            dw = g.call(linear, dy_t, x_t, x_bits=grad_bits, w_bits=x_bits, bits=24)
    return dx, dw


def random_gse(
    rng: np.random.Generator, shape: tuple[int, ...], bits: int, *, extreme: bool = False
) -> Gse:
    """A test operand with any mantissas and distances that the format allows.

    extreme  mantissas and distances at the ends of their ranges
    """
    limit = largest_operand(bits)
    m = rng.integers(-limit, limit + 1, shape)
    d = rng.integers(0, WINDOW + 1, (*shape[:-1], shape[-1] // GROUP))
    if extreme:
        m = np.where(rng.random(shape) < 0.02, -limit, limit)
        d = np.where(rng.random(d.shape) < 0.5, 0, WINDOW)
    e = rng.integers(-30, 5, (*shape[:-1], 1))
    return Gse(m.astype(np.int8), d.astype(np.int8), e.astype(np.int32), bits)


@cases(gse_matmul)
def _matmul_cases(rng: np.random.Generator) -> Iterator[Case]:
    for bits in (4, 5, 6, 7, 8):
        yield Case(f"gse{bits}", [random_gse(rng, (12, 64), bits), random_gse(rng, (16, 64), bits)])
    yield Case(
        "extreme",
        [random_gse(rng, (7, 96), 8, extreme=True), random_gse(rng, (19, 96), 8, extreme=True)],
    )
    calm, outlier = random_gse(rng, (24, 576), 8), random_gse(rng, (20, 576), 8)
    calm.d[:], outlier.d[:] = 1, np.where(rng.random(outlier.d.shape) < 0.1, 0, 8)
    calm.m[:, 32:64], outlier.m[7] = 0, 0
    calm.d[:, 1] = 8
    for name, x, w in (
        ("calm", calm, calm),
        ("outliers in x", outlier, calm),
        ("outliers in both", outlier, outlier),
    ):
        yield Case(name, [x, w])
    yield Case("mixed bits", [random_gse(rng, (5, 32), 6), random_gse(rng, (33, 32), 8)])
    yield Case("batched", [random_gse(rng, (3, 10, 64), 8), random_gse(rng, (3, 9, 64), 8)])
    yield Case("one row", [random_gse(rng, (1, 576), 8), random_gse(rng, (40, 576), 8)])
    few = random_gse(rng, (2, 3, 96), 8, extreme=True)
    yield Case("few rows", [few, random_gse(rng, (2, 21, 96), 8)])
    yield Case("few rows, outliers", [few, random_gse(rng, (2, 21, 96), 8, extreme=True)])
    yield Case(
        "long",
        [random_gse(rng, (3, 4096), 8, extreme=True), random_gse(rng, (8, 4096), 8, extreme=True)],
    )
    sparse = random_gse(rng, (10, 96), 8)
    sparse.m[:, np.arange(96) % 32 != 7] = 0
    yield Case("one number a group", [random_gse(rng, (9, 96), 8), sparse])


@cases(to_row)
def _to_row_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, lead, columns, bits in (
        ("row-16", (9,), 40, 16),
        ("row-24", (2, 5), 33, 24),
        ("one", (1,), 1, 24),
    ):
        c = rng.integers(-(2**30) + 1, 2**30, (*lead, columns)) >> rng.integers(
            0, 31, (*lead, columns)
        )
        if lead[-1] > 2:
            c[..., 0, :] = 0
        row_e = rng.integers(-50, 10, (*lead, 1)).astype(np.int32)
        column_e = rng.integers(-30, 5, (*lead[:-1], 1, columns)).astype(np.int32)
        yield Case(name, [c.astype(np.int32), row_e, column_e], {"offset": -9, "bits": bits})


@cases(linear)
def _linear_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case(
        "ragged",
        [random_row(rng, (5, 40), 16), random_row(rng, (7, 40), 24)],
        {"x_bits": 8, "w_bits": 6, "bits": 16},
    )
    balance = rng.integers(0, MOST_SHIFT + 1, (1, 96)).astype(np.int8)
    yield Case(
        "balanced",
        [random_row(rng, (5, 96), 16), random_row(rng, (7, 96), 30), balance],
        {"x_bits": 5, "w_bits": 8, "bits": 24},
    )
