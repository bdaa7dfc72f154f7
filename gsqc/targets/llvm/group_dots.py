# SPDX-License-Identifier: Apache-2.0
"""The inner product of a group: a tile of rows of x by vectors of columns of w, exact in int32.

GroupDots       what a form must offer, and the loop over a group's words that most forms share
PairDots        pmadd.wd on pairs of int16. AVX2, or plain.
QuadDots        vpdpbusd on quads of int8. AVX-512 VNNI, AVX-VNNI. In quad_dots.py.
ByteDots        pmaddubsw on quads of int8, up to 7 bits. AVX2. In quad_dots.py.
SignedQuadDots  sdot on quads of int8. Arm's dot product extension. In arm_dots.py.
SquareDots      smmla on two rows by two columns. Arm's i8mm. In arm_dots.py.

In all of them w is packed once per job: the columns of a block lie side by side in lanes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from gsqc.numerics.formats import GROUP
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
    # psadbw sums 8 bytes at a time as |byte - 0|, in one instruction instead of a widening tree.
    if cpu.avx2:
        quarters = intrinsic(
            "int64x4", "llvm.x86.avx2.psad.bw", bytes_, splat_const(0, GROUP, "int8")
        )
        return intrinsic("int64", "llvm.vector.reduce.add", quarters).astype("int32")
    wide = tirx.reinterpret(f"uint8x{GROUP}", bytes_).astype(f"int32x{GROUP}")
    return intrinsic("int32", "llvm.vector.reduce.add", wide)


@dataclass(frozen=True)
class Geometry:
    """A tile: `rows` of x by `vectors` of `lanes` columns of w.

    A packed word holds `word` bytes of one column. A tile's sums must fit the registers: 16 vectors
    on AVX2, 32 on AVX-512 and NEON.
    """

    rows: int
    lanes: int
    vectors: int
    word: int

    @property
    def columns(self) -> int:
        """Columns of w."""
        return self.lanes * self.vectors

    @property
    def words(self) -> int:
        """Words of a group."""
        return GROUP // self.word


class GroupDots(ABC):
    """How a matmul kernel multiplies one group."""

    geometry: Geometry
    packed_dtype: str
    """Of a packed word."""

    @abstractmethod
    def memory(self, x: Buffer, rows: int, k: int) -> list[Stmt]:
        """What `prepare_row` writes for x [rows, k] int8, allocated."""

    @abstractmethod
    def prepare_row(self, row: Expr, k: int) -> list[Stmt]:
        """Statements for a row of x, before its first dot."""

    @abstractmethod
    def pack_group(self, w: Buffer, at: Expr) -> Expr:
        """The packed words of a group of w that begins at an element index, as a vector."""

    @abstractmethod
    def packed_zero(self) -> Expr:
        """The packed word of zeros."""

    @abstractmethod
    def start(self, row: Expr, group: Expr, k: int) -> Expr | None:
        """What the dots of a row begin with, as a vector; None for their first product."""

    @abstractmethod
    def w_word(self, packed: Buffer, at: Expr) -> Expr:
        """A packed word of each lane's column, as the instruction takes it."""

    @abstractmethod
    def x_word(self, at: Expr) -> Expr:
        """A word of x in every lane."""

    @abstractmethod
    def plus(self, total: Any, w: Expr, x: Expr) -> Expr:
        """`total` and the products of a word."""

    def dots(
        self, packed: Buffer, rows: list[Expr], group: Expr, k: int
    ) -> tuple[list[list[Expr]], list[Stmt]]:
        """The int32 dots [row][vector] of a group, and the statements before them.

        `rows` are indices of x.
        """
        g = self.geometry
        statements: list[Stmt] = []
        totals = [[self.start(row, group, k)] * g.vectors for row in rows]
        # Word by word over the whole tile. A word of w is loaded once for all rows of x, and the
        # tile's sums do not wait for each other, which hides the latency of the instruction.
        for word in range(g.words):
            columns = []
            for j in range(g.vectors):
                at = (group * const(g.words) + const(word)) * const(g.columns) + const(j * g.lanes)
                column, statement = bind(f"w{word}_{j}", self.w_word(packed, at))
                columns.append(column)
                statements.append(statement)
            for i, row in enumerate(rows):
                x = self.x_word(row * const(k) + group * const(GROUP) + const(g.word * word))
                for j in range(g.vectors):
                    totals[i][j], begin = self.add(totals[i][j], columns[j], x, (word, i, j))
                    statements += begin
        return totals, statements

    def add(
        self, total: Any, w: Expr, x: Expr, place: tuple[int, int, int]
    ) -> tuple[Expr, list[Stmt]]:
        """A name for the next total of a row and vector, and the statements that define it.

        `place` is (word, row, vector).
        """
        word, i, j = place
        name, statement = bind(f"d{word}_{i}_{j}", self.plus(total, w, x))
        return name, [statement]


