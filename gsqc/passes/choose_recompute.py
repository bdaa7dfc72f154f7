# SPDX-License-Identifier: Apache-2.0
"""choose_recompute: for how many blocks the forward pass runs again, and for how many it is kept.

before:  schedules in which every block keeps what its backward needs
after:   --recompute none     the same
         --recompute blocks   the last block keeps it, all others run forward again
         --recompute auto     as many of the last blocks keep it as fit in a tenth more memory

A block that keeps it costs memory from its forward to its backward, and saves one forward pass. The
last blocks are as good as any others. The bits are the same. Chen et al. 2016, "Training Deep Nets
with Sublinear Memory Cost", arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gsqc.bundle.plan import Plan, SchedulePlan
from gsqc.passes.build_schedules import schedules_of
from gsqc.passes.plan_properties import GUARDS_SOUND, RECOMPUTE_CHOSEN, SCHEDULED, SLACK
from gsqc.passes.step import Step, graph_pass


def keep_blocks(
    plan: Plan,
    recompute: str,
    layers: int,
    schedules: Callable[[int | None], dict[str, SchedulePlan]],
) -> Plan:
    """`plan` with its schedules: `schedules(kept)` builds them, with `kept` blocks beside the last
    (None: all).
    """
    if recompute == "none":
        return replace(plan, schedules=schedules(None))
    best = replace(plan, schedules=schedules(0))
    if recompute == "blocks":
        return best
    # The limit is a share of the least that is possible, so it grows with the model by itself.
    limit = best.peak_bytes * SLACK
    # Asked first, because then no block shares a place, not even the last.
    everything = replace(plan, schedules=schedules(None))
    if everything.peak_bytes <= limit:
        return everything
    # Each kept block adds memory, so the most that fit are found by halving. At any time `low`
    # blocks fit, and `high` do not or are too many.
    low, high = 0, layers - 1
    while high - low > 1:
        middle = (low + high) // 2
        found = replace(plan, schedules=schedules(middle))
        low, high, best = (
            (middle, high, found) if found.peak_bytes <= limit else (low, middle, best)
        )
    return best


def replan(step: Step, recompute: str) -> Plan:
    """The step's plan with another value of --recompute. The step stays as it is."""
    return keep_blocks(
        step.plan, recompute, step.parts.layers, lambda kept: schedules_of(step, kept)
    )


@graph_pass(requires=(SCHEDULED, GUARDS_SOUND), ensures=(RECOMPUTE_CHOSEN, GUARDS_SOUND))
def choose_recompute(step: Step) -> Step:
    """Take the schedules that --recompute asks for."""
    step.plan = replan(step, step.options.recompute)
    return step
