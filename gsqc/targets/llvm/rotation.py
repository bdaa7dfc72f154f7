# SPDX-License-Identifier: Apache-2.0
"""The rotation of a group in registers: rounds of sums and differences.

Sylvester's matrix is a product of five: in the round of a bit, two numbers whose places differ in
that bit become their sum and their difference. Where the bit tells vectors apart, that costs two
instructions for two vectors. Where it tells lanes apart, it changes its role with one that tells
vectors apart: two shuffles. In the end two more put all numbers back in their places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from gsqc.targets.llvm.emit import Expr, const

Named = Callable[[Expr], Expr]


def _shuffled(pair: Sequence[Expr], places: Sequence[int]) -> Expr:
    """Lanes of two vectors, the second's behind the first's."""
    return tirx.Shuffle(list(pair), [const(p) for p in places])


def _rounds_of_lanes(pair: Sequence[Expr], lanes: int, named: Named) -> list[Expr]:
    """The rounds of all lane bits, on two vectors."""
    held = list(range(2 * lanes))
    bit = lanes // 2
    while bit:
        low = [k ^ bit ^ lanes if k & bit else k for k in range(lanes)]
        high = [k ^ lanes if k & bit else k ^ bit for k in range(lanes)]
        first, second = (named(_shuffled(pair, places)) for places in (low, high))
        pair = [named(first + second), named(first - second)]
        held = [held[k] for k in (*low, *high)]
        bit //= 2
    back = [held.index(k) for k in range(2 * lanes)]
    return [named(_shuffled(pair, back[:lanes])), named(_shuffled(pair, back[lanes:]))]


def rotated(vectors: list[Expr], lanes: int, named: Named) -> list[Expr]:
    """H·x, x in consecutive vectors of int32; `named` keeps a value that is used more than once."""
    step = len(vectors) // 2
    while step:
        vectors = [
            named(vectors[k ^ step] - v if k & step else v + vectors[k ^ step])
            for k, v in enumerate(vectors)
        ]
        step //= 2
    if lanes == 1:
        return vectors
    pairs = (vectors[k : k + 2] for k in range(0, len(vectors), 2))
    return [v for pair in pairs for v in _rounds_of_lanes(pair, lanes, named)]
