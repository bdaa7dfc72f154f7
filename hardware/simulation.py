# SPDX-License-Identifier: Apache-2.0
"""A unit in Amaranth's simulator, beside its meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from amaranth.sim import Simulator

from hardware.unit import Component, Cycle


def outputs(component: Component, cycles: Sequence[Cycle]) -> list[int]:
    """The RTL's output for each cycle's operands.

    Components register their inputs, so an output comes one edge late, and the last operands are
    held for one edge more.
    """
    seen: list[int] = []

    async def drive(context: Any) -> None:
        for cycle in (*cycles, cycles[-1]):
            for port, word in component.words(cycle).items():
                context.set(getattr(component, port), word)
            await context.tick()
            seen.append(context.get(getattr(component, component.output)))

    simulator = Simulator(component)
    simulator.add_clock(1e-9)
    simulator.add_testbench(drive)
    simulator.run()
    return seen[1:]


def meanings(component: Component, cycles: Iterable[Cycle]) -> list[int]:
    """What the outputs must be."""
    total, found = 0, []
    for cycle in cycles:
        total = component.meaning(total, cycle)
        found.append(total)
    return found
