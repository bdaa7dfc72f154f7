# SPDX-License-Identifier: Apache-2.0
"""Operands of a unit for its tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hardware.float_formats import Float
from hardware.streams import Side, cycles, drawn, random_side, rounded
from hardware.unit import Cycle, Unit


def sparse(unit: Unit, groups: int, rng: np.random.Generator) -> list[Cycle]:
    """Random numbers, seven of ten zero. Each group is a sum."""
    sides = []
    for form in (unit.x_format, unit.y_format):
        side = random_side(form, groups, rng, special=False)
        sides.append(Side(np.where(rng.random(side.codes.shape) < 0.7, 0, side.codes), side.scales))
    return list(cycles(unit, *sides, row_groups=1))


def smallest_beside_zeros(unit: Unit) -> Cycle:
    """Four of the smallest products. All others are the largest number times zero."""
    largest = int(unit.x_format.mantissas.max())
    live, rest = min(4, unit.lanes), unit.lanes - min(4, unit.lanes)
    x, y = (1,) * live + (largest,) * rest, (1,) * live + (0,) * rest
    return Cycle(x, y, int(unit.x_format.scales[0]), int(unit.y_format.scales[0]), clear=True)


def all_kinds(unit: Unit, groups: int, seed: int) -> list[Cycle]:
    """Random, extreme, sparse and normally distributed operands, groups of each.

    Sums of floats keep an infinity or NaN, so random and extreme numbers come in pairs too.
    """
    rng = np.random.default_rng(seed)
    found = [c for kind in ("random", "extreme") for c in drawn(unit, kind, groups, rng)]
    if unit.lanes == 1 and isinstance(unit.x_format, Float):
        pairs = [c for kind in ("random", "extreme") for c in drawn(unit, kind, groups // 2, rng)]
        found += [replace(c, clear=i % 2 == 0) for i, c in enumerate(pairs)]
    # Octaves between the groups, so that scales differ.
    octaves = 2.0 ** rng.integers(-9, 3, (2, 3, groups // 3, 1))
    x, y = rng.standard_normal((2, 3, groups // 3, 32)) * octaves
    found.append(smallest_beside_zeros(unit))
    return [*found, *sparse(unit, groups, rng), *rounded(unit, x, y)]
