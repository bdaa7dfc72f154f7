# SPDX-License-Identifier: Apache-2.0
"""position_embedding: the learned embedding of each token's position, as in GPT-2 and OPT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op


@op(Kind.LAYOUT)
def position_embedding(b: Builder, positions: Tensor, table: Row) -> Row:
    """positions int32 [T] in [0, S), table Row [S, n] -> their rows [T, n], exact."""
    return Row(b.gather(table.m, positions), b.gather(table.e, positions), table.bits)


@position_embedding.define_gradient
def _gradient(g: Any, call: Any, dy: Any) -> list[Any]:
    """The table is frozen."""
    return [None, None]


@cases(position_embedding)
def _cases(rng: np.random.Generator) -> Iterator[Case]:
    positions = np.array([0, 8, 3, 3, 4], np.int32)
    for bits in (16, 24):
        yield Case(f"row-{bits}", [positions, random_row(rng, (9, 40), bits)])
    yield Case("one", [positions[1:2], random_row(rng, (9, 40), 16)])
