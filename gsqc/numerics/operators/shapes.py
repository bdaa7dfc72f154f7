# SPDX-License-Identifier: Apache-2.0
"""Shapes that operators give."""

from __future__ import annotations


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which shapes of equal rank broadcast. ValueError if they do not fit."""
    if len({len(s) for s in shapes}) != 1:
        raise ValueError(f"operands of different rank: {shapes}")
    result = []
    for sizes in zip(*shapes, strict=True):
        size = max(sizes)
        if any(n not in (1, size) for n in sizes):
            raise ValueError(f"shapes do not broadcast: {shapes}")
        result.append(size)
    return tuple(result)
