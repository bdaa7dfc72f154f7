# SPDX-License-Identifier: Apache-2.0
"""A token is picked by exact integers. Exponents that no model has are refused at once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gsqc.errors import BundleError
from gsqc.runtime.sampling import LARGEST_EXPONENT, Chunk, pick_token


def chunk(*mantissas: int, exponent: int) -> Chunk:
    return np.array(mantissas, np.int32), exponent


def test_the_largest_logit_and_the_first_of_equals() -> None:
    chunks = [chunk(1, 7, exponent=-3), chunk(7, 14, exponent=-4)]
    assert pick_token(chunks, Fraction(0), 0, 0) == 1


@pytest.mark.parametrize("temperature", [Fraction(0), Fraction(1)])
@pytest.mark.parametrize("exponent", [-LARGEST_EXPONENT, LARGEST_EXPONENT])
def test_the_widest_exponents_are_exact(temperature: Fraction, exponent: int) -> None:
    """At the largest exponent the likeliest token is so by far. At the least all are alike."""
    chunks = [chunk(1, 3, 2, exponent=exponent), chunk(-1, exponent=0)]
    drawn = {pick_token(chunks, temperature, 1, position) for position in range(64)}
    assert drawn == ({1} if exponent > 0 or not temperature else {0, 1, 2, 3})


@pytest.mark.parametrize("temperature", [Fraction(0), Fraction(1)])
@pytest.mark.parametrize(
    "exponent", [2**31 - 1, -(2**31), LARGEST_EXPONENT + 1, -LARGEST_EXPONENT - 1]
)
def test_an_exponent_beyond_the_format_is_refused(temperature: Fraction, exponent: int) -> None:
    """2^(2^31) has 256 MB, and every logit would be multiplied by it."""
    chunks = [chunk(1, 2, exponent=0), chunk(3, 4, exponent=exponent)]
    with pytest.raises(BundleError, match=f"have the exponent {exponent}"):
        pick_token(chunks, temperature, 0, 0)
