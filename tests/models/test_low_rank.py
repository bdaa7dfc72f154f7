# SPDX-License-Identifier: Apache-2.0
"""U·V against the singular values that numpy finds."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.models.low_rank import factors, low_rank_arrays, product

SHAPES = [(24, 40), (40, 24), (16, 16)]


def error(shape: tuple[int, int], rank: int = 1 << 20) -> np.ndarray:
    rng = np.random.default_rng(3)
    full = rng.standard_normal(shape).astype(np.float32)
    u, s, v = np.linalg.svd(full, full_matrices=False)
    return np.asarray((u * s)[:, :rank] @ v[:rank])


@pytest.mark.parametrize("shape", SHAPES)
def test_no_product_of_the_rank_is_nearer(shape: tuple[int, int]) -> None:
    """What is left of E is its smaller singular values (Eckart and Young), in float64."""
    e = error(shape)
    u, v = factors(e, 5)
    assert (u.shape, v.shape) == ((shape[0], 5), (5, shape[1]))
    left = np.linalg.svd(e.astype(np.float64), compute_uv=False)[5:]
    assert np.linalg.norm(e - u @ v) == pytest.approx(np.linalg.norm(left), rel=1e-9)
    # Neither factor is large where the other is small: their codes lose the least so.
    np.testing.assert_allclose(np.linalg.norm(u, axis=0), np.linalg.norm(v, axis=1), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_sixteen_bits_hold_it(shape: tuple[int, int]) -> None:
    """A mantissa of 16 bits is off by 2^-16 of its row's largest number at most, which makes far
    less than a thousandth of a product.
    """
    e = error(shape)
    u, v = factors(e, 5)
    got = product({name: a.reshape(-1) for name, a in low_rank_arrays(e, 5).items()})
    assert np.linalg.norm(got - u @ v) < 1e-3 * np.linalg.norm(u @ v)


def test_an_error_of_a_lower_rank_is_left_without_a_rest() -> None:
    """Float32 noise in E is what remains of it."""
    e = error((24, 40), rank=3)
    u, v = factors(e, 8)
    assert np.linalg.norm(e - u @ v) < 1e-5 * np.linalg.norm(e)


def test_a_rank_above_that_of_the_weight_is_filled_with_zeros() -> None:
    e = error((16, 24))
    u, v = factors(e, 20)
    assert (u.shape, v.shape) == ((16, 20), (20, 24))
    assert not u[:, 16:].any() and not v[16:].any()
    np.testing.assert_allclose(u @ v, e, atol=1e-6)


def test_no_error() -> None:
    assert not product(low_rank_arrays(np.zeros((8, 12), np.float32), 2)).any()
