# SPDX-License-Identifier: Apache-2.0
"""Sylvester's Hadamard matrix, by which the operator `rotate` multiplies."""

from __future__ import annotations

ROTATED = 32
"""Numbers that a rotation takes together."""
HADAMARD = tuple(
    tuple(1 - 2 * ((j & k).bit_count() & 1) for k in range(ROTATED)) for j in range(ROTATED)
)
"""H[j][k] is 1, or -1 where j and k have an odd number of bits in common. H is symmetric, and
H·H = 32.
"""
