# SPDX-License-Identifier: Apache-2.0
"""sink_softmax: softmax with a learned number for each head, which takes a part of the probability
and gives it to no token.

OpenAI 2025, "gpt-oss model card", arXiv 2508.10925, section 2.2. Xiao et al. 2023, "Efficient
Streaming Language Models with Attention Sinks", arXiv 2309.17453.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.primitives import (
    narrow16,
    saturating_scale,
    to_log2_units,
    widen,
)
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, evaluate, op
from gsqc.numerics.ops.softmax import (
    hide_columns,
    places,
    probabilities,
    scores_gradient,
    weigh,
)


@op(Kind.ROW)
def sink_softmax(
    b: Builder,
    scores: Row,
    position: Tensor,
    sinks: Row,
    *,
    scale: float,
    in_record: bool,
    window: int | None = None,
) -> Row:
    """scores [G, H, T, C] Row -> exp(s) / (exp(sink) + Σ exp(s)), Row-24 [G, H, T, C], with s =
    scores · scale.

    position  as of `softmax` where `in_record`, else as of `softmax_at`
    sinks     Row [G, H, 1, 1], frozen. `scale` is not for them

    Otherwise as `softmax`.
    """
    t = to_log2_units(*widen(scores), scale)
    sink = to_log2_units(*widen(sinks))
    return probabilities(hide_columns(b, t, position, window, in_record=in_record), sink)


@op(Kind.ROW)
def sink_softmax_grad(b: Builder, p: Row, dp: Row, *, scale: float) -> Row:
    """p [..., C] Row-24 of sink_softmax, dp [..., C] Row -> dS = scale · P · (dP - Σ P·dP), Row-16
    [..., C].

    Unlike that of softmax it is not blind to a constant in dP, for Σ P is less than 1.
    """
    d, d_e = narrow16(dp)
    wide, dot, dot_k = weigh(p, d)
    # Σ P·dP in units of d · 2^-13: P is wide · 2^(p.e - 6), and mulr15 took 15 bits.
    mean = saturating_scale(dot, 0 - (dot_k + p.e + (15 + 13 - (30 - p.bits))))
    return scores_gradient(p, wide, (d, d_e), mean, scale)


@sink_softmax.define_gradient
def _gradient(g: Any, call: Any, dp: Any) -> list[Any]:
    made = g.call(sink_softmax_grad, call.results[0], dp, scale=call.attributes["scale"])
    return [made, None, None]


def _sinks(rng: np.random.Generator, groups: int, heads: int) -> Row:
    """Sinks of one exponent, from far below the scores to far above them."""
    m = rng.integers(-(2**15) + 1, 2**15, (groups, heads, 1, 1)).astype(np.int16)
    return Row(m, np.full((1, 1, 1, 1), -11, np.int32), 16)


@cases(sink_softmax)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, shape in (("heads", (2, 3, 32, 32)), ("ragged", (1, 4, 13, 13))):
        operands = [random_row(rng, shape, 24), places(4, shape[-2]), _sinks(rng, *shape[:2])]
        yield Case(name, operands, {"scale": 0.125, "in_record": True})
    calm = Row(
        rng.integers(-(2**15), 2**15, (2, 2, 40, 40)).astype(np.int16),
        np.full((2, 2, 40, 1), -12, np.int32),
        16,
    )
    records = [calm, places(4, 17, 1, 22), _sinks(rng, 2, 2)]
    yield Case("three records", records, {"scale": 0.2, "in_record": True})
    yield Case("window", records, {"scale": 0.2, "in_record": True, "window": 9})
    at = np.array([[[[7], [8], [39]]]], np.int32)
    cached = [random_row(rng, (2, 3, 3, 40), 24), at, _sinks(rng, 2, 3)]
    yield Case("cache", cached, {"scale": 0.125, "in_record": False})


@cases(sink_softmax_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in _cases(rng):
        p = evaluate(sink_softmax, case.values, case.attributes)
        dp = random_row(rng, p.shape, 24 if case.name == "heads" else 16)
        yield Case(case.name, [p, dp], {"scale": case.attributes["scale"]})
