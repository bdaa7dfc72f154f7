# SPDX-License-Identifier: Apache-2.0
"""The inner product of a group, by instruction: a tile of rows of x by vectors of columns of w,
exact in int32.

PairDots        pmadd.wd on int16 pairs: x widened once per call, w's pairs of int8 widened when loaded. AVX2, or plain.
QuadDots        vpdpbusd on quads of int8: w + 128 is its unsigned operand, so that the signed one is a quad of x, which
                the instruction broadcasts itself. Σ x·(w + 128) - 128 · Σ x is the dot: the sums of
                x start the accumulator. AVX-512 VNNI, AVX-VNNI.
ByteDots        pmaddubsw on quads of int8, likewise, for fewer bits: pairs of products fit int16, and up to 6 bits so
                does the sum of a whole group. AVX2.

In all of them, and in those of arm_dots.py, w is packed once per job, a block of columns side by
side in lanes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm import tirx

from gsqc.numerics.formats import GROUP, largest
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


def sum_of_group(bytes_: Expr, cpu: CpuTarget) -> Expr:
    """The int32 sum of a group's bytes, taken as unsigned: int8x32 -> int32."""
    if cpu.avx2:
        quarters = intrinsic(
            "int64x4", "llvm.x86.avx2.psad.bw", bytes_, splat_const(0, GROUP, "int8")
        )
        return intrinsic("int64", "llvm.vector.reduce.add", quarters).astype("int32")
    wide = tirx.reinterpret(f"uint8x{GROUP}", bytes_).astype(f"int32x{GROUP}")
    return intrinsic("int32", "llvm.vector.reduce.add", wide)


@dataclass(frozen=True)
class Geometry:
    """A tile: `rows` of x by `vectors` of `lanes` columns; a packed word holds `word` bytes of one
    column.
    """

    rows: int
    lanes: int
    vectors: int
    word: int

    @property
    def columns(self) -> int:
        return self.lanes * self.vectors

    @property
    def words(self) -> int:
        """Words of a group."""
        return GROUP // self.word


class GroupDots(Protocol):
    """How a matmul kernel multiplies one group."""

    geometry: Geometry

    def memory(self, x: Buffer, rows: int, k: int) -> list[Stmt]:
        """What `prepare_row` writes for x [rows, k] int8, allocated."""

    def prepare_row(self, row: Expr, k: int) -> list[Stmt]:
        """Statements for a row of x, before its first dot."""

    def pack_group(self, w: Buffer, at: Expr) -> Expr:
        """The packed words of a group of w that begins at an element index, as a vector."""

    def packed_dtype(self) -> str:
        """Of a packed word."""

    def packed_zero(self) -> Expr:
        """The packed word of zeros."""

    def dots(
        self, packed: Buffer, rows: list[Expr], group: Expr, k: int
    ) -> tuple[list[list[Expr]], list[Stmt]]:
        """The int32 dots [row][vector] of a group, rows as indices of x, and the statements before
        them.
        """


