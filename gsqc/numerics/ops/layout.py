# SPDX-License-Identifier: Apache-2.0
"""Layout: transpose, split_heads and others that move data, and views, which only rename it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gsqc.numerics.formats import Gse, Row, Value, map_tensors, row_dtype
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.primitives import normalise_mixed, store_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


@op(Kind.LAYOUT)
def transpose(b: Builder, x: Row, *, permutation: Sequence[int]) -> Row:
    """x Row [...] -> its axes in the order of `permutation`.

    The exponents move along, so they may end up one per column.
    """
    return Row(x.m.transpose(*permutation), x.e.transpose(*permutation), x.bits)


@transpose.define_gradient
def _transpose_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    permutation = call.attributes["permutation"]
    inverse = tuple(permutation.index(k) for k in range(len(permutation)))
    return [g.call(transpose, dy, permutation=inverse)]


@op(Kind.VIEW)
def view(b: Builder, x: Row, *, shape: Sequence[int], exponent_shape: Sequence[int]) -> Row:
    """x Row -> its mantissas in `shape` and its exponents in `exponent_shape`.

    The two shapes must broadcast.
    """
    return Row(x.m.reshape(*shape), x.e.reshape(*exponent_shape), x.bits)


@op(Kind.ROW)
def per_row(b: Builder, x: Row) -> Row:
    """x Row with an exponent per column, as after a transpose -> one per row, in the same bits.

    The numbers of a row are rounded to the exponent of the largest, half up.
    """
    return store_row(*normalise_mixed(x.mantissa, x.e | (x.mantissa & 0), x.bits), x.bits)


def with_row_exponents(g: Any, dy: Any) -> Any:
    """A gradient with an exponent per row, for rules that take it so."""
    return dy if g.has_row_exponents(dy) else g.call(per_row, dy)


@view.define_gradient
def _view_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    """A view of activations keeps their last axis, so the gradient is a view too."""
    shape, dy = g.shape(call.args[0]), with_row_exponents(g, dy)
    assert shape[-1] == g.shape(dy)[-1]
    return [g.call(view, dy, shape=shape, exponent_shape=(*shape[:-1], 1))]


@op(Kind.LAYOUT)
def split_heads(b: Builder, x: Row, *, heads: int) -> Row:
    """x [T, H·D] with an exponent per token -> [H, T, D] with that exponent in each head."""
    tokens, width = x.shape
    m = x.m.reshape(tokens, heads, width // heads).transpose(1, 0, 2)
    e = x.e.reshape(tokens, 1, 1).transpose(1, 0, 2) | (b.iota((heads, 1, 1), 0) & 0)
    return Row(m, e, x.bits)


@split_heads.define_gradient
def _split_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(join_rows, g.call(transpose, dy, permutation=(1, 0, 2)))]


@op(Kind.ROW)
def join_rows(b: Builder, x: Row) -> Row:
    """x [T, H, D] with an exponent per token and head -> [T, H·D] with one per token.

    Heads with a smaller exponent are rounded, half up.
    """
    tokens, heads, width = x.shape
    m = x.mantissa.reshape(tokens, heads * width)
    e = (x.e | (b.iota((1, 1, width), 2) & 0)).reshape(tokens, heads * width)
    return store_row(*normalise_mixed(m, e, x.bits), x.bits)


@join_rows.define_gradient
def _join_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    heads = g.shape(call.args[0])[1]
    return [g.call(transpose, g.call(split_heads, dy, heads=heads), permutation=(1, 0, 2))]


@op(Kind.VIEW)
def take_leading(b: Builder, x: Value, *, start: int, count: int) -> Value:
    """x Row, or a bare tensor, [N, ...] -> [start, start + count) of its first axis, in the same
    memory.

    An exponent that the first axis shares stays.
    """

    def take(t: Tensor) -> Tensor:
        rest = t.shape[1:]
        part: Tensor = t if t.shape[0] == 1 else t.slice((start, *(0,) * len(rest)), (count, *rest))
        return part

    return map_tensors(x, take)


@op(Kind.LAYOUT)
def join_leading(b: Builder, *parts: Row) -> Row:
    """Rows [N1, ...], [N2, ...], … of the same bits -> [N1 + N2 + …, ...]. Undoes take_leading."""
    m, e = (b.concat([getattr(p, field) for p in parts], 0) for field in ("m", "e"))
    return Row(m, e, parts[0].bits)


@op(Kind.VIEW)
def table_rows(b: Builder, table: Gse, *, start: int, count: int) -> Gse:
    """table GSE [V, n] -> its rows [start, start + count), in the same memory."""
    m, d, e = (t.slice((start, 0), (count, t.shape[1])) for t in (table.m, table.d, table.e))
    return Gse(m, d, e, table.bits)


@op(Kind.VIEW)
def row_exponents(b: Builder, x: Gse) -> Tensor:
    """A matmul's left operand x GSE [..., M, K] -> its row exponents, int32 [..., M, 1]."""
    exponents: Tensor = x.e
    return exponents


