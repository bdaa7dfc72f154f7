# SPDX-License-Identifier: Apache-2.0
"""chosen_softmax and keep_chosen: the weights that a router gives to the experts it chooses.

The choice is a decision about integers. It is the same on every target, bit for bit.

Shazeer et al. 2017, "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts
Layer", arXiv 1701.06538, section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import to_log2_units, widen
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.softmax import MASKED, probabilities, softmax_grad

_TAKEN = -(2**30)
"""Below every mantissa."""


def _chosen(b: Builder, logits: Row, top_k: int) -> Tensor:
    """Which of a row's columns hold its `top_k` largest numbers, as bools. Of equal ones, the first
    are chosen.
    """
    rank, count = len(logits.shape), logits.shape[-1]
    # Counted from the last column, so that the largest of equal ones' places is the first.
    place = (count - 1) - b.iota((*(1,) * (rank - 1), count), rank - 1)
    left, _ = widen(logits)
    for _ in range(top_k):
        first = where(left.equal(left.reduce_max()), place, -1).reduce_max()
        left = where(place.equal(first), _TAKEN, left)
    return left.equal(_TAKEN)


@op(Kind.ROW)
def chosen_softmax(b: Builder, logits: Row, *, top_k: int) -> Row:
    """logits [..., E] Row -> softmax over the `top_k` largest of each row, 0 elsewhere, Row-24
    [..., E]. Of equal numbers, those in the first columns are the larger.
    """
    t = to_log2_units(*widen(logits))
    if top_k < logits.shape[-1]:
        t = where(_chosen(b, logits, top_k), t, MASKED)
    return probabilities(t)


@chosen_softmax.define_gradient
def _gradient(g: Any, call: Any, dp: Any) -> list[Any]:
    """That of softmax: where P is 0, so is the gradient."""
    return [g.call(softmax_grad, call.results[0], dp, scale=1.0)]


@op(Kind.ROW)
def keep_chosen(b: Builder, x: Row, logits: Row, *, top_k: int) -> Row:
    """x, logits [..., E] Row -> x where `chosen_softmax` chooses, 0 elsewhere. The bits of x."""
    m = where(_chosen(b, logits, top_k), x.mantissa, 0)
    return Row(m.cast(x.m.dtype), x.e, x.bits)


@keep_chosen.define_gradient
def _kept_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    """The choice itself has no gradient."""
    return [g.call(keep_chosen, dy, call.args[1], **call.attributes), None]


def _logits(rng: np.random.Generator, rows: int, experts: int) -> Row:
    m = rng.integers(-(2**29) + 1, 2**29, (rows, experts)).astype(np.int32)
    return Row(m, rng.integers(-30, -24, (rows, 1)).astype(np.int32), 30)


@cases(chosen_softmax)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for top_k in (1, 2, 8):
        yield Case(f"{top_k} of 8", [_logits(rng, 9, 8)], {"top_k": top_k})
    yield Case("any", [random_row(rng, (7, 5), 24)], {"top_k": 3})
    equal = Row(np.zeros((3, 6), np.int32), np.zeros((3, 1), np.int32), 30)
    equal.m[1, 2:] = 5
    equal.m[2] = -(2**29) + 1
    yield Case("equal", [equal], {"top_k": 2})


@cases(keep_chosen)
def _kept_cases(rng: np.random.Generator) -> Iterator[Case]:
    for bits in (16, 24):
        x = random_row(rng, (9, 8), bits)
        yield Case(f"{bits} bits", [x, _logits(rng, 9, 8)], {"top_k": 2})
