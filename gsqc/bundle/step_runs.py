# SPDX-License-Identifier: Apache-2.0
"""How often the schedules of a plan run in a step."""

from __future__ import annotations

from collections import Counter

from gsqc.bundle.plan import Plan
from gsqc.numerics.optim.zo import MOVES


def step_runs(plan: Plan, batch: int) -> Counter[str]:
    """How often each schedule runs in a step of `batch` sequences that does not clip."""
    moves = plan.buffers.get("input", {}).get(MOVES)
    if moves is not None:
        queries = moves.count
        return Counter(evaluate=2 * queries * batch, perturb=3 * queries, update=1)
    return Counter(train=1) if batch == 1 else Counter(gradient=batch, update=1)
