# SPDX-License-Identifier: Apache-2.0
"""Where an operand that is broadcast is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Index = Any
"""A flat index in a target's own form, with + between indices."""
Split = Callable[[Index, int], tuple[Index, Index]]
"""(index // period, index % period)."""


def broadcast_index(
    shape: Sequence[int],
    source: Sequence[int],
    index: Index,
    split: Split,
    scale: Callable[[Index, int], Index],
    zero: Index,
) -> Index:
    """The flat index into `source` of element `index` of `shape`, which `source` broadcasts
    against.
    """
    assert len(shape) == len(source), (shape, source)
    segments: list[tuple[int, bool]] = []
    for size, own in zip(shape, source, strict=True):
        if size == 1:
            continue
        kept = own == size
        if segments and segments[-1][1] == kept:
            segments[-1] = (segments[-1][0] * size, kept)
        else:
            segments.append((size, kept))
    result, stride, rest = zero, 1, index
    for position, (size, kept) in reversed(list(enumerate(segments))):
        rest, part = split(rest, size) if position else (zero, rest)
        if kept:
            result = result + scale(part, stride)
            stride *= size
    return result
