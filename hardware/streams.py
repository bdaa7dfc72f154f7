# SPDX-License-Identifier: Apache-2.0
"""Operands, cycle by cycle: random codes, the smallest and largest, or real numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gsqc.numerics.formats import GROUP
from hardware.float_formats import Float
from hardware.group_formats import Codes, Numbers
from hardware.unit import Cycle, Format, Unit


@dataclass(frozen=True)
class Side:
    """One operand of many groups: codes [groups, 32], scales [groups]."""

    codes: Codes
    scales: Codes


def extreme_codes(form: Format) -> Codes:
    """0, the smallest and largest numbers of both signs, and a float's infinities and NaN."""
    if not isinstance(form, Float):
        numbers = np.array([-form.largest, 1 - form.largest, -1, 0, 1, form.largest])
        return numbers & ((1 << form.width) - 1)
    one, top = 1 << form.m, (1 << (form.width - 1)) - 1
    sizes = [0, 1, one - 1, one, one + 1, form.bias << form.m, top - one, top - 1, top]
    sizes.append(form.infinity)
    return np.array([size | sign << (form.width - 1) for size in sizes for sign in (0, 1)])


def _finite(form: Format, codes: Codes) -> Codes:
    return codes[np.isin(codes, form.mantissas)]


def random_side(form: Format, groups: int, rng: np.random.Generator, *, special: bool) -> Side:
    """Any code and any scale. `special`: a float's infinities and NaN too."""
    codes = np.arange(1 << form.width) if special else form.mantissas
    return Side(rng.choice(codes, (groups, GROUP)), rng.choice(form.scales, groups))


def extreme_side(form: Format, groups: int, rng: np.random.Generator, *, special: bool) -> Side:
    """Codes of the smallest and largest, in every fourth group all alike. Scales too."""
    pool = extreme_codes(form)
    codes = rng.choice(pool if special else _finite(form, pool), (groups, GROUP))
    codes[::4] = codes[::4, :1]
    scales = form.scales
    ends = scales[[0, form.factors - 1, -1]] if not isinstance(form, Float) else scales
    return Side(codes, rng.choice(ends, groups))


def real_side(form: Format, rows: Numbers) -> Side:
    """Rows [rows, groups, 32] of numbers, each row rounded as the format rounds rows."""
    rounded = [form.round(row) for row in rows]
    codes, scales = zip(*rounded, strict=True)
    return Side(np.concatenate(codes), np.concatenate(scales))


def cycles(unit: Unit, x: Side, y: Side, row_groups: int) -> Iterator[Cycle]:
    """The groups in turn, `lanes` numbers a cycle. A new sum begins every `row_groups` groups."""
    parts = GROUP // unit.lanes
    for group in range(len(x.codes)):
        for part in range(parts):
            here = slice(part * unit.lanes, (part + 1) * unit.lanes)
            yield Cycle(
                x=tuple(map(int, x.codes[group, here])),
                y=tuple(map(int, y.codes[group, here])),
                x_scale=int(x.scales[group]),
                y_scale=int(y.scales[group]),
                clear=part == 0 and group % row_groups == 0,
            )


def drawn(unit: Unit, kind: str, groups: int, rng: np.random.Generator) -> Iterator[Cycle]:
    """Random or extreme operands. Only FloatUnit, with one lane of floats, takes special codes."""
    make = {"random": random_side, "extreme": extreme_side}[kind]
    special = unit.lanes == 1 and isinstance(unit.x_format, Float)
    x = make(unit.x_format, groups, rng, special=special)
    y = make(unit.y_format, groups, rng, special=special)
    return cycles(unit, x, y, {"random": 13, "extreme": 3}[kind])


def rounded(unit: Unit, x: Numbers, y: Numbers) -> Iterator[Cycle]:
    """Real operands: rows [rows, groups, 32] of both sides, a sum a row."""
    return cycles(unit, real_side(unit.x_format, x), real_side(unit.y_format, y), x.shape[1])