class PairDots:
    """pmadd.wd: two products per int32 lane."""

    def __init__(self, cpu: CpuTarget) -> None:
        self.cpu = cpu
        self.geometry = Geometry(rows=4, lanes=8, vectors=2, word=2)

    def memory(self, x: Buffer, rows: int, k: int) -> list[Stmt]:
        """x as int16."""
        self.x = x
        self.wide = new_buffer("wide", rows * k, "int16")
        return [allocate(self.wide)]

    def prepare_row(self, row: Expr, k: int) -> list[Stmt]:
        part = new_var("part")
        at = row * const(k) + part * const(16)
        return [
            loop(part, k // 16, [store(self.wide, at, load(self.x, at, 16).astype("int16x16"), 16)])
        ]

    def pack_group(self, w: Buffer, at: Expr) -> Expr:
        return tirx.reinterpret("int16x16", load(w, at, GROUP))

    def packed_dtype(self) -> str:
        return "int16"

    def packed_zero(self) -> Expr:
        return const(0, "int16")

    def product(self, x: Expr, w: Expr) -> Expr:
        """int16 pairs -> int32 sums of two products each."""
        lanes = self.geometry.lanes
        if self.cpu.avx2:
            return intrinsic(f"int32x{lanes}", "llvm.x86.avx2.pmadd.wd", x, w)
        wide = [v.astype(f"int32x{2 * lanes}") for v in (x, w)]
        products = wide[0] * wide[1]
        even, odd = (
            tirx.Shuffle([products], [const(2 * n + part) for n in range(lanes)]) for part in (0, 1)
        )
        return even + odd

    def dots(
        self, packed: Buffer, rows: list[Expr], group: Expr, k: int
    ) -> tuple[list[list[Expr]], list[Stmt]]:
        g = self.geometry
        statements: list[Stmt] = []
        dots: list[list[Expr]] = [[None] * g.vectors for _ in rows]
        pairs = f"int16x{2 * g.lanes}"
        for pair in range(g.words):
            columns = []
            for j in range(g.vectors):
                at = (group * const(g.words) + const(pair)) * const(g.columns) + const(j * g.lanes)
                bytes_ = tirx.reinterpret(f"int8x{2 * g.lanes}", load(packed, at, g.lanes))
                name, statement = bind(f"w{pair}_{j}", bytes_.astype(pairs))
                columns.append(name)
                statements.append(statement)
            for i, row in enumerate(rows):
                at = row * const(k) + group * const(GROUP) + const(2 * pair)
                x = tirx.reinterpret(
                    pairs, splat(tirx.reinterpret("int32", load(self.wide, at, 2)), g.lanes)
                )
                for j in range(g.vectors):
                    product = self.product(x, columns[j])
                    total = dots[i][j] + product if pair else product
                    dots[i][j], statement = bind(f"d{pair}_{i}_{j}", total)
                    statements.append(statement)
        return dots, statements


class QuadDots:
    """vpdpbusd: four products per int32 lane, added to it."""

    offset = 128
    """Makes a weight unsigned."""

    def __init__(self, cpu: CpuTarget) -> None:
        self.cpu = cpu
        self.geometry = Geometry(6, 16, 2, 4) if cpu.lanes == 16 else Geometry(4, 8, 2, 4)

    def memory(self, x: Buffer, rows: int, k: int) -> list[Stmt]:
        """-offset · the sum of each group of x."""
        self.x = x
        self.starts = new_buffer("starts", rows * (k // GROUP), "int32")
        return [allocate(self.starts)]

    def prepare_row(self, row: Expr, k: int) -> list[Stmt]:
        groups, group = k // GROUP, new_var("group")
        unsigned = load(self.x, row * const(k) + group * const(GROUP), GROUP) ^ splat_const(
            -128, GROUP, "int8"
        )
        total = sum_of_group(unsigned, self.cpu) - const(GROUP * 128)
        return [
            loop(
                group,
                groups,
                [store(self.starts, row * const(groups) + group, total * const(-self.offset))],
            )
        ]

    def pack_group(self, w: Buffer, at: Expr) -> Expr:
        w = load(w, at, GROUP)
        if self.offset == 128:
            return tirx.reinterpret("int32x8", w ^ splat_const(-128, GROUP, "int8"))
        return tirx.reinterpret("int32x8", w + splat_const(self.offset, GROUP, "int8"))

    def packed_dtype(self) -> str:
        return "int32"

    def packed_zero(self) -> Expr:
        return const(int.from_bytes(bytes([self.offset] * 4), "little", signed=True))

    def dots(
        self, packed: Buffer, rows: list[Expr], group: Expr, k: int
    ) -> tuple[list[list[Expr]], list[Stmt]]:
        g = self.geometry
        statements: list[Stmt] = []
        dots = [[splat(self.start(row, group, k), g.lanes)] * g.vectors for row in rows]
        quads = f"int8x{4 * g.lanes}"
        for quad in range(g.words):
            columns = []
            for j in range(g.vectors):
                at = (group * const(g.words) + const(quad)) * const(g.columns) + const(j * g.lanes)
                name, statement = bind(
                    f"w{quad}_{j}", tirx.reinterpret(quads, load(packed, at, g.lanes))
                )
                columns.append(name)
                statements.append(statement)
            for i, row in enumerate(rows):
                at = row * const(k) + group * const(GROUP) + const(4 * quad)
                x = tirx.reinterpret(
                    quads, splat(tirx.reinterpret("int32", load(self.x, at, 4)), g.lanes)
                )
                for j in range(g.vectors):
                    dots[i][j], statement = bind(
                        f"d{quad}_{i}_{j}", self.add(dots[i][j], columns[j], x)
                    )
                    statements.append(statement)
        return dots, statements

    def start(self, row: Expr, group: Expr, k: int) -> Expr:
        """What the accumulator of a row begins with."""
        return load(self.starts, row * const(k // GROUP) + group)

    def add(self, total: Expr, w: Expr, x: Expr) -> Expr:
        """The instruction: four products more in each lane."""
        lanes = self.geometry.lanes
        return intrinsic(f"int32x{lanes}", f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", total, w, x)


class ByteDots(QuadDots):
    """pmaddubsw: two products per int16 lane, added up in int16 while they fit."""

    def __init__(self, cpu: CpuTarget, x_bits: int, w_bits: int) -> None:
        self.cpu = cpu
        self.geometry = Geometry(rows=4, lanes=8, vectors=2, word=4)
        self.offset = 1 << (w_bits - 1)
        self.quads = min(quads_in_int16(x_bits, w_bits), self.geometry.words)

    def dots(
        self, packed: Buffer, rows: list[Expr], group: Expr, k: int
    ) -> tuple[list[list[Expr]], list[Stmt]]:
        g = self.geometry
        statements: list[Stmt] = []
        dots = [[splat(self.start(row, group, k), g.lanes)] * g.vectors for row in rows]
        pairs: list[list[Expr]] = [[None] * g.vectors for _ in rows]
        for quad in range(g.words):
            columns = []
            for j in range(g.vectors):
                at = (group * const(g.words) + const(quad)) * const(g.columns) + const(j * g.lanes)
                name, statement = bind(
                    f"w{quad}_{j}", tirx.reinterpret("int8x32", load(packed, at, g.lanes))
                )
                columns.append(name)
                statements.append(statement)
            for i, row in enumerate(rows):
                at = row * const(k) + group * const(GROUP) + const(4 * quad)
                x = tirx.reinterpret(
                    "int8x32", splat(tirx.reinterpret("int32", load(self.x, at, 4)), g.lanes)
                )
                for j in range(g.vectors):
                    product = intrinsic("int16x16", "llvm.x86.avx2.pmadd.ub.sw", columns[j], x)
                    total = pairs[i][j] + product if quad % self.quads else product
                    pairs[i][j], statement = bind(f"p{quad}_{i}_{j}", total)
                    statements.append(statement)
                    if (quad + 1) % self.quads == 0 or quad == g.words - 1:
                        ones = splat_const(1, 16, "int16")
                        added = dots[i][j] + intrinsic(
                            "int32x8", "llvm.x86.avx2.pmadd.wd", pairs[i][j], ones
                        )
                        dots[i][j], statement = bind(f"d{quad}_{i}_{j}", added)
                        statements.append(statement)
        return dots, statements


def quads_in_int16(x_bits: int, w_bits: int) -> int:
    """How many pairs of products, w unsigned, an int16 can add up: 0 if not even one."""
    return ((1 << 15) - 1) // (2 * largest(x_bits) * ((1 << w_bits) - 1))
