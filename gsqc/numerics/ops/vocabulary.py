# SPDX-License-Identifier: Apache-2.0
"""vocabulary: logits, their loss and its gradient, in chunks of the vocabulary.

So the logits never exist whole. The gradient of the loss spans 20 octaves. So each chunk of P has
row exponents of its own, and the one-hot is taken out: dh = Σ over chunks of P·W, minus the label's
row of W. As one row over the vocabulary, the gradient costs 0.07 nats of held-out loss in 16 steps.
In chunks it costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Gse, Row
from gsqc.numerics.operators.builder import Tensor
from gsqc.numerics.ops.add import add, subtract_weighted
from gsqc.numerics.ops.columns import columns as take_columns
from gsqc.numerics.ops.cross_entropy import (
    cross_entropy_chunk,
    cross_entropy_loss,
    cross_entropy_probabilities,
    cross_entropy_start,
)
from gsqc.numerics.ops.embedding import gse_row, take_rows
from gsqc.numerics.ops.layout import reshape, table_rows, transpose
from gsqc.numerics.ops.linear import linear, random_gse
from gsqc.numerics.ops.quantise import quantise, random_row
from gsqc.numerics.ops.registry import Calls, Case, cases, composite, evaluate
from gsqc.numerics.ops.softcap import label_weights, softcap, softcap_grad
from gsqc.numerics.ops.unrotate import unrotate

CHUNK = 4096
"""Columns of the logits that exist at a time."""
LOGIT_BITS = 24
"""Logits are Row-24."""
WIDTH = 8
"""Bits of all operands, whatever `--bits` says. The head is a few percent of the work."""

_WIDTHS = {"x_bits": WIDTH, "w_bits": WIDTH}


def chunks(vocabulary: int) -> list[tuple[int, int]]:
    """The first column of each chunk, and how many it has."""
    starts = range(0, vocabulary, CHUNK)
    return [(start, min(CHUNK, vocabulary - start)) for start in starts]


def _chunks_of(call: Calls, table: Any) -> list[tuple[int, int]]:
    return chunks(call.type_of(table).shape[0])


def _logits(
    call: Calls, h: Any, table: Any, bias: Any, chunk: tuple[int, int], cap: float | None
) -> Any:
    start, count = chunk
    part = call(table_rows, table, start=start, count=count)
    logits = call(linear, h, part, **_WIDTHS, bits=LOGIT_BITS)
    for row in bias:
        own = call(take_columns, row, start=start, count=count)
        logits = call(add, logits, own, bits=LOGIT_BITS)
    return logits if cap is None else call(softcap, logits, factor=1.0, cap=cap, bits=LOGIT_BITS)


@composite
def vocabulary_logits(
    call: Calls, h: Row, table: Gse, *bias: Row, cap: float | None = None
) -> tuple[Row, ...]:
    """h [T, n] Row, table GSE-8 [V, n] -> h · tableᵀ, a Row-24 [T, C] for each chunk.

    With a bias Row [1, V], it is added. With a cap, the logits then go through `softcap`.
    """
    return tuple(_logits(call, h, table, bias, chunk, cap) for chunk in _chunks_of(call, table))


@composite
def vocabulary_loss(
    call: Calls, h: Row, table: Gse, labels: Tensor, *bias: Row, cap: float | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h [T, n] Row, table GSE-8 [V, n], labels int32 [T, 1] -> losses, and the sum for backward.

    The logits are those of `vocabulary_logits`. The losses are the cross-entropy of each token in
    Q16 nats, int32 [T, 1]. The sum is octaves, mantissa and exponent, int32 [T, 1] each
    (`cross_entropy`).
    """
    state = call(cross_entropy_start, labels)
    for chunk in _chunks_of(call, table):
        logits = _logits(call, h, table, bias, chunk, cap)
        state = call(cross_entropy_chunk, logits, labels, *state, first_column=chunk[0])
    return (call(cross_entropy_loss, *state), *state[:3])


