# SPDX-License-Identifier: Apache-2.0
"""The exact matmul, hand-scheduled: 16-bit pair products over a group, shifted by both exponents, summed in int64.

A tile is 4 rows of x by 16 rows of w (columns of the result). w's block is packed once per job as pairs of int8 with
the columns side by side in lanes; x is widened to int16 once per call, so that a pair of a row is one 32-bit broadcast.

    for each group:  d[i, j] = Σ over 16 pairs of pmadd.wd(x pair of row i, w pairs of columns j)      int32, exact
                     acc[i, j] += int64(d) << (shift of x's group + shift of w's group)
    C32 = (acc + 2^(s-1)) >> s

Without AVX2 the same loops use the product that LLVM makes of plain int32 vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from gsqc.formats import GROUP
from gsqc.operators.trace import Trace
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Expr,
    Stmt,
    allocate,
    bind,
    const,
    function,
    intrinsic,
    load,
    loop,
    new_buffer,
    new_var,
    splat,
    splat_const,
    store,
    when,
)

ROWS, LANES, VECTORS = 4, 8, 2
COLUMNS = LANES * VECTORS
PAIRS = GROUP // 2
PARALLEL_PRODUCTS = 1 << 19
"""Multiply-adds from which a kernel is worth the start of the thread pool."""


@dataclass(frozen=True)
class _Shape:
    """x [batch, m, k], w [batch, c, k]; rows padded to whole tiles; jobs are blocks of columns and chunks of rows."""

    batch: int
    m: int
    c: int
    k: int

    @property
    def groups(self) -> int:
        return self.k // GROUP

    @property
    def tiles(self) -> int:
        return -(-self.m // ROWS)

    @property
    def blocks(self) -> int:
        return -(-self.c // COLUMNS)

    @property
    def chunks(self) -> int:
        """Row chunks per column block: more than one only where columns alone give too little to share."""
        return 1 if self.batch * self.blocks >= 8 else min(self.tiles, 8)

    @property
    def parallel(self) -> bool:
        return self.batch * self.m * self.c * self.k >= PARALLEL_PRODUCTS


def _pair_product(x: Expr, w: Expr, cpu: CpuTarget) -> Expr:
    """int16x16 pairs -> int32x8 sums of two products each."""
    if cpu.avx2:
        return intrinsic("int32x8", "llvm.x86.avx2.pmadd.wd", x, w)
    wide = [v.astype("int32x16") for v in (x, w)]
    products = wide[0] * wide[1]
    even, odd = (tirx.Shuffle([products], [const(2 * k + part) for k in range(LANES)]) for part in (0, 1))
    return even + odd


class _MatmulWriter:
    def __init__(self, symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> None:
        self.symbol, self.cpu = symbol, cpu
        x, w = trace.inputs[0].shape, trace.inputs[3].shape
        self.shape = _Shape(x[0] if len(x) == 3 else 1, x[-2], w[-2], x[-1])
        self.window_x, self.window_w = 16 - x_bits, 16 - w_bits
        self.shift = next(n.attributes["shift"] for n in trace.nodes if n.operator == "matmul")
        names = ("x_m", "x_d", "x_e", "w_m", "w_d", "w_e", "c")
        nodes = [*trace.inputs, *trace.outputs]
        self.buffers = {
            name: new_buffer(name, _count(node.shape), node.dtype) for name, node in zip(names, nodes, strict=True)
        }
        rows = self.shape.batch * self.shape.tiles * ROWS
        self.wide = new_buffer("wide", rows * self.shape.k, "int16")
        self.packed = new_buffer("packed", self.shape.k // 2 * COLUMNS, "int16")
        self.shifts = new_buffer("shifts", self.shape.groups * COLUMNS, "int32")
        self.sums = new_buffer("sums", ROWS * COLUMNS, "int64")
        self.edge = new_buffer("edge", COLUMNS, "int32")

    def write(self) -> Any:
        body = [allocate(self.wide), self._widen(), self._jobs()]
        return function(self.symbol, list(self.buffers.values()), body)

    def _widen(self) -> Stmt:
        """x as int16 rows; rows beyond the last are zero."""
        s = self.shape
        padded = s.tiles * ROWS
        row, k = new_var("row"), new_var("k")
        source = (tirx.truncdiv(row, const(padded)) * const(s.m) + tirx.truncmod(row, const(padded))) * const(s.k)
        at = row * const(s.k) + k * const(PAIRS)
        value = load(self.buffers["x_m"], source + k * const(PAIRS), PAIRS).astype(f"int16x{PAIRS}")
        inside = tirx.truncmod(row, const(padded)) < const(s.m)
        copy = loop(k, s.k // PAIRS, [store(self.wide, at, value, PAIRS)])
        clear = loop(k, s.k // PAIRS, [store(self.wide, at, splat_const(0, PAIRS, "int16"), PAIRS)])
        body = copy if padded == s.m else tirx.IfThenElse(inside, copy, clear)
        return loop(row, s.batch * padded, [body], parallel=s.parallel)

    def _jobs(self) -> Stmt:
        s = self.shape
        job = new_var("job")
        batch, begin_batch = bind("batch", tirx.truncdiv(job, const(s.blocks * s.chunks)))
        rest = tirx.truncmod(job, const(s.blocks * s.chunks))
        block, begin_block = bind("block", tirx.truncdiv(rest, const(s.chunks)))
        chunk, begin_chunk = bind("chunk", tirx.truncmod(rest, const(s.chunks)))
        tile = new_var("tile")
        first = tirx.truncdiv(chunk * const(s.tiles), const(s.chunks))
        end = tirx.truncdiv((chunk + const(1)) * const(s.tiles), const(s.chunks))
        memory = [allocate(b) for b in (self.packed, self.shifts, self.sums, self.edge)]
        body = [begin_batch, begin_block, begin_chunk, *memory, *self._pack(batch, block)]
        body.append(loop(tile, end - first, self._tile(batch, block, tile), start=first))
        return loop(job, s.batch * s.blocks * s.chunks, body, parallel=s.parallel)

    def _pack(self, batch: Expr, block: Expr) -> list[Stmt]:
        """w's block as pairs of int8, columns side by side, and its groups' shifts; missing columns are zero."""
        s = self.shape
        column, k, g = new_var("column"), new_var("pair"), new_var("group")
        at = block * const(COLUMNS) + column
        row = batch * const(s.c) + at
        pair = tirx.reinterpret("int16", load(self.buffers["w_m"], row * const(s.k) + k * const(2), 2))
        distance = load(self.buffers["w_d"], row * const(s.groups) + g).astype("int32")
        place, shift_place = k * const(COLUMNS) + column, g * const(COLUMNS) + column
        copy = [
            loop(k, s.k // 2, [store(self.packed, place, pair)]),
            loop(g, s.groups, [store(self.shifts, shift_place, const(self.window_w) - distance)]),
        ]
        if s.c % COLUMNS == 0:
            return [loop(column, COLUMNS, copy)]
        clear = [
            loop(k, s.k // 2, [store(self.packed, place, const(0, "int16"))]),
            loop(g, s.groups, [store(self.shifts, shift_place, const(0))]),
        ]
        choose = tirx.IfThenElse(at < const(s.c), tirx.SeqStmt(copy), tirx.SeqStmt(clear))
        return [loop(column, COLUMNS, [choose])]

    def _tile(self, batch: Expr, block: Expr, tile: Expr) -> list[Stmt]:
        s = self.shape
        group = new_var("g")
        zero = [
            store(self.sums, const(v * LANES), splat_const(0, LANES, "int64"), LANES) for v in range(ROWS * VECTORS)
        ]
        rows = [tile * const(ROWS) + const(i) for i in range(ROWS)]
        return [*zero, loop(group, s.groups, self._group(batch, rows, group)), *self._finish(batch, block, rows)]

    def _group(self, batch: Expr, rows: list[Expr], group: Expr) -> list[Stmt]:
        """One group's products, added to the sums at their exponent."""
        s = self.shape
        padded = s.tiles * ROWS
        statements: list[Stmt] = []
        dots: dict[tuple[int, int], Expr] = {}
        for pair in range(PAIRS):
            columns = []
            for j in range(VECTORS):
                at = (group * const(PAIRS) + const(pair)) * const(COLUMNS) + const(j * LANES)
                bytes_ = tirx.reinterpret(f"int8x{2 * LANES}", load(self.packed, at, LANES))
                name, statement = bind(f"w{pair}_{j}", bytes_.astype(f"int16x{2 * LANES}"))
                columns.append(name)
                statements.append(statement)
            for i, row in enumerate(rows):
                at = (batch * const(padded) + row) * const(s.k) + group * const(GROUP) + const(2 * pair)
                x = splat(tirx.reinterpret("int32", load(self.wide, at, 2)), LANES)
                for j in range(VECTORS):
                    product = _pair_product(tirx.reinterpret(f"int16x{2 * LANES}", x), columns[j], self.cpu)
                    total = dots[i, j] + product if pair else product
                    dots[i, j], statement = bind(f"d{pair}_{i}_{j}", total)
                    statements.append(statement)
        return statements + self._accumulate(batch, rows, group, dots)

    def _accumulate(self, batch: Expr, rows: list[Expr], group: Expr, dots: dict[tuple[int, int], Expr]) -> list[Stmt]:
        s = self.shape
        statements = []
        for i, row in enumerate(rows):
            inside = tirx.min(row, const(s.m - 1)) if s.m % ROWS else row
            at = (batch * const(s.m) + inside) * const(s.groups) + group
            distance = load(self.buffers["x_d"], at).astype("int32")
            x_shift, statement = bind(f"s{i}", splat(const(self.window_x) - distance, LANES))
            statements.append(statement)
            for j in range(VECTORS):
                w_shift = load(self.shifts, group * const(COLUMNS) + const(j * LANES), LANES)
                amount = (w_shift + x_shift).astype(f"int64x{LANES}")
                place = const((i * VECTORS + j) * LANES)
                total = load(self.sums, place, LANES) + (dots[i, j].astype(f"int64x{LANES}") << amount)
                statements.append(store(self.sums, place, total, LANES))
        return statements

    def _finish(self, batch: Expr, block: Expr, rows: list[Expr]) -> list[Stmt]:
        """The one rounding, and the result's place; edge tiles go through a small buffer."""
        s = self.shape
        statements = []
        for i, row in enumerate(rows):
            target = (batch * const(s.m) + row) * const(s.c) + block * const(COLUMNS)
            values = []
            for j in range(VECTORS):
                total = load(self.sums, const((i * VECTORS + j) * LANES), LANES)
                half = splat_const(1 << (self.shift - 1), LANES, "int64")
                rounded = (total + half) >> splat_const(self.shift, LANES, "int64")
                values.append(rounded.astype(f"int32x{LANES}"))
            whole = [store(self.buffers["c"], target + const(j * LANES), v, LANES) for j, v in enumerate(values)]
            body: list[Stmt] = whole
            if s.c % COLUMNS:
                lane = new_var("lane")
                copy = store(self.buffers["c"], target + lane, load(self.edge, lane))
                edge = [store(self.edge, const(j * LANES), v, LANES) for j, v in enumerate(values)]
                left = const(s.c) - block * const(COLUMNS)
                edge.append(loop(lane, COLUMNS, [when(lane < left, [copy])]))
                full = (block + const(1)) * const(COLUMNS) <= const(s.c)
                body = [tirx.IfThenElse(full, tirx.SeqStmt(whole), tirx.SeqStmt(edge))]
            statements += [when(row < const(s.m), body)] if s.m % ROWS else body
        return statements


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def write_matmul(symbol: str, trace: Trace, x_bits: int, w_bits: int, cpu: CpuTarget) -> Any:
    """The kernel of a `gse_matmul` trace: x (m, d, e), w (m, d, e) -> int32. Row exponents are not read."""
    return _MatmulWriter(symbol, trace, x_bits, w_bits, cpu).write()
