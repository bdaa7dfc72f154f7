# SPDX-License-Identifier: Apache-2.0
"""Units for FP8: a float sum per product, one float addition per 32 products, an exact sum."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned

from gsqc.numerics.formats import GROUP
from hardware.float_formats import SUM32, Float
from hardware.float_parts import Fields, Term, add, fields, normalise
from hardware.unit import SUM_LENGTH, Cycle, Unit, adder_tree, signed_width


class FloatUnit(Unit):
    """round(sum + x · y), one product a cycle: the product is exact, the sum is rounded once.

    It takes subnormal numbers, infinities and NaN. The sum flushes subnormal results.
    """

    def __init__(self, form: Float, total: Float = SUM32) -> None:
        self.form, self.total_form = form, total
        super().__init__(form, form, 1, unsigned(total.width))

    def next_sum(self, m: Module, old: Any) -> Any:
        """An exact product, normalised, and one addition."""
        form, total = self.form, self.total_form
        x, y = fields(m, form, self.held["x"]), fields(m, form, self.held["y"])
        product, exponent = Signal(2 * form.m + 2), Signal(signed(total.e + 2))
        m.d.comb += product.eq(x.m * y.m)
        # Without subnormal inputs a product has one leading zero at most.
        norm, zeros = normalise(m, product, 1 if form.flush else None)
        rebias = 1 + total.bias - 2 * form.bias
        e = x.exponent + y.exponent - zeros + rebias
        m.d.comb += exponent.eq(Mux(product.any(), e, 0))
        infinity = x.infinity | y.infinity
        nan = x.nan | y.nan | (infinity & (~x.m.any() | ~y.m.any()))
        significand = Cat(Const(0, total.m + 1 - len(product)), norm)
        term = Term(x.sign ^ y.sign, exponent, significand)
        return add(m, total, term, old, nan, infinity)

    def meaning(self, old: int, cycle: Cycle) -> int:
        """The code of the rounded sum."""
        form, total = self.form, self.total_form
        x, y = form.decode(cycle.x[0]), form.decode(cycle.y[0])
        s = total.decode(0 if cycle.clear else old)
        sign = (cycle.x[0] ^ cycle.y[0]) >> (form.width - 1)
        kinds = (x.kind, y.kind)
        infinity = "infinity" in kinds
        zero = any(v.kind == "number" and v.m == 0 for v in (x, y))
        opposed = infinity and s.kind == "infinity" and s.m != sign
        if "nan" in (*kinds, s.kind) or (infinity and zero) or opposed:
            return total.nan
        if infinity or s.kind == "infinity":
            return (sign if infinity else s.m) << (total.width - 1) | total.infinity
        k = min(x.k + y.k, s.k)
        return total.encode((x.m * y.m << (x.k + y.k - k)) + (s.m << (s.k - k)), k)


class ExactFloatUnit(Unit):
    """sum + Σ x · y in fixed point, exact. Finite numbers only."""

    def __init__(self, form: Float, lanes: int = GROUP) -> None:
        decoded = [form.decode(int(code)) for code in form.mantissas]
        self.form, self.least = form, 1 - form.bias - form.m
        largest = max(d.m << (d.k - self.least) for d in decoded)
        self.most_shift = 2 * max(d.k - self.least for d in decoded)
        super().__init__(form, form, lanes, signed(signed_width(SUM_LENGTH * largest**2)))

    def next_sum(self, m: Module, old: Any) -> Any:
        """Each product is shifted to its place on the grid of the least product."""
        terms = []
        for code_x, code_y in zip(self.lanes_of("x"), self.lanes_of("y"), strict=True):
            x, y = fields(m, self.form, code_x), fields(m, self.form, code_y)
            shift = Signal(self.most_shift.bit_length())
            product = Signal(signed(2 * self.form.m + 3))
            term = Signal(signed(len(product) + self.most_shift))
            m.d.comb += [
                shift.eq(x.exponent + y.exponent - 2),
                product.eq(Mux(x.sign ^ y.sign, -(x.m * y.m), x.m * y.m)),
                term.eq(product << shift),
            ]
            terms.append(term)
        return old + adder_tree(terms)

    def meaning(self, old: int, cycle: Cycle) -> int:
        """The sum as a multiple of the least product."""
        total = 0 if cycle.clear else old
        for code_x, code_y in zip(cycle.x, cycle.y, strict=True):
            x, y = self.form.decode(code_x), self.form.decode(code_y)
            total += x.m * y.m << (x.k + y.k - 2 * self.least)
        return total


class TreeFloatUnit(Unit):
    """32 products are cut to the grid of the largest, added, and added to a float32 sum.

    `extra`: bits that are kept below the last place of the product with the largest exponent.
    Finite numbers only.
    """

    def __init__(self, form: Float, extra: int) -> None:
        self.form, self.extra = form, extra
        super().__init__(form, form, GROUP, unsigned(SUM32.width))

    def next_sum(self, m: Module, old: Any) -> Any:
        """The largest exponent, the products aligned to it, a tree, one float addition."""
        lanes = [
            (fields(m, self.form, x), fields(m, self.form, y))
            for x, y in zip(self.lanes_of("x"), self.lanes_of("y"), strict=True)
        ]
        products = [self._product(m, x, y) for x, y in lanes]
        top = self._largest(m, [exponent for _, _, exponent in products])
        terms = [self._cut(m, *product, top) for product in products]
        total = Signal(signed(len(terms[0]) + GROUP.bit_length() - 1))
        size = Signal(len(total) - 1)
        m.d.comb += [
            total.eq(adder_tree(terms)),
            size.eq(Mux(total[-1], -total, total)),
        ]
        norm, zeros = normalise(m, size)
        exponent = Signal(signed(SUM32.e + 2))
        rebias = len(size) - 1 + SUM32.bias - 2 * self.form.bias - 2 * self.form.m - self.extra
        m.d.comb += exponent.eq(Mux(size.any(), top - zeros + rebias, 0))
        significand = Cat(Const(0, SUM32.m + 1 - len(size)), norm)
        return add(m, SUM32, Term(total[-1], exponent, significand), old)

    def _product(self, m: Module, x: Fields, y: Fields) -> tuple[Any, Any, Any]:
        """Sign, product, and the sum of exponents, which is 0 for a product of 0."""
        product, exponent = Signal(2 * self.form.m + 2), Signal(self.form.e + 1)
        live = product.any().replicate(self.form.e + 1)
        m.d.comb += [product.eq(x.m * y.m), exponent.eq((x.exponent + y.exponent) & live)]
        return x.sign ^ y.sign, product, exponent

    def _largest(self, m: Module, exponents: list[Any]) -> Any:
        while len(exponents) > 1:
            level = []
            for a, b in zip(exponents[::2], exponents[1::2], strict=True):
                larger = Signal(self.form.e + 1)
                m.d.comb += larger.eq(Mux(a > b, a, b))
                level.append(larger)
            exponents = level
        return exponents[0]

    def _cut(self, m: Module, sign: Any, product: Any, exponent: Any, top: Any) -> Any:
        """A product on the grid of the largest, cut towards zero."""
        width = len(product) + self.extra
        distance, reach = Signal(self.form.e + 1), Signal(range(width + 1))
        term = Signal(signed(width + 1))
        size = (product << self.extra) >> reach
        # Longer distances give 0 anyway. Without this comparison yosys made 6 % more gates.
        m.d.comb += [
            distance.eq(top - exponent),
            reach.eq(Mux(distance > width, width, distance)),
            term.eq(Mux(sign, -size, size)),
        ]
        return term

    def meaning(self, old: int, cycle: Cycle) -> int:
        """The code of the sum."""
        pairs = zip(cycle.x, cycle.y, strict=True)
        decoded = [(self.form.decode(x), self.form.decode(y)) for x, y in pairs]
        live = [(x.m * y.m, x.k + y.k) for x, y in decoded if x.m * y.m]
        s = SUM32.decode(0 if cycle.clear else old)
        if not live:
            return SUM32.encode(s.m, s.k)
        top = max(k for _, k in live)
        cut = ((abs(p) << self.extra >> (top - k), p > 0) for p, k in live)
        total = sum(size if positive else -size for size, positive in cut)
        k = min(top - self.extra, s.k)
        return SUM32.encode((total << (top - self.extra - k)) + (s.m << (s.k - k)), k)
