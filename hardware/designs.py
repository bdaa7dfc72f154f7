# SPDX-License-Identifier: Apache-2.0
"""The units by name, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gsqc.numerics.formats import SCALES
from hardware.float_formats import BF16, E4M3, E5M2, SUM16
from hardware.float_units import ExactFloatUnit, FloatUnit, TreeFloatUnit
from hardware.group_formats import Gse, Int8
from hardware.integer_units import GroupUnit
from hardware.rotation import Rotation
from hardware.unit import Unit

BASELINE = "fp8-float32"
"""The unit that all others are compared with."""
EXACT_BASELINE = "fp8-exact"
"""FP8 as small as FP8 gets here."""
ROTATION = "rotation"
"""Stands beside the units: it multiplies nothing."""


@dataclass(frozen=True)
class Design:
    """A unit of the table: what it does in a few words, and how to build it."""

    text: str
    build: Callable[[], Unit]


def gse(bits: int, n: int | None = None, *, stored: bool = False) -> Gse:
    """GSE-b, with the format's own n if none is given."""
    return Gse(bits, n or SCALES[bits], stored)


def same(form: Gse | Int8, lanes: int = 32) -> Callable[[], Unit]:
    """Both operands in one format."""
    return lambda: GroupUnit(form, form, lanes)


DESIGNS = {
    "fp8-float32": Design("E4M3, float32 sum per product", lambda: FloatUnit(E4M3)),
    "fp8-e5m2": Design("E5M2, float32 sum per product", lambda: FloatUnit(E5M2)),
    "fp8-float16": Design("E4M3, float16 sum per product", lambda: FloatUnit(E4M3, SUM16)),
    "fp8-tree": Design("E4M3, 32 aligned to the largest", lambda: TreeFloatUnit(E4M3, 11)),
    "fp8-exact": Design("E4M3, exact fixed-point sum", lambda: ExactFloatUnit(E4M3)),
    "bf16-float32": Design("bfloat16, float32 sum per product", lambda: FloatUnit(BF16)),
    "int8": Design("int8, no scale in the unit", same(Int8())),
    "gse8": Design("GSE-8, powers of two", same(gse(8))),
    "gse7": Design("GSE-7, powers of two", same(gse(7))),
    "gse6": Design("GSE-6, 2 scales an octave", same(gse(6))),
    "gse5": Design("GSE-5, 4 scales an octave", same(gse(5))),
    "gse4": Design("GSE-4, 4 scales an octave", same(gse(4))),
    "gse5x8": Design("GSE-5 times GSE-8", lambda: GroupUnit(gse(5), gse(8))),
    "gse6-octaves": Design("GSE-6, powers of two", same(gse(6, 1))),
    "gse5-octaves": Design("GSE-5, powers of two", same(gse(5, 1))),
    "gse5-plain": Design("GSE-5 as in the paper: not rotated", same(Gse(5, 1, rotated=False))),
    "gse4-octaves": Design("GSE-4, powers of two", same(gse(4, 1))),
    "gse6-stored": Design("GSE-6, m · c' as int8", same(gse(6, stored=True))),
    "gse5-stored": Design("GSE-5, m · c' as int8", same(gse(5, stored=True))),
    "gse5-alone": Design("GSE-5, each product aligned alone", same(gse(5), 1)),
    "gse8-alone": Design("GSE-8, each product aligned alone", same(gse(8), 1)),
}


def build(name: str) -> Unit | Rotation:
    """The unit of that name, or the rotation."""
    return Rotation() if name == ROTATION else DESIGNS[name].build()
