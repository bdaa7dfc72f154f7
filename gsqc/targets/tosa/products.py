# SPDX-License-Identifier: Apache-2.0
"""Products as TOSA operators.

mulr15(a, b)   a·b in two halves of a: (a >> 15)·b + ((a & 0x7fff)·b + 2^14 >> 15), 6 operators
mulr30(a, b)   both operands in halves of 15 bits, 13 operators
matmul         TRANSPOSE of the smaller operand, MATMUL with a 48-bit result, then RESCALE
rotate         MATMUL with the Hadamard matrix as a constant. A number of more than 16 bits is
               split in two: H·x = (H·(x >> 12) << 12) + H·(x & 0xfff)
"""

from __future__ import annotations

import math

from gsqc.numerics.operators.hadamard import HADAMARD, ROTATED
from gsqc.targets.tosa.tosa_file import Tensor, TosaFile

LOW_BITS = 12
"""Bits of the lower part of a number that is rotated. RESCALE shifts left by 12 at most."""


class Products(TosaFile):
    """Writes products."""

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x = high · 2^15 + low with 0 ≤ low < 2^15."""
        high = self.binary("arithmetic_right_shift", x, self.scalar(15, x))
        return high, self.binary("bitwise_and", x, self.scalar(0x7FFF, x))

    def round15(self, x: Tensor) -> Tensor:
        """(x + 2^14) >> 15."""
        return self.binary("arithmetic_right_shift_round", x, self.scalar(15, x))

    def mulr15(self, x: Tensor, y: Tensor) -> Tensor:
        """(x·y + 2^14) >> 15, from the halves of x."""
        # TOSA's MUL has 32 bits: the half that is rounded away is added before the shift.
        high, low = self.halves(x)
        rounded = self.round15(self.binary("mul", low, y))
        return self.binary("add", self.binary("mul", high, y), rounded)

    def mulr30(self, x: Tensor, y: Tensor) -> Tensor:
        """(x·y + 2^29) >> 30, from the halves of both."""
        x_high, x_low = self.halves(x)
        y_high, y_low = self.halves(y)
        # No sum of these can overflow: by the builder's contract |x| and |y| are at most 2^30.
        cross = self.binary(
            "add", self.binary("mul", x_high, y_low), self.binary("mul", x_low, y_high)
        )
        # Cutting the lowest 15 bits first changes nothing: a floor of a floor is one floor.
        low = self.binary("mul", x_low, y_low)
        low = self.binary("arithmetic_right_shift", low, self.scalar(15, low))
        return self.binary(
            "add", self.binary("mul", x_high, y_high), self.round15(self.binary("add", cross, low))
        )

    def turned(self, x: Tensor) -> Tensor:
        """The last two axes of three change places."""
        batch, rows, columns = x[1]
        return self.emit("TRANSPOSE", "Transpose", [x], (batch, columns, rows), x[2], [0, 2, 1])

    def matmul(self, x: Tensor, w: Tensor, shift: int) -> Tensor:
        """x · wᵀ, or (w · xᵀ)ᵀ where x has fewer rows than w."""
        # The NPU moves the second operand twice, so that is the smaller one. It can write the
        # result transposed at no cost.
        if x[1][1] < w[1][1]:
            return self.turned(self.matmul(w, x, shift))
        return self.wide_product(x, self.turned(w), shift)

    def wide_product(self, x: Tensor, w: Tensor, shift: int) -> Tensor:
        """x · w of int16 in 48 bits, then shifted right by -12 to 48, rounded half up."""
        zero = self.constant([0], (1,), "int16")
        wide = self.emit("MATMUL", "MatMul", [x, w, zero, zero], (*x[1][:2], w[1][2]), "int48")
        # A multiplier of 2^14 and 14 more bits of shift: RESCALE's shift must not be less than 2.
        return self.rescale(wide, 1 << 14, 14 + shift)

    def narrowed(self, x: Tensor) -> Tensor:
        """x as int16."""
        return self.emit("CAST", "Cast", [x], x[1], "int16")

    def rotate16(self, x: Tensor, shift: int = 0) -> Tensor:
        """H·x · 2^shift for x int16 [..., 32], as [1, rows, 32]."""
        rows = self.reshape(x, (1, math.prod(x[1]) // ROTATED, ROTATED))
        # The matrix is symmetric, so it is its own transpose.
        matrix = self.constant([v for row in HADAMARD for v in row], (1, ROTATED, ROTATED), "int16")
        return self.wide_product(rows, matrix, -shift)

    def rotate(self, x: Tensor) -> Tensor:
        """H·x for x int32 [..., 32], |x| < 2^26."""
        high = self.binary("arithmetic_right_shift", x, self.scalar(LOW_BITS, x))
        low = self.binary("bitwise_and", x, self.scalar((1 << LOW_BITS) - 1, x))
        parts = self.rotate16(self.narrowed(high), LOW_BITS), self.rotate16(self.narrowed(low))
        return self.reshape(self.binary("add", *parts), x[1])
