# SPDX-License-Identifier: Apache-2.0
"""clamp: numbers that stay within ±limit, as q, k and v of OLMo and MPT may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import saturating_scale, scaled_constant, store_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


def bound_of(x: Row, limit: float) -> Tensor:
    """A positive number as a mantissa at the exponents of x, at most 2^29."""
    m, e = scaled_constant(x.mantissa, limit)
    return saturating_scale(m, x.e - e)


@op(Kind.ROW)
def clamp(b: Builder, x: Row, *, limit: float) -> Row:
    """x [..., n] Row -> the nearest number within ±limit. The bits of x where it is within."""
    bound = bound_of(x, limit)
    return store_row(x.mantissa.clamp(0 - bound, bound), x.e, x.bits)


@op(Kind.ROW)
def clamp_grad(b: Builder, dy: Row, x: Row, *, limit: float) -> Row:
    """dy, x [..., n] Row -> dy where x is within ±limit, else 0. The bits of dy."""
    outside = x.mantissa.abs().greater(bound_of(x, limit))
    return store_row(where(outside, 0, dy.mantissa), dy.e, dy.bits)


@clamp.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(clamp_grad, dy, *call.args, **call.attributes)]


@cases(clamp)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    for limit in (8.0, 0.3, 1e6):
        for bits in (16, 24):
            x = random_row(rng, (6, 40), bits)
            yield Case(f"{bits} bits, limit {limit}", [x], {"limit": limit})


@cases(clamp_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in _cases(rng):
        yield Case(case.name, [random_row(rng, (6, 40), 24), *case.values], case.attributes)
