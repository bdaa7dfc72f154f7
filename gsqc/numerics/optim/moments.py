# SPDX-License-Identifier: Apache-2.0
"""What the updates of optimizers share: moments, the step of the weights, and values for cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Tensor
from gsqc.numerics.ops.embedding import MASTER_FRACTION_BITS
from gsqc.numerics.ops.primitives import Scaled, add_scaled, normalise, saturating_scale, widen

BETA_ONE = 2**31
"""Decay rates of moments are integers over 2^31."""

BETA1 = 1932735283
"""0.9, the decay rate of the first moment."""

MOMENT_BITS = 30
"""Bits of a moment. It lies in an int32, so it keeps 30. With 24, a small root sticks
(tests/numerics/optim/test_adamw.py).
"""

_GUARD_BITS = 4
STEP_FRACTION_BITS = MASTER_FRACTION_BITS + _GUARD_BITS
"""Of the step that a weight takes, before its one rounding."""


def decay_average(state: Row, g: Tensor, g_e: Tensor, beta: int, share: int) -> Scaled:
    """beta · state + share · g -> (m, e) of 30 bits, one exponent per row.

    Both factors are over 2^31. A share of 2^31 stands for 1.
    """
    old, old_e = widen(state)
    new = g if share == BETA_ONE else g.mulc(share)
    return normalise(*add_scaled(old.mulc(beta), old_e, new, g_e), 30)


def update_master(p: Tensor, u: Tensor, u_e: Tensor, rate: Scaled, decay: Scaled) -> Tensor:
    """p int32 Q24 [R, K] -> p - rate · u - decay · p, rounded once, half up, and |p| < 2^30.

    u_e, the exponents of |u| ≤ 2^30, broadcast against u. rate and decay are [1, 1] pairs with
    mantissas of 30 bits. Both terms carry 4 guard bits: 0.57 ulp. Each saturates at 2 in value: a
    run that gets there has diverged.
    """
    step = saturating_scale(u.mulr30(rate[0]), (0 - STEP_FRACTION_BITS - 30) - (u_e + rate[1]))
    return move_master(p, step, decay)


def move_master(p: Tensor, step: Tensor, decay: Scaled) -> Tensor:
    """p int32 Q24 [R, K] -> p - step - decay · p, rounded once, half up, and |p| < 2^30.

    step has STEP_FRACTION_BITS, and |step| ≤ 2^29. decay is as in `update_master`.
    """
    shrink = saturating_scale(
        p.mulr30(decay[0]), (MASTER_FRACTION_BITS - STEP_FRACTION_BITS - 30) - decay[1]
    )
    return (p - (step + shrink).round_shift(_GUARD_BITS)).clamp(1 - 2**30, 2**30 - 1)


def scalar_inputs(*pairs: tuple[int, int]) -> list[npt.NDArray[Any]]:
    """Mantissas and exponents as int32 arrays [1, 1], for a test case."""
    return [np.array([[v]], np.int32) for pair in pairs for v in pair]


def random_master(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Test weights int32 Q24 with a row of zeros and a row of extremes."""
    p = rng.integers(-(2**24), 2**24, shape)
    p[0] = 0
    p[-1] = np.where(p[-1] < 0, 1 - 2**30, 2**30 - 1)
    return p.astype(np.int32)


TEST_SCALARS = ((2**30 - 1, -38), (549755814, -39), (549755814, -49))
"""1 / tokens, learning rate and decay of the usual test case: 1/256, 1e-3 and 1e-6."""

EXTREME_SCALARS = ((2**30 - 1, -16), (2**30 - 1, -20), (2**30 - 1, -30))
