# SPDX-License-Identifier: Apache-2.0
"""Codes of floats are those of ml_dtypes, sums those of numpy's float32 where float64 is exact."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="needs pip install 'gsqc[hardware]'")
ml_dtypes = pytest.importorskip("ml_dtypes")

from hardware.float_formats import BF16, E4M3, E5M2, SUM32, Float
from hardware.float_units import ExactFloatUnit, FloatUnit
from hardware.unit import Cycle

TYPES = [(E4M3, "float8_e4m3fn", np.uint8), (E5M2, "float8_e5m2", np.uint8)]
TYPES.append((BF16, "bfloat16", np.uint16))


@pytest.mark.parametrize(("form", "name", "raw"), TYPES, ids=["e4m3", "e5m2", "bf16"])
def test_codes_mean_what_they_do_elsewhere(form: Float, name: str, raw: type) -> None:
    codes = np.arange(1 << form.width).astype(raw)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        numbers = codes.view(getattr(ml_dtypes, name)).astype(np.float64)
    for code, number in enumerate(numbers):
        decoded = form.decode(code)
        match decoded.kind:
            case "nan":
                assert math.isnan(number)
            case "infinity":
                assert number == (-math.inf if decoded.m else math.inf)
            case _ if form.flush and code & form.infinity == 0:
                assert decoded.m == 0
            case _:
                assert number == math.ldexp(decoded.m, decoded.k)


def float32(code: int) -> np.float32:
    return np.uint32(code).view(np.float32)


@pytest.mark.parametrize("form", [E4M3, E5M2, BF16], ids=["e4m3", "e5m2", "bf16"])
def test_a_sum_is_rounded_once(form: Float) -> None:
    """numpy adds in float64, which is exact in most cases, and rounds to float32 once."""
    rng, unit, compared = np.random.default_rng(3), FloatUnit(form), 0
    for _ in range(4000):
        x, y = (int(rng.choice(form.mantissas)) for _ in range(2))
        a, b = form.decode(x), form.decode(y)
        near = a.k + b.k + SUM32.bias + int(rng.integers(-4, 28))
        exponent = min(max(near, 1), 254)
        old = int(rng.integers(0, 2)) << 31 | exponent << 23 | int(rng.integers(0, 1 << 23))
        product = math.ldexp(a.m * b.m, a.k + b.k)
        total = product + float(float32(old))
        exact = Fraction(product) + Fraction(float(float32(old)))
        if not math.isfinite(total) or Fraction(total) != exact or abs(total) < 2.0**-126:
            continue
        with np.errstate(over="ignore"):
            wanted = np.float32(total)
        assert float32(unit.meaning(old, Cycle((x,), (y,), 0, 0, clear=False))) == wanted
        compared += 1
    assert compared > 3000


def test_infinities_and_nan() -> None:
    """As in IEEE 754: ∞ · 0 and ∞ - ∞ are NaN, else ∞ wins, and NaN over all."""
    unit, form = FloatUnit(E5M2), E5M2
    sign = 1 << (form.width - 1)
    codes = [0, form.infinity, form.infinity | sign, form.nan, 0x3C, 0x3C | sign]
    sums = [0, SUM32.infinity, SUM32.infinity | 1 << 31, SUM32.nan, 0x3F800000]
    for x in codes:
        for y in codes:
            for old in sums:
                numbers = np.array([x, y], np.uint8).view(ml_dtypes.float8_e5m2)
                a, b = numbers.astype(np.float32)
                with np.errstate(invalid="ignore"):
                    wanted = a * b + float32(old)
                got = float32(unit.meaning(old, Cycle((x,), (y,), 0, 0, clear=False)))
                np.testing.assert_array_equal(got, wanted)


def test_an_exact_sum_is_exact() -> None:
    rng, unit = np.random.default_rng(4), ExactFloatUnit(E4M3)
    x, y = (tuple(map(int, rng.choice(E4M3.mantissas, 32))) for _ in range(2))
    products = (
        Fraction(p.m * q.m) * Fraction(2) ** (p.k + q.k)
        for p, q in zip(map(E4M3.decode, x), map(E4M3.decode, y), strict=True)
    )
    grid = Fraction(2) ** (2 * unit.least)
    assert unit.meaning(5, Cycle(x, y, 0, 0, clear=True)) * grid == sum(products)
