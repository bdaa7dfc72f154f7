# SPDX-License-Identifier: Apache-2.0
"""Where an operand that is broadcast is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Index = Any
"""An index in a target's own form: with `+` between indices or with an int, and `scaled(int)`."""
Split = Callable[[Index, int], tuple[Index, Index]]
"""(index // period, index % period)."""


def broadcast_index(
    shape: Sequence[int], source: Sequence[int], index: Index, split: Split, zero: Index
) -> Index:
    """The flat index into `source` for element `index` of `shape`.

    `source` broadcasts against `shape`: each of its sizes is that of `shape`, or 1.
    """
    assert len(shape) == len(source), (shape, source)
    # Neighbouring axes that are all kept, or all broadcast, act as one axis: fewer divisions.
    segments: list[tuple[int, bool]] = []
    for size, own in zip(shape, source, strict=True):
        if size == 1:
            continue
        kept = own == size
        if segments and segments[-1][1] == kept:
            segments[-1] = (segments[-1][0] * size, kept)
        else:
            segments.append((size, kept))
    # From the innermost axis outwards, take each kept axis's part of the index. The outermost one
    # is what is left, which needs no division.
    result, stride, rest = zero, 1, index
    for position, (size, kept) in reversed(list(enumerate(segments))):
        rest, part = split(rest, size) if position else (zero, rest)
        if kept:
            result = result + part.scaled(stride)
            stride *= size
    return result
