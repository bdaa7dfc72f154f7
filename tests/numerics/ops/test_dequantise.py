# SPDX-License-Identifier: Apache-2.0
"""The ops dequantise_… against float64: what each code means, exact wherever 30 bits hold it."""

from __future__ import annotations

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.numerics.bases.nf4 import NF4_INTEGERS
from gsqc.numerics.ops.registry import CASES, OPS, Case, evaluate


def nibbles(codes: np.ndarray) -> np.ndarray:
    unsigned = codes.view(np.uint8).astype(np.int64)
    return np.concatenate([unsigned & 15, unsigned >> 4], 1)


def meaning(name: str, case: Case) -> np.ndarray:
    """The case's weights in float64."""
    codes, first, *rest = case.values
    blocks = first.shape[1]
    expand = lambda x: np.repeat(x.astype(np.float64), numbers.shape[1] // blocks, 1)  # noqa: E731
    numbers = codes.astype(np.int64) if name in ("q8_0", "gse8") else nibbles(codes)
    if name == "nf4":
        numbers = np.asarray(NF4_INTEGERS)[numbers]
    if name == "q4_0":
        numbers = numbers - 8
    if name == "gse4":
        numbers = (numbers ^ 8) - 8
    if name.startswith("gse"):
        return numbers * np.exp2(expand(first))
    value = numbers * expand(first) * np.exp2(expand(rest[0]))
    return value + expand(rest[1]) * np.exp2(expand(rest[2])) if name == "q4_1" else value


@pytest.mark.parametrize("name", ["nf4", "q4_1", "q4_0", "q8_0", "gse4", "gse8"])
def test_within_a_step_of_the_row(name: str) -> None:
    """Half a step at the row's exponent, or a whole one.

    It is a whole one where a sum is rounded twice, and where the largest number is clamped.
    """
    for case in CASES[f"dequantise_{name}"](np.random.default_rng(1)):
        row = evaluate(OPS[f"dequantise_{name}"], case.values, case.attributes)
        expected = meaning(name, case)[:, : case.attributes["columns"]]
        error = np.abs(np.ldexp(row.m.astype(np.float64), row.e) - expected) / np.exp2(
            row.e.astype(np.float64)
        )
        assert row.m.shape == expected.shape
        assert error.max() <= 1, case.name


@pytest.mark.parametrize("name", ["q4_0", "q8_0", "gse4", "gse8"])
def test_exact_where_30_bits_hold_it(name: str) -> None:
    for case in CASES[f"dequantise_{name}"](np.random.default_rng(2)):
        values = list(case.values)
        values[-1] = (values[-1] % 8 - 20).astype(np.int8)  # exponents at most 8 octaves apart
        row = evaluate(OPS[f"dequantise_{name}"], values, case.attributes)
        expected = meaning(name, Case(case.name, values))[:, : case.attributes["columns"]]
        np.testing.assert_array_equal(np.ldexp(row.m.astype(np.float64), row.e), expected)


def test_row16_is_what_it_was() -> None:
    m = np.arange(-5, 6, dtype=np.int16)[None]
    row = evaluate(OPS["dequantise_row16"], [m, np.array([[-3]], np.int8)], {"columns": 11})
    np.testing.assert_array_equal(row.m, m)
    assert row.e.dtype == np.int32
    assert row.e == -3
