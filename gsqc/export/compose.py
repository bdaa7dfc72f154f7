# SPDX-License-Identifier: Apache-2.0
"""compose: adds and subtracts the adapters of several runs of one bundle.

Zhang et al. 2023, "Composing Parameter-Efficient Modules with Arithmetic Operations" (arXiv
2306.14870), section 3. A sum of adapters is the sum of their matrices. To subtract one, only the
matrices that begin with zeros change their sign: of LoRA's B·A that is B, so that the product
changes its sign too. Others are added by the size of their factor.

Numbers are integers: factors are fractions, each sum is exact, and it is rounded once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.decimals import exact_fraction
from gsqc.errors import ExportError, OptionError
from gsqc.export.adapter import adapter_slots, read_adapter
from gsqc.export.fixed_point import Int32

MOST_FACTOR = 1000
MOST_PARTS = 64
_TERM = re.compile(r"\s*([+-])?\s*(?:([0-9.]+)(?:\s*/\s*([0-9]+))?\s*\*\s*)?([A-Za-z]\w*)\s*", re.A)
_LIMIT = 2**30
_MOST_PRODUCT = 2**63
HINT = 'write it like --sum "a + 0.5*b - 1/3*c"'


def parse_sum(text: str) -> dict[str, Fraction]:
    """The factors of a text such as "a + 0.5*b - 1/3*c" by name. Raises OptionError."""
    factors: dict[str, Fraction] = {}
    place = 0
    while place < len(text) or not factors:
        term = _TERM.match(text, place)
        if term is None or (term[1] is None and factors):
            raise OptionError(f"--sum {text!r:.200} cannot be read at {text[place:]!r:.40}", HINT)
        sign, number, divisor, name = term.groups()
        size = exact_fraction(number or "1", MOST_FACTOR)
        if size is None or (divisor is not None and not 0 < int(divisor[:9]) == int(divisor)):
            raise OptionError(f"--sum {text!r:.200}: the factor of {name} cannot be read", HINT)
        factor = size / int(divisor or 1) * (-1 if sign == "-" else 1)
        factors[name] = factors.get(name, Fraction(0)) + factor
        place = term.end()
    return factors


def compose(
    bundle: Bundle, parts: Mapping[str, Path], factors: Mapping[str, Fraction]
) -> dict[str, Int32]:
    """The sum of the adapters of some runs, as state tensors by name.

    parts    the runs by the names that `factors` has

    Raises OptionError if names do not fit, ExportError for numbers that are too large, RunError and
    BundleError.
    """
    missing = [name for name in factors if name not in parts]
    unused = [name for name in parts if name not in factors]
    if missing or unused:
        problem = f"no --part is called {missing[0]}" if missing else f"{unused[0]} is not in --sum"
        raise OptionError(problem, "each --part NAME=RUN has its place in --sum, and no other name")
    common = math.lcm(*(f.denominator for f in factors.values()))
    whole = {name: int(f * common) for name, f in factors.items()}
    if sum(map(abs, whole.values())) * _LIMIT >= _MOST_PRODUCT:
        raise OptionError("the factors of --sum need more than 64 bits", "use shorter fractions")
    sums: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = {}
    for name, run in parts.items():
        for slot, linear in zip(
            adapter_slots(bundle), read_adapter(bundle, run).linears, strict=True
        ):
            parameters = slot.settings.parameters(1, 1)
            for matrix, values in linear.matrices.items():
                is_signed = parameters[matrix].fan_in == 0
                factor = whole[name] if is_signed else abs(whole[name])
                key = slot.state_name(matrix)
                sums[key] = sums.get(key, np.int64(0)) + values.astype(np.int64) * factor
    return {name: _rounded(name, total, common) for name, total in sums.items()}


def _rounded(
    name: str, total: np.ndarray[tuple[int, ...], np.dtype[np.int64]], common: int
) -> Int32:
    """total / common, to nearest, half up. ExportError if a number does not fit."""
    values = (total + common // 2) // common
    if np.abs(values).max(initial=0) >= _LIMIT:
        raise ExportError(
            f"the sum of {name} holds a weight of 64 or more", "use smaller factors in --sum"
        )
    return values.astype(np.int32).reshape(-1)
