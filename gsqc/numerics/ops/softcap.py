# SPDX-License-Identifier: Apache-2.0
"""softcap: cap · tanh(x / cap), which keeps scores and logits within ±cap.

Gemma Team 2024, "Gemma 2", arXiv 2408.00118, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import (
    exp2_negative,
    normalise,
    reciprocal,
    saturating_scale,
    scale_by_constant,
    store_row,
    to_log2_units,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, evaluate, op


@op(Kind.ROW)
def softcap(b: Builder, x: Row, *, factor: float, cap: float, bits: int) -> Row:
    """x [..., n] Row -> cap · tanh(x · factor / cap), Row-bits [..., n].

    tanh z = (1 - u) / (1 + u) with u = exp(-2·|z|), to 3e-6 absolute: |z| is rounded to 2^-17
    octaves, and exp2 has a relative error of 2^-21.
    """
    m, e = widen(x)
    t = to_log2_units(m, e, 2 * factor / cap)
    u = exp2_negative(t.abs().minimum(40 << 16), fine=True)
    inverse = reciprocal((u >> 1) + 2**29)  # 1 / (1 + u) in Q30
    size = (2**30 - u).mulr30(inverse).minimum(2**30 - 1)
    tanh = where(m.greater(-1), size, 0 - size)
    return store_row(*normalise(*scale_by_constant(tanh, (e & 0) - 30, cap), bits), bits)


def _slope(y: Row, cap: float) -> Tensor:
    """1 - (y / cap)² in Q30."""
    m, e = scale_by_constant(*widen(y), 1 / cap)
    tanh = saturating_scale(m, -30 - e, 30)
    return 2**30 - tanh.mulr30(tanh)


@op(Kind.ROW)
def softcap_grad(b: Builder, dy: Row, y: Row, *, factor: float, cap: float) -> Row:
    """dy [..., n] Row, y of softcap -> dx = dy · factor · (1 - (y / cap)²), Row-24 [..., n]."""
    slope = _slope(y, cap)
    d, d_e = widen(dy)
    return store_row(*normalise(*scale_by_constant(d.mulr30(slope), d_e, factor), 24), 24)


@op(Kind.ROW)
def label_weights(
    b: Builder,
    logits: Row,
    labels: Tensor,
    weights: Tensor,
    *known: Tensor,
    first_column: int,
    cap: float,
) -> Tensor:
    """logits Row [T, C] of softcap, labels and weights int32 [T, 1] -> the weight times the slope
    at the label, int32 [T, 1], where the chunk has the label; else `known`, or 0.

    The chunk has the columns [first_column, first_column + C) of the vocabulary.
    """
    column = b.iota((1, logits.shape[-1]), 1) + first_column
    slope = where(column.equal(labels), _slope(logits, cap), 0).reduce_sum()
    part = slope.mulr15(weights).round_shift(15)
    for other in known:
        part = part + other
    return part


@softcap.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    attributes = {name: call.attributes[name] for name in ("factor", "cap")}
    return [g.call(softcap_grad, dy, call.results[0], **attributes)]


@cases(softcap)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape, attributes in (
        ("scores", (2, 3, 8, 40), {"factor": 0.125, "cap": 50.0, "bits": 24}),
        ("ragged", (5, 37), {"factor": 1.0, "cap": 1.0, "bits": 16}),
    ):
        yield Case(name, [random_row(rng, shape, 24)], attributes)
        x = rng.integers(-(2**23) + 1, 2**23, shape) >> rng.integers(0, 23, shape)
        moderate = Row(x.astype(np.int32), np.full((*shape[:-1], 1), -17, np.int32), 24)
        yield Case(f"{name}, moderate", [moderate], attributes)


@cases(softcap_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for cap in (50.0, 1.0):
        for bits in (16, 24):
            x = random_row(rng, (4, 40), 24)
            y = evaluate(softcap, [x], {"factor": 0.3, "cap": cap, "bits": bits})
            values = [random_row(rng, (4, 40), 24), y]
            yield Case(f"cap {cap}, {bits} bits", values, {"factor": 0.3, "cap": cap})


@cases(label_weights)
def _label_cases(rng: np.random.Generator) -> Iterator[Case]:
    y = evaluate(softcap, [random_row(rng, (4, 40), 24)], {"factor": 1.0, "cap": 30.0, "bits": 24})
    labels = np.array([[100], [139], [140], [99]], np.int32)
    weights = np.array([[2**14], [77], [5], [0]], np.int32)
    attributes = {"first_column": 100, "cap": 30.0}
    yield Case("first chunk", [y, labels, weights], attributes)
    yield Case("second chunk", [y, labels, weights, weights], attributes)
