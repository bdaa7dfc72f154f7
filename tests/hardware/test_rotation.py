# SPDX-License-Identifier: Apache-2.0
"""The rotation's RTL is the Hadamard matrix."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="needs pip install 'gsqc[hardware]'")

from gsqc.numerics.operators.hadamard import HADAMARD
from hardware.group_formats import signed, unsigned
from hardware.rotation import Rotation
from hardware.simulation import meanings, outputs
from hardware.unit import Cycle


def test_matrix_is_sylvesters() -> None:
    """Each is made of four of half its size: [[H, H], [H, -H]]."""
    want = np.ones((1, 1), int)
    while len(want) < 32:
        want = np.block([[want, want], [want, -want]])
    assert np.array_equal(np.array(HADAMARD), want)


def test_rtl_is_the_matrix() -> None:
    """Random groups, one number alone, and the ends of 16 bits in each row's own signs."""
    rng = np.random.default_rng(5)
    groups = np.concatenate([rng.integers(-(2**15), 2**15, (40, 32)), np.eye(32, dtype=int)])
    extreme = np.where(np.array(HADAMARD) > 0, 2**15 - 1, -(2**15))
    groups = np.concatenate([groups, extreme, ~extreme])
    cycles = [Cycle(tuple(unsigned(g, 16).tolist()), (), 0, 0, False) for g in groups]
    rotation = Rotation()
    got = outputs(rotation, cycles)
    assert got == meanings(rotation, cycles)
    for word, group in zip(got, groups, strict=True):
        numbers = [signed(word >> 21 * i & (1 << 21) - 1, 21) for i in range(32)]
        assert numbers == (np.array(HADAMARD) @ group).tolist()
