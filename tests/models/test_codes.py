# SPDX-License-Identifier: Apache-2.0
"""Codes against the formats they stand for: a float NF4, and rounding to a shared exponent."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.errors import ModelError
from gsqc.models.codes import encode, encode_row16
from gsqc.numerics.bases import BASES
from gsqc.numerics.bases.nf4 import NF4_LEVELS


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Like a model's: normal, with a spread of row scales, a zero row and an outlier."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((rows, columns)) * np.exp(rng.uniform(-4, 0, (rows, 1))) * 0.1
    w[0] = 0
    w[1, 0] *= 100
    return w.astype(np.float32)


@pytest.mark.parametrize(("columns", "block"), [(128, 64), (96, 32), (70, 32)])
def test_nf4_is_the_nearest_level(columns: int, block: int) -> None:
    """Scale and levels have 15 bits: 2^-14 of the block's largest."""
    w = weights(20, columns)
    codes = encode("nf4", w)
    padded = np.pad(w, ((0, 0), (0, -columns % block))).reshape(20, -1, block).astype(np.float64)
    scale = np.abs(padded).max(-1, keepdims=True)
    levels = np.asarray(NF4_LEVELS)
    nearest = np.abs((padded / np.where(scale > 0, scale, 1))[..., None] - levels).argmin(-1)
    expected = (levels[nearest] * scale).reshape(20, -1)[:, :columns]
    got = codes.float32()
    error = np.abs(got - expected) / np.maximum(
        np.repeat(scale[..., 0], block, 1)[:, :columns], 1e-30
    )
    assert (error > 5e-5).mean() < 1e-3  # a number between two levels may go to the other one
    assert np.abs(got - w).max() <= (0.16 * np.repeat(scale[..., 0], block, 1)[:, :columns]).max()


@pytest.mark.parametrize(("kind", "bits"), [("gse4", 4), ("gse8", 8)])
@pytest.mark.parametrize("columns", [96, 70])
def test_gse_rounds_to_the_group(kind: str, bits: int, columns: int) -> None:
    """At most one step off (half a step, and a whole one where the largest is clamped)."""
    w = weights(12, columns)
    got = encode(kind, w).float32()
    groups = np.pad(np.abs(w), ((0, 0), (0, -columns % 32))).reshape(12, -1, 32).max(-1)
    step = np.ldexp(1.0, np.frexp(groups)[1] - (bits - 1))
    error = np.abs(got - w) / np.repeat(step, 32, 1)[:, :columns]
    assert error.max() <= 1
    assert (error > 0.5).mean() < 0.05


def test_norm_weights_keep_16_bits() -> None:
    w = np.random.default_rng(3).uniform(0.1, 3, 37).astype(np.float32)
    codes = encode_row16(w)
    assert codes.shape == (1, 37)
    assert np.abs(codes.float32()[0] - w).max() <= 3 * 2**-15


@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4.375), ("gse4", 4.25), ("gse8", 8.25)])
def test_bits_per_weight(kind: str, bits: float) -> None:
    assert encode(kind, weights(8, 128)).bits_per_weight == bits


def test_bad_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="NaN"):
        encode("nf4", np.full((2, 32), np.nan, np.float32))


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("columns", [128, 70])
def test_the_op_means_what_the_coder_says(kind: str, columns: int) -> None:
    """The op keeps 30 bits below the largest number of a row, and float32 keeps 24 of each."""
    w = weights(20, columns)
    meant = BASES[kind].encode(w.astype(np.float64)).meant.reshape(20, -1)[:, :columns]
    largest = np.abs(meant).max(1, keepdims=True)
    assert (np.abs(encode(kind, w).float32() - meant) <= 2.0**-24 * largest).all()


@pytest.mark.parametrize("kind", BASES)
def test_each_row_is_coded_by_itself(kind: str) -> None:
    w = weights(6, 96).astype(np.float64)
    whole, row = BASES[kind].encode(w).arrays, BASES[kind].encode(w[3:4]).arrays
    assert all(np.array_equal(a[3:4], row[name]) for name, a in whole.items())


@pytest.mark.parametrize("kind", BASES)
def test_what_codes_lost_is_told(kind: str) -> None:
    w = weights(20, 128).astype(np.float64)
    codes = encode(kind, w)
    expected = np.sqrt(np.square(codes.float32() - w).sum() / np.square(w).sum())
    assert codes.lost == pytest.approx(expected, rel=1e-5)  # float32 has rounded what it gives
