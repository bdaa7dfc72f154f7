# SPDX-License-Identifier: Apache-2.0
"""One recorded operator as an expression over scalars or vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from gsqc.numerics.operators.trace import Operator
from gsqc.targets.analysis.ranges import Ranges
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import Expr, const, intrinsic, splat_const, vector_type
from gsqc.targets.llvm.tables import TABLE_DTYPE, Tables

_SIMPLE: dict[str, Callable[..., Expr]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "minimum": tirx.min,
    "maximum": tirx.max,
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
    "logical_left_shift": lambda x, n: x << n,
    "arithmetic_right_shift": lambda x, n: x >> n,
    "greater": lambda x, y: x > y,
    "equal": lambda x, y: tirx.EQ(x, y),
    "select": tirx.Select,
}


def reinterpret(dtype: str, lanes: int, value: Expr) -> Expr:
    """The same bits as another vector."""
    return tirx.reinterpret(vector_type(dtype, lanes), value)


class Operators:
    """Builds expressions for one kernel. The operands of an operator have equal `lanes`."""

    def __init__(self, cpu: CpuTarget, ranges: Ranges, tables: Tables) -> None:
        """For a CPU. `ranges` are those of the trace, and `tables` takes note of the lookups."""
        self.cpu, self.ranges, self.tables = cpu, ranges, tables

    def apply(self, node: Operator, args: Sequence[Expr], lanes: int) -> Expr:
        """The value of `node` on operand values."""
        simple = _SIMPLE.get(node.operator)
        if simple is not None:
            return simple(*args)
        method: Callable[..., Expr] = getattr(self, f"_{node.operator}")
        return method(node, *args, lanes=lanes)

    def _abs(self, node: Operator, x: Expr, lanes: int) -> Expr:
        return tirx.max(x, splat_const(0, lanes) - x)

    def _clz(self, node: Operator, x: Expr, lanes: int) -> Expr:
        # TVM's own clz has a scalar type even on a vector.
        return intrinsic(vector_type("int32", lanes), "llvm.ctlz", x, const(0, "bool"))

    def _cast(self, node: Operator, x: Expr, lanes: int) -> Expr:
        return x.astype(vector_type(node.dtype, lanes))

    def _logical_right_shift(self, node: Operator, x: Expr, n: Expr, lanes: int) -> Expr:
        # LLVM has one right shift for signed numbers and one for unsigned ones.
        unsigned = vector_type("uint32", lanes)
        return (x.astype(unsigned) >> n.astype(unsigned)).astype(vector_type("int32", lanes))

    def _arithmetic_right_shift_round(self, node: Operator, x: Expr, n: Expr, lanes: int) -> Expr:
        """One add where it provably fits, else the form that cannot overflow."""
        low, high = self.ranges[node.args[1]]
        constant = low if low == high else None
        if constant == 0:
            return x
        one = splat_const(1, lanes)
        if self.ranges.may_add_half(node.args[0], node.args[1]):
            half = splat_const(1 << (constant - 1), lanes) if constant else self._half(n, lanes)
            return (x + half) >> n
        if constant is not None:
            return (x >> n) + ((x >> splat_const(constant - 1, lanes)) & one)
        return (x >> n) + ((x >> tirx.max(n - one, splat_const(0, lanes))) & tirx.min(n, one))

    def _half(self, n: Expr, lanes: int) -> Expr:
        """2^(n-1), or 0 for n = 0."""
        # (1 << n) >> 1 has no case for n = 0, and is unsigned because 1 << 31 is not an int32.
        unsigned = vector_type("uint32", lanes)
        power = splat_const(1, lanes, "uint32") << n.astype(unsigned)
        return (power >> splat_const(1, lanes, "uint32")).astype(vector_type("int32", lanes))

    def _rounding_product(self, x: Expr, y: Expr, shift: int, lanes: int) -> Expr:
        """(x·y + 2^(shift-1)) >> shift by 64-bit products."""
        # Left to itself, LLVM would widen a vector into two. On x86 the even and the odd lanes are
        # multiplied where they are.
        if self.cpu.avx2 and lanes in (8, 16):
            return self._rounding_product_by_pairs(x, y, shift, lanes)
        wide = vector_type("int64", lanes)
        product = x.astype(wide) * y.astype(wide) + splat_const(1 << (shift - 1), lanes, "int64")
        return (product >> splat_const(shift, lanes, "int64")).astype(vector_type("int32", lanes))

    def _rounding_product_by_pairs(self, x: Expr, y: Expr, shift: int, lanes: int) -> Expr:
        """Even and odd lanes apart, as vpmuldq takes them; the odd results are shifted into their
        place.
        """
        half, up, low, high = (
            splat_const(v, lanes // 2, "int64")
            for v in (1 << (shift - 1), 32, 0xFFFFFFFF, -(1 << 32))
        )
        x64, y64 = reinterpret("int64", lanes // 2, x), reinterpret("int64", lanes // 2, y)
        even = ((x64 << up) >> up) * ((y64 << up) >> up) + half
        odd = (x64 >> up) * (y64 >> up) + half
        even = (even >> splat_const(shift, lanes // 2, "int64")) & low
        odd = (odd << splat_const(32 - shift, lanes // 2, "int64")) & high
        return reinterpret("int32", lanes, even | odd)

    def _mulr15(self, node: Operator, x: Expr, y: Expr, lanes: int) -> Expr:
        """(x·y + 2^14) >> 15, by 32-bit products where one factor fits 16 bits."""
        # With x = high·2^15 + low it is high·y + ((low·y + 2^14) >> 15), for high·y is whole.
        for value, other, factor in ((x, y, node.args[1]), (y, x, node.args[0])):
            if max(map(abs, self.ranges[factor])) <= 1 << 15:
                shift, half = splat_const(15, lanes), splat_const(1 << 14, lanes)
                low = (value & splat_const(0x7FFF, lanes)) * other
                return (value >> shift) * other + ((low + half) >> shift)
        return self._rounding_product(x, y, 15, lanes)

    def _mulr30(self, node: Operator, x: Expr, y: Expr, lanes: int) -> Expr:
        return self._rounding_product(x, y, 30, lanes)

    def _mulc(self, node: Operator, x: Expr, lanes: int) -> Expr:
        return self._rounding_product(x, splat_const(node.attributes["constant"], lanes), 31, lanes)

    def _gather(self, pointer: Expr, position: Expr, lanes: int) -> Expr:
        """Elements of an int32 array by index."""
        # By name, because TVM writes scalar loads for a vector of addresses. The two widths differ
        # in the form of their mask, which is that of all lanes.
        name, mask = "avx2.gather.d.d.256", splat_const(-1, 8)
        if lanes == 16:
            name, mask = "avx512.mask.gather.dpi.512", splat_const(1, 16, "bool")
        none, scale = splat_const(0, lanes), const(4, "int8" if lanes == 8 else "int32")
        return intrinsic(f"int32x{lanes}", f"llvm.x86.{name}", none, pointer, position, mask, scale)

    def _table(self, node: Operator, x: Expr, lanes: int) -> Expr:
        """An entry holds two neighbours: this one in the low half, the next in the high half."""
        index = x.astype(vector_type("int32", lanes)) + splat_const(1 << 15, lanes)
        position, fraction = index >> splat_const(7, lanes), index & splat_const(127, lanes)
        pointer, buffer = self.tables.use(node.attributes["entries"])
        if self.cpu.avx2 and lanes in (8, 16):
            pair = self._gather(pointer, position, lanes)
        else:
            pair = tirx.BufferLoad(buffer, [position])
        assert TABLE_DTYPE == "int32"
        half = splat_const(16, lanes)
        base, following = (pair << half) >> half, pair >> half
        return (base << splat_const(7, lanes)) + (following - base) * fraction


def combine(operator: str, x: Expr, y: Expr) -> Expr:
    """One step of a reduction."""
    return tirx.max(x, y) if operator == "reduce_max" else x + y


def reduce_lanes(operator: str, x: Expr) -> Expr:
    """The reduction over the lanes of a vector."""
    return intrinsic(
        "int32", f"llvm.vector.reduce.{'smax' if operator == 'reduce_max' else 'add'}", x
    )


def neutral(operator: str) -> int:
    """The value that a reduction begins with."""
    return -(2**31) if operator == "reduce_max" else 0
