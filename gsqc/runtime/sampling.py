# SPDX-License-Identifier: Apache-2.0
"""Picks the next token from integer logits with integers only: the same on every machine."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import BundleError
from gsqc.numerics.random import uniform_below

Array = npt.NDArray[Any]
Chunk = tuple[Array, int]
"""Logits m · 2^e of a part of the vocabulary: mantissas and their exponent."""

FRACTION_BITS = 16
MAXIMUM_OCTAVES = 30
LARGEST_EXPONENT = 1024
"""Of logits, up and down. Floats, of which weights are made, stay far below."""
LOG2_E = Fraction(6196328018, 2**32)
"""log2(e) to 33 bits."""


def end_tokens(value: Any) -> frozenset[int]:
    """The tokens that end a text: a token, a list of them, or None, as a manifest has them."""
    return frozenset(t for t in (value if isinstance(value, list) else [value]) if type(t) is int)


def _fixed_point(chunks: list[Chunk], factor: Fraction) -> list[int]:
    """All logits times a factor, in Q16, as Python ints: exact up to one floor."""
    values: list[int] = []
    for mantissas, exponent in chunks:
        scaled = factor * (Fraction(2) ** exponent) * (1 << FRACTION_BITS)
        numerator, denominator = scaled.numerator, scaled.denominator
        values += [int(m) * numerator // denominator for m in mantissas]
    return values


def _greedy(chunks: list[Chunk]) -> int:
    """The token with the largest logit, the first of equals."""
    best: tuple[Fraction, int] | None = None
    start = 0
    for mantissas, exponent in chunks:
        k = int(np.argmax(mantissas))
        value = int(mantissas[k]) * Fraction(2) ** exponent
        if best is None or value > best[0]:
            best = (value, start + k)
        start += len(mantissas)
    assert best is not None
    return best[1]


def _exp2_table() -> list[int]:
    """2^(-k / 2^16) for k = 2^0 … 2^15 in Q62.

    Repeated integer square roots give the same table on every machine.
    """
    from math import isqrt

    roots, value = [], 1 << 61  # 2^-1 in Q62
    for _ in range(FRACTION_BITS):
        value = isqrt(value << 62)
        roots.append(value)
    return roots[::-1]


_ROOTS = _exp2_table()


def exp2_negative(x: int) -> int:
    """2^-x in Q62 for x ≥ 0 in Q16."""
    value = 1 << 62
    for bit, root in enumerate(_ROOTS):
        if x >> bit & 1:
            value = value * root >> 62
    return value >> (x >> FRACTION_BITS)


def pick_token(chunks: list[Chunk], temperature: Fraction, seed: int, position: int) -> int:
    """The next token: that of the largest logit at temperature 0, else a drawn one.

    A token is drawn with the weight 2^(logit · log2(e) / temperature). Tokens 30 octaves or more
    below the likeliest are never drawn. The draw depends on seed and position alone.

    Raises BundleError if an exponent is beyond the number format: 2^e would take all memory.
    """
    for _, exponent in chunks:
        if abs(exponent) > LARGEST_EXPONENT:
            raise BundleError(
                f"the logits have the exponent {exponent}, so the bundle's weights are no model's",
                "compile the model again",
            )
    if temperature == 0:
        return _greedy(chunks)
    octaves = _fixed_point(chunks, LOG2_E / temperature)
    top = max(octaves)
    likely = [
        (k, top - v) for k, v in enumerate(octaves) if top - v < MAXIMUM_OCTAVES << FRACTION_BITS
    ]
    weights = [(k, exp2_negative(d)) for k, d in likely]
    remaining = uniform_below(sum(w for _, w in weights), seed, position)
    for token, weight in weights:
        remaining -= weight
        if remaining < 0:
            return token
    raise AssertionError("a draw below the total picks a token")
