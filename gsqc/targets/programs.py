# SPDX-License-Identifier: Apache-2.0
"""Targets that run a function as one program, not as kernels: the plan that an executor follows for
them.
"""

from __future__ import annotations

from dataclasses import replace

from gsqc.bundle.plan import FunctionPlan, Plan, Reference
from gsqc.numerics.formats import flatten

NUMPY_PROGRAMS = "numpy-programs"
PROGRAM_TARGETS = ("tosa-reference", "ethos-u85-sim", NUMPY_PROGRAMS)
"""Arm's reference model; the interpreter of the NPU's command streams; numpy, function by function,
to compare with.
"""


def port_directions(plan: Plan, name: str) -> tuple[list[str], list[str]]:
    """The ports that a function reads, and those that it writes, each in the plan's order."""
    function = plan.functions[name]
    written: set[str] = set()
    for kernel, references in function.calls:
        values, _ = plan.kernels[kernel].call()
        written.update(r.name for r in references[len(flatten(tuple(values))) :])
    return [p for p in function.ports if p not in written], [
        p for p in function.ports if p in written
    ]


def program_plan(plan: Plan) -> Plan:
    """The plan with one call per function: its ports that are read, then those that are written."""
    functions = {}
    for name, function in plan.functions.items():
        read, written = port_directions(plan, name)
        references = [Reference(port, 0, function.ports[port].count) for port in (*read, *written)]
        functions[name] = FunctionPlan(function.ports, {}, 0, [(name, references)])
    return replace(plan, functions=functions)
