# SPDX-License-Identifier: Apache-2.0
"""GSE against its definition in exact fractions: scales, mantissas and products."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.formats import Gse, Row
from gsqc.numerics.ops.linear import matmul_shift
from gsqc.numerics.ops.registry import OPS, evaluate

N = {4: 4, 5: 4, 6: 2, 7: 1, 8: 1}
"""Scales an octave."""


def hadamard() -> np.ndarray:
    """Sylvester's construction: [[H, H], [H, -H]]."""
    h = np.array([[1]])
    while len(h) < 32:
        h = np.block([[h, h], [h, -h]])
    return h


def scale(code: int, n: int) -> Fraction:
    return Fraction(n + code % n, n) * Fraction(2) ** (code // n)


def defined(row: np.ndarray, bits: int) -> list[tuple[list[int], Fraction]]:
    """Mantissas and scale of each group of a row of integers."""
    n, most = N[bits], 2 ** (bits - 1) - 1
    groups = [[int(v) for v in hadamard() @ row[g : g + 32]] for g in range(0, len(row), 32)]
    codes = []
    for y in groups:
        code = -40 * n
        while (most + Fraction(1, 2)) * scale(code, n) < max(map(abs, y)):
            code += 1
        codes.append(code if any(y) else -(10**6))
    least = max(codes) - 8 * n
    result = []
    for y, code in zip(groups, codes, strict=True):
        s = scale(max(code, least), n)
        m = [max(-most, min(most, (v / s + Fraction(1, 2)).__floor__())) for v in y]
        result.append((m, s))
    return result


def rows(rng: np.random.Generator, wide: int = 13) -> np.ndarray:
    """Rows of 96: random, over octaves, zero, outliers, ties of the scale and their neighbours."""
    found = [rng.integers(1 - 2**wide, 2**wide, 96) for _ in range(3)] + [np.zeros(96, np.int64)]
    octaves = 2.0 ** rng.uniform(0, wide - 3, (4, 3)).repeat(32, axis=1)
    found += list((rng.standard_normal((4, 96)) * octaves).astype(np.int64))
    for at, value, noise in ((5, 2**wide - 1, 3), (0, 1, 0), (95, 1 - 2**wide, 0)):
        row = rng.integers(-noise, noise + 1, 96)
        row[at] = value
        found.append(row)
    for top in (132, 165, 166, 231, 248, 310, 311, 1023, 1024, 252, 255, 510, 511):
        # Of x = H·v the rotation is 32·v.
        v = rng.integers(-top, top + 1, 96) // 2 * 2
        v[::32] = top
        found.append((hadamard() @ v.reshape(-1, 32).T).T.ravel())
    return np.array(found)


def quantised(x: np.ndarray, bits: int, e: int = 0, row_bits: int = 24) -> Gse:
    m = x.astype(np.int32 if row_bits > 16 else np.int16)
    row = Row(m, np.full((len(x), 1), e, np.int32), row_bits)
    result = evaluate(OPS["quantise"], [row], {"bits": bits})
    assert isinstance(result, Gse)
    return result


def exact(x: Gse, row: int) -> list[Fraction]:
    """The numbers of a row."""
    e = [int(x.e[row, 0]) - int(d) for d in x.d[row]]
    return [int(m) * Fraction(2) ** e[k // 32] for k, m in enumerate(x.m[row])]


@pytest.mark.parametrize("bits", sorted(N))
@pytest.mark.parametrize(("row_bits", "e"), [(24, -9), (16, 3)])
def test_scales_and_mantissas(bits: int, row_bits: int, e: int) -> None:
    x = rows(np.random.default_rng(bits))
    got = quantised(x, bits, e, row_bits)
    assert got.d.min() >= 0 and got.d.max() <= 8 and np.abs(got.m).max() <= 127
    for k, row in enumerate(x):
        expected = [m * s * Fraction(2) ** e for ms, s in defined(row, bits) for m in ms]
        assert exact(got, k) == expected


@pytest.mark.parametrize(("x_bits", "w_bits"), [(8, 8), (6, 6), (5, 5), (5, 8), (7, 4)])
def test_a_product_is_that_of_the_groups_divided_by_32(x_bits: int, w_bits: int) -> None:
    rng = np.random.default_rng(x_bits * w_bits)
    x, w = rows(rng)[1::3], rows(rng)[::4]
    qx, qw = quantised(x, x_bits), quantised(w, w_bits)
    c = evaluate(OPS["gse_matmul"], [qx, qw], {})
    exact_x, exact_w = ([defined(r, b) for r in m] for m, b in ((x, x_bits), (w, w_bits)))
    shift = matmul_shift(96)
    one = Fraction(2) ** (shift - 16)
    for i, row in enumerate(exact_x):
        for j, column in enumerate(exact_w):
            pairs = zip(row, column, strict=True)
            total = sum(
                sx * sw * sum(a * b for a, b in zip(mx, mw, strict=True))
                for (mx, sx), (mw, sw) in pairs
            )
            unit = one * Fraction(2) ** int(qx.e[i, 0] + qw.e[j, 0])
            assert int(c[i, j]) == (total / unit + Fraction(1, 2)).__floor__()


HAND = {
    # One number 33: it becomes 33, 32 times.
    "alone": ({0: 33}, {8: (66, 66, "1/2"), 6: (22, 22, "3/2"), 5: (13, 13, "5/2")}),
    # 155 = 15.5 · 10 is a tie, which takes the smaller scale. 0.5 rounds up.
    "tie": ({0: 80, 16: 75}, {8: (78, 3, "2"), 6: (26, 1, "6"), 5: (15, 1, "10")}),
    "beyond the tie": ({0: 80, 16: 76}, {8: (78, 2, "2"), 6: (26, 1, "6"), 5: (13, 0, "12")}),
    # -0.5 rounds up too.
    "mirrored": ({0: 75, 16: 80}, {8: (78, -2, "2"), 6: (26, -1, "6"), 5: (15, 0, "10")}),
}
"""Numbers of a group, and by bits the first and the 17th mantissa of H·x and the scale, by hand."""


@pytest.mark.parametrize("name", sorted(HAND))
@pytest.mark.parametrize("bits", [8, 6, 5])
def test_groups_by_hand(name: str, bits: int) -> None:
    numbers, results = HAND[name]
    x = np.zeros((1, 32), np.int64)
    for place, number in numbers.items():
        x[0, place] = number
    first, last, s = results[bits]
    values = exact(quantised(x, bits), 0)
    assert (values[0], values[16]) == (first * Fraction(s), last * Fraction(s))


def test_a_row_with_exponents_of_its_columns_is_rounded_to_24_bits() -> None:
    """What a transpose leaves: only numbers further than 24 bits below the row's largest change."""
    rng = np.random.default_rng(5)
    m = rng.integers(1 - 2**15, 2**15, (6, 64))
    e = rng.integers(0, 9, (1, 64))
    by_column = Row(m.astype(np.int16), e.astype(np.int32), 16)
    got = evaluate(OPS["quantise"], [by_column], {"bits": 6})
    # 15 and 8 bits fit 24: the numbers themselves, with one exponent.
    expected = quantised(m << e, 6)
    for a, b in zip((got.m, got.d, got.e), (expected.m, expected.d, expected.e), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rotations_undo_each_other() -> None:
    x = np.random.default_rng(6).integers(-(2**18), 2**18, (5, 64)).astype(np.int32)
    m = (hadamard() @ x.reshape(5, 2, 32, 1)).reshape(5, 64).astype(np.int32)
    row = Row(m, np.zeros((5, 1), np.int32), 24)
    back = evaluate(OPS["unrotate"], [row], {"columns": 64, "bits": 24})
    np.testing.assert_array_equal(np.ldexp(back.m.astype(np.float64), back.e), x)