@op(Kind.VIEW)
def column_exponents(b: Builder, w: Gse) -> Tensor:
    """A matmul's right operand w GSE [..., C, K] -> its row exponents, int32 [..., 1, C]."""
    shape = w.e.shape
    exponents: Tensor = w.e.reshape(*shape[:-2], 1, shape[-2])
    return exponents


@op(Kind.VIEW)
def pick(b: Builder, x: Tensor, *, index: int, rank: int) -> Tensor:
    """x, a bare tensor [N] -> its element `index` as [1, …, 1] of `rank` dimensions."""
    return x.slice((index,), (1,)).reshape(*(1,) * rank)


@op(Kind.VIEW)
def reshape(b: Builder, x: Tensor, *, shape: Sequence[int]) -> Tensor:
    """x, a bare tensor -> its elements in another shape."""
    return x.reshape(*shape)


def _row(
    rng: np.random.Generator, shape: tuple[int, ...], e_shape: tuple[int, ...], bits: int
) -> Row:
    limit = 2 ** (bits - 1) - 1
    m = rng.integers(-limit, limit + 1, shape).astype(row_dtype(bits))
    return Row(m, rng.integers(-20, 5, e_shape).astype(np.int32), bits)


@cases(transpose)
def _transpose_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("matrix", [_row(rng, (48, 80), (48, 1), 16)], {"permutation": (1, 0)})
    yield Case("ragged", [_row(rng, (37, 19), (37, 1), 24)], {"permutation": (1, 0)})
    yield Case("blocks", [_row(rng, (32, 48), (32, 1), 24)], {"permutation": (1, 0)})
    yield Case(
        "batched blocks", [_row(rng, (3, 32, 16), (3, 32, 1), 16)], {"permutation": (0, 2, 1)}
    )
    yield Case("heads", [_row(rng, (7, 3, 16), (7, 1, 1), 16)], {"permutation": (1, 0, 2)})
    yield Case("batched", [_row(rng, (3, 33, 16), (3, 33, 1), 16)], {"permutation": (0, 2, 1)})


@cases(per_row)
def _per_row_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("columns", [_row(rng, (5, 37), (1, 37), 24)])
    yield Case("batched", [_row(rng, (3, 5, 8), (3, 1, 8), 16)])


@cases(split_heads)
def _split_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("heads", [_row(rng, (7, 48), (7, 1), 16)], {"heads": 3})


@cases(join_rows)
def _join_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("heads", [_row(rng, (7, 3, 16), (7, 3, 1), 16)])
    yield Case("ragged", [_row(rng, (5, 3, 6), (5, 3, 1), 16)])


@cases(join_leading)
def _join_leading_cases(rng: np.random.Generator) -> Iterator[Case]:
    parts = [_row(rng, (heads, 7, 16), (heads, 7, 1), 16) for heads in (1, 3, 2)]
    yield Case("heads", parts)
    yield Case("columns", [_row(rng, (1, 5, 33), (1, 5, 1), 24) for _ in range(2)])
