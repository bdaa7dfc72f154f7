# SPDX-License-Identifier: Apache-2.0
"""Numbers for people stay numbers, whatever a bundle gives."""

from __future__ import annotations

import math

import pytest

from gsqc.data import WEIGHT_ONE
from gsqc.errors import BundleError
from gsqc.runtime.results import mean_norm, perplexity


def test_a_norm_and_a_perplexity() -> None:
    assert mean_norm(1 << 20, -18, WEIGHT_ONE) == 2.0
    assert perplexity(1.5) == math.exp(1.5)
    assert perplexity(32768.0) == math.exp(700)


@pytest.mark.parametrize(("mantissa", "exponent"), [(1, 2**31 - 1), (-1, 0), (-(2**31), 5000)])
def test_a_norm_that_is_none(mantissa: int, exponent: int) -> None:
    with pytest.raises(BundleError, match="no number"):
        mean_norm(mantissa, exponent, WEIGHT_ONE)
