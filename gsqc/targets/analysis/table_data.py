# SPDX-License-Identifier: Apache-2.0
"""The data of a lookup table in compiled code.

An entry and its successor lie in one int32, so that one load gets both ends of an interpolation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise


def pack_entries(entries: Sequence[int]) -> list[int]:
    """513 int16 entries -> 512 int32: entry k in the low half, entry k + 1 in the high half."""
    # Python's integers have no sign bit: the pairs are made unsigned, then read as int32.
    unsigned = [(b & 0xFFFF) << 16 | a & 0xFFFF for a, b in pairwise(entries)]
    return [v - (1 << 32) if v >> 31 else v for v in unsigned]


def table_symbol(entries: Sequence[int]) -> str:
    """The table's name in code: equal tables share it."""
    return "gsqc_table_" + hashlib.sha256(repr(tuple(entries)).encode()).hexdigest()[:16]


def c_initialiser(entries: Sequence[int]) -> str:
    """The packed entries as a C initialiser."""
    # C reads -2147483648 as the negative of a number that does not fit int.
    numbers = (str(v) if v > -(2**31) else "-2147483647-1" for v in pack_entries(entries))
    return "{" + ",".join(numbers) + "}"