class PairDots(GroupDots):
    """pmadd.wd: two products per int32 lane.

    x is widened to int16 once per call. The pairs of w are widened when they are loaded, because
    int16 in memory would double the traffic of the larger operand.
    """

    packed_dtype = "int16"

    def __init__(self, cpu: CpuTarget) -> None:
        """For any CPU: without AVX2, LLVM finds its own instruction for the same products."""
        self.cpu = cpu
        # Eight sums, two vectors of w and one of x, of 16 registers. LLVM splits a vector in two
        # where registers have four lanes.
        self.geometry = Geometry(rows=4, lanes=8, vectors=2, word=2)

    def memory(self, x: Buffer, rows: int, k: int) -> list[Stmt]:
        """x as int16."""
        self.x = x
        self.wide = new_buffer("wide", rows * k, "int16")
        return [allocate(self.wide)]

    def prepare_row(self, row: Expr, k: int) -> list[Stmt]:
        """Widen a row."""
        part = new_var("part")
        at = row * const(k) + part * const(16)
        widened = load(self.x, at, 16).astype("int16x16")
        return [loop(part, k // 16, [store(self.wide, at, widened, 16)])]

    def pack_group(self, w: Buffer, at: Expr) -> Expr:
        """Pairs as they lie."""
        return tirx.reinterpret("int16x16", load(w, at, GROUP))

    def packed_zero(self) -> Expr:
        """Two zeros."""
        return const(0, "int16")

    def start(self, row: Expr, group: Expr, k: int) -> None:
        """The first product."""

    def w_word(self, packed: Buffer, at: Expr) -> Expr:
        """Pairs of int8, widened."""
        lanes = self.geometry.lanes
        bytes_ = tirx.reinterpret(f"int8x{2 * lanes}", load(packed, at, lanes))
        return bytes_.astype(f"int16x{2 * lanes}")

    def x_word(self, at: Expr) -> Expr:
        """A pair of int16, copied as one int32."""
        lanes = self.geometry.lanes
        pair = tirx.reinterpret("int32", load(self.wide, at, 2))
        return tirx.reinterpret(f"int16x{2 * lanes}", splat(pair, lanes))

    def plus(self, total: Any, w: Expr, x: Expr) -> Expr:
        """The product, added apart from it: pmadd.wd has no accumulator."""
        product = self.product(x, w)
        return product if total is None else total + product

    def product(self, x: Expr, w: Expr) -> Expr:
        """int16 pairs -> int32 sums of two products each."""
        lanes = self.geometry.lanes
        if self.cpu.avx2:
            return intrinsic(f"int32x{lanes}", "llvm.x86.avx2.pmadd.wd", x, w)
        # Written so that LLVM recognises it: pmaddwd on SSE2, smull and addp on NEON.
        wide = [v.astype(f"int32x{2 * lanes}") for v in (x, w)]
        products = wide[0] * wide[1]
        even, odd = (
            tirx.Shuffle([products], [const(2 * n + part) for n in range(lanes)]) for part in (0, 1)
        )
        return even + odd
