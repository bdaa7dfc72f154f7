# SPDX-License-Identifier: Apache-2.0
"""Bases: a file of this folder for each way to store float weights, which `--base` names."""

from __future__ import annotations

from collections.abc import Mapping

from gsqc.named import kinds_of
from gsqc.numerics.bases.base import Base

BASES: Mapping[str, type[Base]] = kinds_of(__name__, __path__, Base)
"""The class of each base by its name."""


def default_base(bits: int) -> str:
    """The base of a width where none is asked for."""
    return next(name for name, base in BASES.items() if base.default and base.bits == bits)
