# SPDX-License-Identifier: Apache-2.0
"""Every op on every case: numpy never overflows. Each target is tested against these results."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.formats import flatten, to_spec
from gsqc.numerics.ops.registry import CASES, OPS, Case, Kind, evaluate, trace

COMPOSITE = {name for name, operation in OPS.items() if operation.kind is Kind.GRAPH}
"""Ops that expand_composites replaces before code is generated."""


def all_cases() -> Iterator[tuple[str, Case]]:
    for name in sorted(CASES):
        yield from ((name, case) for case in CASES[name](np.random.default_rng(20261123)))


PARAMETERS = [pytest.param(name, case, id=f"{name}-{case.name}") for name, case in all_cases()]


def test_every_op_has_cases() -> None:
    without = {n for n, o in OPS.items() if o.kind is not Kind.VIEW} - set(CASES)
    assert without <= COMPOSITE


@pytest.mark.parametrize(("name", "case"), PARAMETERS)
def test_numpy_fits_its_types(name: str, case: Case) -> None:
    """Evaluation asserts each operator's range. Recording infers the same shapes and types."""
    results = flatten(evaluate(OPS[name], case.values, case.attributes))
    _, specs = trace(OPS[name], [to_spec(v) for v in case.values], case.attributes)
    assert [(r.shape, str(r.dtype)) for r in results] == [
        (s.shape, s.dtype) for s in flatten(specs)
    ]
