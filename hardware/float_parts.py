# SPDX-License-Identifier: Apache-2.0
"""Pieces of float units as RTL: the fields of a code, shifters, addition with one rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed

from hardware.float_formats import Float

GUARD = 3
"""Bits below the last place: guard, round, sticky."""


@dataclass(frozen=True)
class Fields:
    """A code taken apart. `exponent` is biased and 1 for subnormals, `m` has the hidden bit."""

    sign: Any
    exponent: Any
    m: Any
    nan: Any
    infinity: Any


@dataclass(frozen=True)
class Term:
    """What is added to a sum: (-1)^sign · m · 2^(exponent - bias - mantissa bits of the sum).

    `m` has its leading bit set, or is 0 with exponent 0. `exponent` is signed.
    """

    sign: Any
    exponent: Any
    m: Any


def fields(m: Module, form: Float, code: Any) -> Fields:
    """The fields of a code."""
    fraction, exponent = code[: form.m], code[form.m : form.m + form.e]
    normal, ones = exponent.any(), exponent.all()
    significand = Signal(form.m + 1)
    if form.flush:
        m.d.comb += significand.eq(Cat(fraction, Const(1, 1)) & normal.replicate(form.m + 1))
    else:
        m.d.comb += significand.eq(Cat(fraction, normal))
    return Fields(
        sign=code[-1],
        exponent=Cat(exponent[0] | ~normal, exponent[1:]),
        m=significand,
        nan=ones & (fraction.all() if form.finite else fraction.any()),
        infinity=Const(0, 1) if form.finite else ones & ~fraction.any(),
    )


def normalise(m: Module, x: Any, most: int | None = None) -> tuple[Any, Any]:
    """x without its leading zeros, and their number. At most `most` of them, if given."""
    width = len(x)
    hits: list[Any] = []
    powers = reversed(range((most or width).bit_length()))
    for step in (1 << i for i in powers if 1 << i < width):
        hit, shifted = Signal(), Signal(width)
        m.d.comb += [
            hit.eq(~x[width - step :].any()),
            shifted.eq(Mux(hit, Cat(Const(0, step), x[: width - step]), x)),
        ]
        x = shifted
        hits.insert(0, hit)
    return x, Cat(*hits)


def shift_right_sticky(m: Module, x: Any, distance: Any) -> Any:
    """x >> distance, the lost bits or-ed into the last."""
    width = len(x)
    for i in range(len(distance)):
        step = 1 << i
        if step >= width:
            moved = Cat(x.any(), Const(0, width - 1))
        else:
            moved = Cat(x[step] | x[:step].any(), x[step + 1 :], Const(0, step))
        shifted = Signal(width)
        m.d.comb += shifted.eq(Mux(distance[i], moved, x))
        x = shifted
    return x


@dataclass(frozen=True)
class Aligned:
    """Two significands on the exponent of the larger, `small` with GUARD bits more."""

    sign: Any
    exponent: Any
    big: Any
    small: Any
    subtract: Any


def align(m: Module, form: Float, term: Term, old: Any) -> Aligned:
    """The term and the sum, larger first. A sum with exponent 0 is 0."""
    width = form.e + 2
    sign, exponent, fraction = old[-1], old[form.m : form.m + form.e], old[: form.m]
    significand = Signal(form.m + 1)
    e_term, e_old = Signal(signed(width)), Signal(signed(width))
    live = exponent.any()
    m.d.comb += [
        significand.eq(Cat(fraction, Const(1, 1)) & live.replicate(form.m + 1)),
        e_term.eq(term.exponent),
        e_old.eq(exponent),
    ]
    delta, term_first, distance = Signal(signed(width + 1)), Signal(), Signal(width)
    m.d.comb += [
        delta.eq(e_term - e_old),
        term_first.eq((delta > 0) | ((delta == 0) & (term.m > significand))),
        distance.eq(Mux(term_first, delta, -delta)),
    ]
    big, small = Signal(form.m + 1), Signal(form.m + 1)
    first_sign, first_exponent = Signal(), Signal(signed(width))
    m.d.comb += [
        big.eq(Mux(term_first, term.m, significand)),
        small.eq(Mux(term_first, significand, term.m)),
        first_sign.eq(Mux(term_first, term.sign, sign)),
        first_exponent.eq(Mux(term_first, e_term, e_old)),
    ]
    # A distance beyond the shifter's reach leaves the sticky bit alone, as the last step does.
    bits = (form.m + 1 + GUARD).bit_length()
    reach = Signal(bits)
    m.d.comb += reach.eq(Mux(distance[bits:].any(), (1 << bits) - 1, distance[:bits]))
    low = shift_right_sticky(m, Cat(Const(0, GUARD), small), reach)
    return Aligned(first_sign, first_exponent, big, low, (term.sign ^ sign) & live)


def add(m: Module, form: Float, term: Term, old: Any, nan: Any = 0, infinity: Any = 0) -> Any:
    """old + term as a code of `form`, rounded once to the nearest, ties to even.

    `nan`: the term is none. `infinity`: the term is infinite, with its sign. Results below the
    normal range are +0.
    """
    two = align(m, form, term, old)
    width = form.m + 1 + GUARD + 1
    low, total, subtract = Signal(width), Signal(width), Signal()
    m.d.comb += [
        subtract.eq(two.subtract),
        low.eq(two.small ^ subtract.replicate(width)),
        total.eq(Cat(Const(0, GUARD), two.big) + low + subtract),
    ]
    norm, zeros = normalise(m, total)
    up = norm[GUARD] & (norm[:GUARD].any() | norm[GUARD + 1])
    exponent = Signal(signed(form.e + 2))
    rounded = Signal(signed(form.e + 2 + form.m))
    kept = norm[GUARD + 1 : GUARD + 1 + form.m]
    m.d.comb += [
        exponent.eq(two.exponent + 1 - zeros),
        rounded.eq(Cat(kept, exponent).as_signed() + up),
    ]
    special = old[form.m : form.m + form.e].all()
    not_a_number = nan | (special & old[: form.m].any()) | (infinity & special & subtract)
    sign = Mux(infinity, term.sign, old[-1])
    final = rounded[form.m :].as_signed()
    code = Signal(form.width)
    with m.If(not_a_number):
        m.d.comb += code.eq(form.nan)
    with m.Elif(infinity | special):
        m.d.comb += code.eq(Cat(Const(form.infinity, form.width - 1), sign))
    with m.Elif(~norm[-1] | (final < 1)):
        m.d.comb += code.eq(0)
    with m.Elif(final >= (1 << form.e) - 1):
        m.d.comb += code.eq(Cat(Const(form.infinity, form.width - 1), two.sign))
    with m.Else():
        m.d.comb += code.eq(Cat(rounded[: form.m + form.e], two.sign))
    return code
