# SPDX-License-Identifier: Apache-2.0
"""The inner product of a group by Arm instructions, and the choice among all forms (group_dots.py).

sdot takes quads of int8, both signed: no offset. smmla multiplies two rows of x by two columns of
w, eight int8 of each: twice the products of sdot.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gsqc.numerics.formats import GROUP
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import Buffer, Expr, Stmt, bind, const, intrinsic, load, splat_const
from gsqc.targets.llvm.group_dots import Geometry, GroupDots, PairDots
from gsqc.targets.llvm.quad_dots import ByteDots, QuadDots, quads_in_int16


class SignedQuadDots(QuadDots):
    """sdot: as vpdpbusd, with both operands signed."""

    def __init__(self, cpu: CpuTarget) -> None:
        """For a CPU with the dot product extension."""
        self.cpu = cpu
        # 16 sums of the 32 registers of NEON.
        self.geometry = Geometry(rows=4, lanes=4, vectors=4, word=4)

    def memory(self, x: Buffer, rows: int, k: int) -> list[Stmt]:
        """Nothing: x is read as it lies."""
        self.x = x
        return []

    def prepare_row(self, row: Expr, k: int) -> list[Stmt]:
        """Nothing: without an offset there is nothing to take out."""
        return []

    def pack_group(self, w: Buffer, at: Expr) -> Expr:
        """Quads as they lie."""
        return tirx.reinterpret("int32x8", load(w, at, GROUP))

    def packed_zero(self) -> Expr:
        """Zero."""
        return const(0)

    def start(self, row: Expr, group: Expr, k: int) -> Expr:
        """Zeros: sdot adds to its accumulator."""
        return splat_const(0, self.geometry.lanes)

    def plus(self, total: Any, w: Expr, x: Expr) -> Expr:
        """The instruction: four products more in each lane."""
        return intrinsic("int32x4", "llvm.aarch64.neon.sdot", total, w, x)


class SquareDots(SignedQuadDots):
    """smmla: a vector of sums holds two rows by two columns."""

    packed_dtype = "int64"

    def __init__(self, cpu: CpuTarget) -> None:
        """For a CPU with the matrix extension."""
        self.cpu = cpu
        self.geometry = Geometry(rows=4, lanes=4, vectors=2, word=8)

    def pack_group(self, w: Buffer, at: Expr) -> Expr:
        """Words of eight bytes, as they lie."""
        return tirx.reinterpret("int64x4", load(w, at, GROUP))

    def packed_zero(self) -> Expr:
        """Zero."""
        return const(0, "int64")

    def dots(
        self, packed: Buffer, rows: list[Expr], group: Expr, k: int
    ) -> tuple[list[list[Expr]], list[Stmt]]:
        """As the others, by squares of two rows and two columns."""
        g = self.geometry
        statements: list[Stmt] = []
        pairs, columns = range(0, g.rows, 2), range(0, g.columns, 2)
        sums = {(i, c): splat_const(0, 4) for i in pairs for c in columns}
        for word in range(g.words):
            w, x = {}, {}
            for c in columns:
                at = (group * const(g.words) + const(word)) * const(g.columns) + const(c)
                w[c], statement = bind(
                    f"w{word}_{c}", tirx.reinterpret("int8x16", load(packed, at, 2))
                )
                statements.append(statement)
            # Two rows of x side by side make the other square operand. Only the last tile may hold
            # a row twice.
            for i in pairs:
                at = group * const(GROUP) + const(g.word * word)
                both = [load(self.x, row * const(k) + at, g.word) for row in rows[i : i + 2]]
                x[i], statement = bind(
                    f"x{word}_{i}", tirx.Shuffle(both, [const(n) for n in range(16)])
                )
                statements.append(statement)
            for i, c in sums:
                product = intrinsic("int32x4", "llvm.aarch64.neon.smmla", sums[i, c], x[i], w[c])
                sums[i, c], statement = bind(f"d{word}_{i}_{c}", product)
                statements.append(statement)
        # A square has its first row in lanes 0 and 1. Two squares side by side give four columns
        # of a row.
        halves = ([0, 1, 4, 5], [2, 3, 6, 7])
        dots = []
        for i in range(g.rows):
            lanes = [const(n) for n in halves[i % 2]]
            squares = [[sums[i - i % 2, j * g.lanes + c] for c in (0, 2)] for j in range(g.vectors)]
            dots.append([tirx.Shuffle(both, lanes) for both in squares])
        return dots, statements


def group_dots(cpu: CpuTarget, x_bits: int, w_bits: int) -> GroupDots:
    """The fastest form that a CPU has for operands of these bits."""
    if cpu.i8mm:
        return SquareDots(cpu)
    if cpu.dotprod:
        return SignedQuadDots(cpu)
    if cpu.vnni:
        return QuadDots(cpu)
    # With operands of 8 bits not even one sum of two products fits int16: pairs of int16 are left.
    if cpu.avx2 and quads_in_int16(x_bits, w_bits):
        return ByteDots(cpu, x_bits, w_bits)
    return PairDots(cpu)
