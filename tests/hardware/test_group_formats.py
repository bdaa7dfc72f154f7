# SPDX-License-Identifier: Apache-2.0
"""GSE's codes and a unit's sum are the definition's, in exact fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="needs pip install 'gsqc[hardware]'")

from gsqc.numerics.formats import GROUP, WINDOW
from hardware.group_formats import Gse, signed
from hardware.integer_units import GroupUnit
from hardware.simulation import meanings
from hardware.streams import cycles, real_side

FORMATS = [Gse(8, 1), Gse(7, 1), Gse(6, 2), Gse(5, 4), Gse(4, 4), Gse(5, 1)]


def scale(code: int, n: int) -> Fraction:
    """(1 + part / n) · 2^octave."""
    octave, part = divmod(code, n)
    return Fraction(n + part, n) * Fraction(2) ** octave


def rotated(group: list[int]) -> list[int]:
    """H · y with H[i][j] = (-1)^(bits that i and j share), which is Sylvester's matrix."""
    return [
        sum(-y if (i & j).bit_count() & 1 else y for j, y in enumerate(group)) for i in range(GROUP)
    ]


def defined(row: list[list[int]], bits: int, n: int) -> list[tuple[list[int], Fraction]]:
    """Mantissas and scale of each group of a row, straight from the definition."""
    limit = 2 ** (bits - 1) - 1
    groups, codes = [rotated(group) for group in row], []
    for group in groups:
        code = -60 * n
        while (limit + Fraction(1, 2)) * scale(code, n) < max(map(abs, group)):
            code += 1
        codes.append(code)
    floor = max(codes) - WINDOW * n
    found = []
    for group, code in zip(groups, codes, strict=True):
        s = scale(max(code, floor), n)
        m = [max(-limit, min(limit, (y / s + Fraction(1, 2)).__floor__())) for y in group]
        found.append((m, s))
    return found


def rows(seed: int) -> list[list[list[int]]]:
    """Rows of three groups: random, over many octaves, one alone, ties of scale and rounding."""
    rng = np.random.default_rng(seed)
    found = [rng.integers(-(2**13), 2**13, (3, GROUP)) for _ in range(4)]
    found += [
        (rng.standard_normal((3, GROUP)) * 2.0 ** rng.uniform(0, 12, (3, 1))).astype(np.int64)
        for _ in range(8)
    ]
    for first, second in ((33, 0), (80, 75), (80, 76), (75, 80), (-8191, 1), (85, 80)):
        row = np.zeros((3, GROUP), np.int64)
        row[0, 0], row[0, 16], row[1, 5] = first, second, 1
        found.append(row)
    return [row.tolist() for row in found]


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_rounding_is_the_definition(form: Gse) -> None:
    for row in rows(seed=1):
        codes, scales = form.round(np.array(row, np.float64))
        wanted = defined(row, form.bits, form.n)
        got = [[signed(int(c), form.width) for c in group] for group in codes]
        assert got == [m for m, _ in wanted]
        # A unit sees scales above the row's least, so their ratios are what counts.
        mine, theirs = [scale(int(s), form.n) for s in scales], [s for _, s in wanted]
        assert [b / a for a, b in pairwise(mine)] == [b / a for a, b in pairwise(theirs)]
        assert max(scales) // form.n == WINDOW


PAIRS = [*((form, form) for form in FORMATS), (Gse(5, 4), Gse(8, 1)), (Gse(6, 2), Gse(8, 1))]


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=str)
def test_a_sum_is_the_product_of_the_rows(left: Gse, right: Gse) -> None:
    """32 · x · w, up to the two rows' least scales, which a unit does not see."""
    unit = GroupUnit(left, right)
    for x, w in zip(rows(seed=2), reversed(rows(seed=3)), strict=True):
        sides = [
            real_side(form, np.array([row], np.float64)) for form, row in ((left, x), (right, w))
        ]
        total = meanings(unit, list(cycles(unit, *sides, row_groups=3)))[-1]
        exact, least = Fraction(0), Fraction(1)
        a, b = defined(x, left.bits, left.n), defined(w, right.bits, right.n)
        for (mx, sx), (mw, sw) in zip(a, b, strict=True):
            exact += sx * sw * sum(p * q for p, q in zip(mx, mw, strict=True))
        for side, form, groups in zip(sides, (left, right), (a, b), strict=True):
            least *= groups[0][1] / scale(int(side.scales[0]), form.n)
        assert Fraction(total, left.n * right.n) * least == exact


@pytest.mark.parametrize(("bits", "n"), [(6, 2), (5, 4)])
def test_stored_products_are_the_same_integers(bits: int, n: int) -> None:
    """m · c' in int8 gives the sum that m, c' and a unit with a factor give."""
    plain, stored = Gse(bits, n), Gse(bits, n, stored=True)
    x, w = (np.array(rows(seed), np.float64) for seed in (4, 5))
    units = [GroupUnit(form, form) for form in (plain, stored)]
    sums = [
        meanings(unit, list(cycles(unit, real_side(form, x), real_side(form, w), row_groups=3)))
        for unit, form in zip(units, (plain, stored), strict=True)
    ]
    assert sums[0] == sums[1]
    assert len(set(sums[0])) > 20


@pytest.mark.parametrize(
    ("bits", "n", "mantissa", "octaves"), [(8, 1, 66, -1), (6, 2, 22, 0), (5, 4, 13, 1)]
)
def test_one_number_alone(bits: int, n: int, mantissa: int, octaves: int) -> None:
    """33 and zeros become 33, 32 times: 66 · ½, 22 · 1½, 13 · 2½."""
    row = np.zeros((1, GROUP))
    row[0, 0] = 33
    codes, scales = Gse(bits, n).round(row)
    assert codes.tolist() == [[mantissa] * GROUP]
    factor = {1: 1.0, 2: 1.5, 4: 1.25}[n]
    assert scale(int(scales[0]), n) == Fraction(factor) * 2**WINDOW
    assert abs(mantissa * factor * 2.0**octaves - 33) <= factor * 2.0**octaves / 2
