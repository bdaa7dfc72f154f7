# SPDX-License-Identifier: Apache-2.0
"""gelu, silu, relu and relu_square: activation functions without a gate, on rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.curves import gelu_curve, gelu_share, sigmoid, silu_curve
from gsqc.numerics.ops.primitives import narrow16, normalise, store_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op
from gsqc.numerics.ops.silu_gate import gate_cases, with_factors


def _shared(m: Tensor, e: Tensor, share: Tensor) -> Row:
    """x · share, with share in Q30."""
    return store_row(*normalise(share.mulr15(m), e - 15, 16), 16)


def _sloped(dy: Row, slope: Tensor) -> Row:
    """dy · slope, with slope in Q29."""
    d, d_e = narrow16(dy)
    return store_row(*normalise(slope.mulr15(d), d_e - 14, 16), 16)


@op(Kind.ROW)
def gelu(b: Builder, x: Row, *, tanh: bool) -> Row:
    """x [T, n] Row -> x · Φ(x), Row-16 [T, n]. 1.0 ulp.

    tanh  whether Φ has the form with tanh, or is exact
    """
    m, e = narrow16(x)
    return _shared(m, e, gelu_share(m, e, tanh=tanh))


@op(Kind.ROW)
def gelu_grad(b: Builder, dy: Row, x: Row, *, tanh: bool) -> Row:
    """dy, x [T, n] Row -> dx = dy · (Φ(x) + x·Φ'(x)), Row-16 [T, n]. 1.2 ulp."""
    _, slope = gelu_curve(*narrow16(x), tanh=tanh)
    return _sloped(dy, slope)


@gelu.define_gradient
def _gelu_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(gelu_grad, dy, *call.args, **call.attributes)]


@op(Kind.ROW)
def silu(b: Builder, x: Row, *, factor: float = 1.0) -> Row:
    """x [T, n] Row -> x · σ(factor · x), Row-16 [T, n]. 0.8 ulp.

    factor  1.702 for the form that CLIP calls quick_gelu
    """
    m, e = narrow16(x)
    share, _ = sigmoid(m, e, factor)
    return _shared(m, e, share)


@op(Kind.ROW)
def silu_grad(b: Builder, dy: Row, x: Row, *, factor: float = 1.0) -> Row:
    """dy, x [T, n] Row -> dx = dy · (σ + factor·x·σ·(1 - σ)), Row-16 [T, n]. 0.9 ulp."""
    _, slope = silu_curve(*narrow16(x), factor)
    return _sloped(dy, slope)


@silu.define_gradient
def _silu_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(silu_grad, dy, *call.args, **call.attributes)]


@op(Kind.ROW)
def relu(b: Builder, x: Row) -> Row:
    """x [T, n] Row -> the larger of x and 0, Row-16 [T, n]. Exact from a Row-16."""
    m, e = narrow16(x)
    return store_row(*normalise(m.maximum(0), e, 16), 16)


@op(Kind.ROW)
def relu_grad(b: Builder, dy: Row, x: Row) -> Row:
    """dy, x [T, n] Row -> dx = dy where x > 0, else 0, Row-16 [T, n]. Exact from a Row-16."""
    d, d_e = narrow16(dy)
    return store_row(*normalise(where(x.mantissa.greater(0), d, 0), d_e, 16), 16)


@relu.define_gradient
def _relu_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(relu_grad, dy, *call.args)]


@op(Kind.ROW)
def relu_square(b: Builder, x: Row) -> Row:
    """x [T, n] Row -> relu(x)², Row-16 [T, n]: an exact square, rounded once. 0.5 ulp.

    So et al. 2021, "Primer", arXiv 2109.08668, section 4.1.
    """
    m, e = narrow16(x)
    r = m.maximum(0)
    return store_row(*normalise(r * r, e + e, 16), 16)


@op(Kind.ROW)
def relu_square_grad(b: Builder, dy: Row, x: Row) -> Row:
    """dy, x [T, n] Row -> dx = dy · 2 · relu(x), Row-16 [T, n]. 0.5 ulp."""
    d, d_e = narrow16(dy)
    m, e = narrow16(x)
    return store_row(*normalise(m.maximum(0) * d, e + d_e + 1, 16), 16)


@relu_square.define_gradient
def _relu_square_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    return [g.call(relu_square_grad, dy, *call.args)]


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    """Those of a gate, without its up, and one whose numbers are all negative."""
    for case in gate_cases(rng):
        yield Case(case.name, case.values[:1])
    x = random_row(rng, (3, 40), 24)
    yield Case("negative", [Row(-np.abs(x.m), x.e, 24)])


def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for case in _cases(rng):
        yield Case(case.name, [random_row(rng, case.values[0].shape, 16), *case.values])


for _plain in (relu, relu_square):
    cases(_plain)(_cases)
for _plain_grad in (relu_grad, relu_square_grad):
    cases(_plain_grad)(_grad_cases)
cases(silu)(with_factors(_cases))
cases(silu_grad)(with_factors(_grad_cases))


@cases(gelu)
def _gelu_cases(rng: np.random.Generator) -> Iterator[Case]:
    for tanh in (True, False):
        for case in _cases(rng):
            yield Case(f"{case.name} tanh={tanh}", case.values, {"tanh": tanh})


@cases(gelu_grad)
def _gelu_grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for tanh in (True, False):
        for case in _grad_cases(rng):
            yield Case(f"{case.name} tanh={tanh}", case.values, {"tanh": tanh})
