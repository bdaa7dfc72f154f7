# SPDX-License-Identifier: Apache-2.0
"""The inner product of a group on quads of int8, by x86 instructions (group_dots.py).

Both instructions take one unsigned operand. That is w plus an offset, so that the signed one is a
quad of x, which vpdpbusd broadcasts from memory itself. Σ x·(w + offset) - offset · Σ x is the dot:
the sums of x, times -offset, start the accumulator.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from gsqc.numerics.formats import GROUP, largest_operand
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    bind,
    const,
    intrinsic,
    load,
    loop,
    new_buffer,
    new_var,
    splat,
    splat_const,
    store,
)
from gsqc.targets.llvm.group_dots import Geometry, GroupDots, sum_of_group


class QuadDots(GroupDots):
    """vpdpbusd: four products per int32 lane, added to it."""

    packed_dtype = "int32"
    offset = 128
    """Makes a weight unsigned."""

    def __init__(self, cpu: CpuTarget) -> None:
        """For a CPU with VNNI."""
        self.cpu = cpu
        # 12 sums of the 32 registers of AVX-512, 8 sums of the 16 of AVX.
        self.geometry = Geometry(6, 16, 2, 4) if cpu.lanes == 16 else Geometry(4, 8, 2, 4)

    def memory(self, x: Buffer, rows: int, k: int) -> list[Stmt]:
        """-offset · the sum of each group of x."""
        self.x = x
        self.starts = new_buffer("starts", rows * (k // GROUP), "int32")
        return [allocate(self.starts)]

    def prepare_row(self, row: Expr, k: int) -> list[Stmt]:
        """The sums of a row's groups."""
        groups, group = k // GROUP, new_var("group")
        # Flipping the sign bit adds 128, which makes the bytes unsigned for sum_of_group.
        signed = load(self.x, row * const(k) + group * const(GROUP), GROUP)
        unsigned = signed ^ splat_const(-128, GROUP, "int8")
        total = sum_of_group(unsigned, self.cpu) - const(GROUP * 128)
        start = store(self.starts, row * const(groups) + group, total * const(-self.offset))
        return [loop(group, groups, [start])]

    def pack_group(self, w: Buffer, at: Expr) -> Expr:
        """Quads of w + offset."""
        w = load(w, at, GROUP)
        if self.offset == 128:  # an int8 has no 128 to add
            return tirx.reinterpret("int32x8", w ^ splat_const(-128, GROUP, "int8"))
        return tirx.reinterpret("int32x8", w + splat_const(self.offset, GROUP, "int8"))

    def packed_zero(self) -> Expr:
        """Four times the offset."""
        return const(int.from_bytes(bytes([self.offset] * 4), "little", signed=True))

    def start(self, row: Expr, group: Expr, k: int) -> Expr:
        """What takes the offset back out."""
        total = load(self.starts, row * const(k // GROUP) + group)
        return splat(total, self.geometry.lanes)

    def w_word(self, packed: Buffer, at: Expr) -> Expr:
        """Quads as they were packed."""
        lanes = self.geometry.lanes
        return tirx.reinterpret(f"int8x{4 * lanes}", load(packed, at, lanes))

    def x_word(self, at: Expr) -> Expr:
        """A quad of int8, copied as one int32."""
        lanes = self.geometry.lanes
        quad = tirx.reinterpret("int32", load(self.x, at, 4))
        return tirx.reinterpret(f"int8x{4 * lanes}", splat(quad, lanes))

    def plus(self, total: Any, w: Expr, x: Expr) -> Expr:
        """The instruction: four products more in each lane."""
        lanes = self.geometry.lanes
        return intrinsic(f"int32x{lanes}", f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", total, w, x)


class ByteDots(QuadDots):
    """pmaddubsw: two products per int16 lane, added up in int16 while they fit.

    The offset is the least that makes w unsigned, so that small operands leave room in the int16.
    """

    def __init__(self, cpu: CpuTarget, x_bits: int, w_bits: int) -> None:
        """For operands of these bits."""
        self.cpu = cpu
        self.geometry = Geometry(rows=4, lanes=8, vectors=2, word=4)
        self.offset = _offset(w_bits)
        self.quads = min(quads_in_int16(x_bits, w_bits), self.geometry.words)
        self._pairs: dict[tuple[int, int], Expr] = {}

    def add(
        self, total: Any, w: Expr, x: Expr, place: tuple[int, int, int]
    ) -> tuple[Expr, list[Stmt]]:
        """Add to the int16 pairs, and these to the total when they are full."""
        quad, i, j = place
        pairs = intrinsic("int16x16", "llvm.x86.avx2.pmadd.ub.sw", w, x)
        if quad % self.quads:
            pairs = self._pairs[i, j] + pairs
        self._pairs[i, j], statement = bind(f"p{quad}_{i}_{j}", pairs)
        if (quad + 1) % self.quads and quad != self.geometry.words - 1:
            return total, [statement]
        # A product with ones adds neighbouring int16 into int32.
        ones = splat_const(1, 16, "int16")
        widened = intrinsic("int32x8", "llvm.x86.avx2.pmadd.wd", self._pairs[i, j], ones)
        name, widen = bind(f"d{quad}_{i}_{j}", total + widened)
        return name, [statement, widen]


def quads_in_int16(x_bits: int, w_bits: int) -> int:
    """How many pairs of products, w unsigned, an int16 can add up: 0 if not even one."""
    unsigned = largest_operand(w_bits) + _offset(w_bits)
    return ((1 << 15) - 1) // (2 * largest_operand(x_bits) * unsigned)


def _offset(w_bits: int) -> int:
    """The least power of two above |w|."""
    return 1 << largest_operand(w_bits).bit_length()
