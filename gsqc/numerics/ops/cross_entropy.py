# SPDX-License-Identifier: Apache-2.0
"""cross_entropy: the loss of tokens from logits that come in chunks of the vocabulary.

The logits never exist whole. For each row, forward keeps the state (octaves M, mantissa s, exponent
k, label's logit). The sum of 2^t over the columns seen so far is s · 2^(k + M), with
t = logit · log2(e). M is a whole number, so a sum is rescaled by a shift. It is the running maximum
of Milakov & Gimelshein 2018, "Online normalizer calculation for softmax" (algorithm 3), in octaves.

Backward makes P of each chunk with row exponents of its own and without the one-hot. The op that
calls it subtracts the label's row of W (`vocabulary`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import (
    LN_2,
    LOG2_E_HALF,
    LOG2_PAIR,
    Scaled,
    add_scaled,
    exp2_negative,
    lookup30_fine,
    normalise,
    normalise_elements,
    reciprocal,
    row_sum,
    store_row,
    to_log2_units,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op

State = tuple[Tensor, Tensor, Tensor, Tensor]
LOSS_FRACTION_BITS = 16
WEIGHT_FRACTION_BITS = 14
LEAST_OCTAVE = -(2**15)
_LOWEST = 40 << 16  # octaves in Q16 below which 2^-d is 0 in Q30
_LARGEST_LOSS = 2**27  # 2048 octaves in Q16


def _exponentials(t: Tensor) -> Scaled:
    """t [T, C] in Q16 log2 units -> 2^(t - octave) in Q30, and the octave of each row.

    The octave is the row's maximum, rounded up.
    """
    octave = (t.reduce_max() + 0xFFFF) >> 16
    return exp2_negative(((octave << 16) - t).minimum(_LOWEST), fine=True), octave


@op(Kind.ROW)
def cross_entropy_start(b: Builder, labels: Tensor) -> State:
    """labels int32 [T, 1] -> the state before the first chunk: a sum far below every logit.

    The labels only say how many rows there are.
    """
    zero = labels & 0
    return zero | LEAST_OCTAVE, zero | 2**29, zero | -60, zero | 0


@op(Kind.ROW)
def cross_entropy_chunk(
    b: Builder,
    logits: Row,
    labels: Tensor,
    octaves: Tensor,
    mantissa: Tensor,
    exponent: Tensor,
    label_logit: Tensor,
    *,
    first_column: int,
) -> State:
    """logits [T, C] Row, labels int32 [T, 1], the state int32 [T, 1] each -> the new state.

    The chunk has the columns [first_column, first_column + C) of the vocabulary. s lies in
    [2^29, 2^30), and the label's logit is in Q16 log2 units. C ≤ 2^15, so the sum is exact in two
    halves, below 2^45. Numbers below 2^-31 of the chunk's largest vanish.
    """
    t = to_log2_units(*widen(logits))
    p, octave = _exponentials(t)
    part, part_e = row_sum(p)
    top = octaves.maximum(octave)
    total, total_e = add_scaled(
        mantissa >> 1, (exponent + 1) - (top - octaves), part >> 1, (part_e - 29) - (top - octave)
    )
    total, shift = normalise_elements(total.maximum(1))
    column = b.iota((1, logits.shape[-1]), 1) + first_column
    seen = where(column.equal(labels), t, 0).reduce_sum()
    return top, total, total_e - shift, label_logit + seen


@op(Kind.ROW)
def cross_entropy_loss(
    b: Builder, octaves: Tensor, mantissa: Tensor, exponent: Tensor, label_logit: Tensor
) -> Tensor:
    """The state after the last chunk -> the loss in Q16 nats, int32 [T, 1].

        loss = ln 2 · (M + k + log2 s - t_label)

    The error is 2.2e-5 nats at worst, and 1.6e-5 as measured. 0.8e-5 is the rounding of the result.
    The rounding of the label's logit and of the other logits to Q16 octaves is 0.5e-5 each. The
    loss saturates near 1420 nats.
    """
    fraction = lookup30_fine(
        (mantissa >> 13) - 65536, LOG2_PAIR
    )  # log2(1 + f) / 2 + 1/2 with s = 2^29 · (1 + f)
    rest = (
        ((mantissa & 0x1FFF) << 16).mulr30(reciprocal(mantissa)).mulc(LOG2_E_HALF)
    )  # the 13 bits the table drops
    log2 = ((fraction - 2**29) << 1) + rest.round_shift(14)
    whole = (((octaves + exponent) + 29) << 16) - label_logit
    octaves_q18 = (whole.clamp(-_LARGEST_LOSS, _LARGEST_LOSS) << 2) + log2.round_shift(12)
    return octaves_q18.mulc(LN_2).round_shift(2)


@op(Kind.ROW)
def cross_entropy_probabilities(
    b: Builder,
    logits: Row,
    octaves: Tensor,
    mantissa: Tensor,
    exponent: Tensor,
    weights: Tensor,
    *,
    bits: int = 16,
) -> Row:
    """logits [T, C] Row, the final sum int32 [T, 1] each, weights -> weight · P, Row-bits [T, C].

    weights  of the tokens, int32 [T, 1] in Q14, in [0, 2^15)

    P is relative to the chunk's own maximum, so that small probabilities keep their bits. The
    relative error is 1.2e-5 before the one rounding to `bits`. A row of weight 0 is a zero row.
    """
    p, octave = _exponentials(to_log2_units(*widen(logits)))
    up = weights.clz() - (31 - WEIGHT_FRACTION_BITS)
    factor = reciprocal(mantissa).mulr15(weights << up)  # weight / s, 30 bits
    scale_e = ((octave - octaves) - exponent) - up
    product = p.mulr30(factor)
    return store_row(*normalise(product, scale_e - (59 - 15 + WEIGHT_FRACTION_BITS), bits), bits)


def _case_state(rng: np.random.Generator, count: int) -> list[npt.NDArray[Any]]:
    """Octaves, mantissas, exponents and logits of labels, as forward may leave them."""
    octaves = rng.integers(-50, 50, (count, 1))
    octaves[0] = -8192
    octaves[-1] = 8192
    mantissa = rng.integers(2**29, 2**30, (count, 1))
    mantissa[-1] = 2**30 - 1
    mantissa[0] = 2**29
    label = rng.integers(-(2**22), 2**22, (count, 1))
    label[0] = 2**29
    label[-1] = -(2**29)
    return [
        x.astype(np.int32) for x in (octaves, mantissa, rng.integers(-30, -15, (count, 1)), label)
    ]


def _case_logits(rng: np.random.Generator) -> Iterator[tuple[str, Row]]:
    for name, shape in (("chunk", (9, 96)), ("ragged", (5, 37)), ("one column", (4, 1))):
        m = np.rint(np.clip(rng.standard_normal(shape), -4, 4) * 2**21).astype(np.int32)
        yield name, Row(m, rng.integers(-19, -16, (shape[0], 1)).astype(np.int32), 24)
    yield "any rows", random_row(rng, (6, 64), 24)
    extreme = np.where(rng.random((5, 40)) < 0.1, 2**23 - 1, -(2**23) + 1).astype(np.int32)
    yield "saturated", Row(extreme, np.full((5, 1), 20, np.int32), 24)
    yield "flat", Row(np.zeros((3, 100), np.int32), np.full((3, 1), -120, np.int32), 24)


@cases(cross_entropy_start)
def _start_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("labels", [rng.integers(0, 50000, (7, 1)).astype(np.int32)])


@cases(cross_entropy_chunk)
def _chunk_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, logits in _case_logits(rng):
        rows, columns = logits.shape
        labels = rng.integers(4096, 4096 + columns, (rows, 1)).astype(np.int32)
        labels[0] = 5
        yield Case(name, [logits, labels, *_case_state(rng, rows)], {"first_column": 4096})
        first = [np.full((rows, 1), v, np.int32) for v in (LEAST_OCTAVE, 2**29, -60, 0)]
        yield Case(f"{name}, first chunk", [logits, labels - 4096, *first], {"first_column": 0})


@cases(cross_entropy_loss)
def _loss_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("tokens", list(_case_state(rng, 33)))
    yield Case("one token", list(_case_state(rng, 1)))


@cases(cross_entropy_probabilities)
def _probability_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, logits in _case_logits(rng):
        weights = rng.integers(0, 2**14 + 1, (logits.shape[0], 1)).astype(np.int32)
        weights[0], weights[1], weights[2] = 2**14, 0, 1
        yield Case(name, [logits, *_case_state(rng, logits.shape[0])[:3], weights])
    few = [random_row(rng, (3, 2), 24), *_case_state(rng, 3)[:3], weights]
    yield Case("24 bits", few, {"bits": 24})
