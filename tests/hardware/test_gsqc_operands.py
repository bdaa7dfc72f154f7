# SPDX-License-Identifier: Apache-2.0
"""What gsqc's quantise stores is what the `-stored` units take, and their sum is gsqc's matmul."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="needs pip install 'gsqc[hardware]'")

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.formats import GROUP, SCALES, WINDOW, Row
from gsqc.numerics.ops.registry import OPS, evaluate
from hardware.group_formats import Gse, unsigned
from hardware.integer_units import GroupUnit
from hardware.simulation import meanings, outputs
from hardware.streams import Side, cycles, real_side

GROUPS = 6
"""Of a row."""


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row-16 mantissas and exponents: normally distributed, over many octaves, one outlier."""
    rng = np.random.default_rng(seed)
    octaves = 2.0 ** rng.integers(-10, 1, (8, GROUPS, 1))
    m = rng.standard_normal((8, GROUPS, GROUP)) * octaves * 9000
    m[0, 2, 7] = 32767
    m = np.clip(np.rint(m), -32767, 32767).astype(np.int16)
    return m.reshape(8, -1), rng.integers(-20, 5, (8, 1)).astype(np.int32)


def stored_by_gsqc(m: np.ndarray, e: np.ndarray, bits: int) -> Side:
    """As the unit's ports take it. gsqc stores an octave's distance below the row's largest."""
    gse = evaluate(OPS["quantise"], [Row(m, e, 16)], {"bits": bits})
    codes = unsigned(np.asarray(gse.m).astype(np.int64), 8).reshape(-1, GROUP)
    return Side(codes, WINDOW - np.asarray(gse.d).astype(np.int64).ravel())


@pytest.mark.parametrize("bits", SCALES)
def test_operands_are_those_of_gsqc(bits: int) -> None:
    form = Gse(bits, SCALES[bits], stored=True)
    m, e = rows(seed=bits)
    mine = real_side(form, m.reshape(-1, GROUPS, GROUP).astype(np.float64))
    theirs = stored_by_gsqc(m, e, bits)
    assert mine.codes.tolist() == theirs.codes.tolist()
    assert mine.scales.tolist() == theirs.scales.tolist()


@pytest.mark.parametrize("bits", SCALES)
def test_the_unit_adds_what_gsqc_adds(bits: int) -> None:
    """Σ (m << octave) · (m' << octave'), which gsqc's exact matmul is defined as."""
    form = Gse(bits, SCALES[bits], stored=True)
    sides = [stored_by_gsqc(*rows(seed), bits) for seed in (bits, 10 + bits)]
    unit = GroupUnit(form, form)
    stream = list(cycles(unit, *sides, row_groups=GROUPS))
    sums = outputs(unit, stream)
    assert sums == meanings(unit, stream)
    aligned = [
        (((side.codes ^ 128) - 128) << side.scales[:, None]).reshape(8, -1) for side in sides
    ]
    assert np.abs(aligned).max() < 2**15
    assert sums[GROUPS - 1 :: GROUPS] == (aligned[0] * aligned[1]).sum(1).tolist()
