# SPDX-License-Identifier: Apache-2.0
"""Which target lowers which op, found by lowering one case of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.numerics.ops.registry import CASES, OPS, Case, Kind, Op
from gsqc.targets.interface import Target

EXACT = "exact"
EXPANDED = "expanded by a pass"
VIEW = "no code: a view"
_WITHOUT_CODE = {Kind.GRAPH: EXPANDED, Kind.VIEW: VIEW}
"""Kinds of ops that no code is generated for."""
_SEED = 20261123


def lowering(target: Target, operation: Op, case: Case) -> str:
    """`exact`, or `missing: ` and the reason.

    A kernel has no say in the result, so an op that can be lowered is exact. Other tests run every
    case on every target.
    """
    try:
        target.lower(operation, case)
    except Exception as error:
        # A code generator fails in many ways: a lost entry of a table is a KeyError, a form that
        # nobody wrote is an assertion.
        return f"missing: {type(error).__name__}: {error}"
    return EXACT


def op_support(targets: Sequence[Target]) -> dict[str, dict[str, str]]:
    """For each op, how each of the targets runs it."""
    support = {}
    for name, operation in sorted(OPS.items()):
        fixed = _WITHOUT_CODE.get(operation.kind)
        # The first case alone: later ones differ in sizes and extreme values, not in operators.
        case = None if fixed else next(iter(CASES[name](np.random.default_rng(_SEED))))
        support[name] = {
            t.name: fixed or lowering(t, operation, case)  # type: ignore[arg-type]
            for t in targets
        }
    return support
