# SPDX-License-Identifier: Apache-2.0
"""turn_pairs and others: columns in pairs, as a rotation takes them.

Columns lie in groups. The first half of a group holds the first numbers of its pairs, the second
half the second ones. PEFT's RoAd has this order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.layout import with_row_exponents
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


def _halves(x: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """x [T, n] -> the first and the second halves of its groups, [T, n/group, 1, group/2] each."""
    rows, n = x.shape
    split = x.reshape(rows, n // group, 2, group // 2)
    size = (rows, n // group, 1, group // 2)
    return split.slice((0, 0, 0, 0), size), split.slice((0, 0, 1, 0), size)


@op(Kind.LAYOUT)
def turn_pairs(b: Builder, x: Row, *, group: int, back: bool) -> Row:
    """x [T, n] Row -> each pair (u, v) as (-v, u), or back as (v, -u): a quarter turn. Exact."""
    u, v = _halves(x.mantissa, group)
    parts = [v, 0 - u] if back else [0 - v, u]
    return Row(b.concat(parts, 2).reshape(*x.shape).cast(x.m.dtype), x.e, x.bits)


@turn_pairs.define_gradient
def _turn_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    group, back = call.attributes["group"], call.attributes["back"]
    return [g.call(turn_pairs, dy, group=group, back=not back)]


@op(Kind.LAYOUT)
def both_of_pairs(b: Builder, x: Row, *, group: int) -> Row:
    """x [R, n/2] Row, a number for each pair -> [R, n], that number for both of the pair. Exact."""
    rows, half = x.shape
    m = x.m.reshape(rows, 2 * half // group, 1, group // 2)
    return Row(b.concat([m, m], 2).reshape(rows, 2 * half), x.e, x.bits)


@op(Kind.LAYOUT)
def one_of_pairs(b: Builder, x: Row, *, group: int, second: bool) -> Row:
    """x [R, n] Row with an exponent per row -> the first or the second of each pair, [R, n/2]."""
    rows, n = x.shape
    return Row(_halves(x.m, group)[second].reshape(rows, n // 2), x.e, x.bits)


@both_of_pairs.define_gradient
def _both_gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    group, dy = call.attributes["group"], with_row_exponents(g, dy)
    halves = [g.call(one_of_pairs, dy, group=group, second=second) for second in (False, True)]
    return [g.call(add, *halves, bits=24)]


@cases(turn_pairs)
def _turn_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("groups", [random_row(rng, (5, 64), 24)], {"group": 32, "back": False})
    yield Case("back", [random_row(rng, (5, 24), 16)], {"group": 8, "back": True})


@cases(both_of_pairs)
def _both_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("groups", [random_row(rng, (1, 32), 24)], {"group": 16})
    yield Case("one group", [random_row(rng, (3, 5), 16)], {"group": 10})


@cases(one_of_pairs)
def _one_cases(rng: np.random.Generator) -> Iterator[Case]:
    for second in (False, True):
        x = random_row(rng, (4, 64), 24)
        yield Case(f"second {second}", [x], {"group": 16, "second": second})