@composite
def vocabulary_loss_grad(
    call: Calls,
    h: Row,
    table: Gse,
    labels: Tensor,
    octaves: Tensor,
    mantissa: Tensor,
    exponent: Tensor,
    weights: Tensor,
    *bias: Row,
    cap: float | None = None,
) -> Row:
    """What vocabulary_loss took and saved, weights int32 [T, 1] in Q14 -> dh Row-24 [T, n].

    The logits are made again, chunk by chunk. A token of weight 0 gives a zero row. With a cap,
    P and the one-hot are each multiplied by the slope of `softcap`.
    """
    dh, of_labels = None, weights if cap is None else None
    for start, count in _chunks_of(call, table):
        logits = _logits(call, h, table, bias, (start, count), cap)
        state = (octaves, mantissa, exponent)
        p = call(cross_entropy_probabilities, logits, *state, weights)
        if cap is not None:
            p = call(softcap_grad, p, logits, factor=1.0, cap=cap)
            seen = () if of_labels is None else (of_labels,)
            columns = {"first_column": start, "cap": cap}
            of_labels = call(label_weights, logits, labels, weights, *seen, **columns)
        part = call(table_rows, table, start=start, count=count)
        rows = call(gse_row, part)
        columns = call(quantise, call(transpose, rows, permutation=(1, 0)), bits=WIDTH)
        chunk = call(linear, p, columns, **_WIDTHS, bits=24)
        dh = chunk if dh is None else call(add, dh, chunk, bits=30)
    tokens = call(reshape, labels, shape=(call.type_of(labels).shape[0],))
    # The table's rows are rotated, and so are their sums.
    rotated = call(subtract_weighted, dh, call(take_rows, tokens, table), of_labels, bits=24)
    total: Row = call(unrotate, rotated, columns=call.type_of(h).shape[-1], bits=24)
    return total


@vocabulary_loss.define_gradient
def _gradient(g: Any, call: Any, weights: Any, *_: Any) -> list[Any]:
    """The gradient of the weighted sum of the losses. What comes in are the weights themselves."""
    _, octaves, mantissa, exponent = call.results
    h, table, labels, *bias = call.args
    state = (octaves, mantissa, exponent)
    attributes = call.attributes
    dh = g.call(vocabulary_loss_grad, h, table, labels, *state, weights, *bias, **attributes)
    return [dh, *(None for _ in (table, labels, *bias))]


def _operands(rng: np.random.Generator, tokens: int, vocabulary: int) -> list[Any]:
    """h, table and labels. The last chunk of the vocabulary is ragged."""
    labels = rng.integers(0, vocabulary, (tokens, 1)).astype(np.int32)
    return [random_row(rng, (tokens, 64), 16), random_gse(rng, (vocabulary, 64), WIDTH), labels]


@cases(vocabulary_logits)
def _logits_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("two chunks", _operands(rng, 2, CHUNK + 9)[:2])
    yield Case("cap", _operands(rng, 2, 40)[:2], {"cap": 30.0})
    yield Case("bias", [*_operands(rng, 2, CHUNK + 9)[:2], random_row(rng, (1, CHUNK + 9), 16)])


@cases(vocabulary_loss)
def _loss_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("two chunks", _operands(rng, 3, CHUNK + 9))
    yield Case("one chunk", _operands(rng, 1, 40))
    yield Case("cap", _operands(rng, 3, 40), {"cap": 30.0})
    yield Case("bias", [*_operands(rng, 3, 40), random_row(rng, (1, 40), 16)])


@cases(vocabulary_loss_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    operands = _operands(rng, 3, CHUNK + 9)
    _, *state = evaluate(vocabulary_loss, operands, {})
    weights = np.array([[2**14], [0], [77]], np.int32)
    yield Case("two chunks", [*operands, *state, weights])
    yield Case("cap", [*operands, *state, weights], {"cap": 30.0})
    bias = random_row(rng, (1, CHUNK + 9), 16)
    yield Case("bias", [*operands, *state, weights, bias])
