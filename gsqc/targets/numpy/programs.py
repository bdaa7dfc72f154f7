# SPDX-License-Identifier: Apache-2.0
"""numpy, function by function. A program's results are compared with its results, port by port."""

from __future__ import annotations

from gsqc.bundle.plan import Plan
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.targets.interface import Array
from gsqc.targets.program_kernels import RunProgram
from gsqc.targets.programs import port_directions, run_function


def numpy_programs(plan: Plan) -> RunProgram:
    """Evaluates a function of the plan, kernel after kernel."""

    def run(name: str, inputs: list[Array]) -> list[Array]:
        builder = NumpyBuilder()
        read, written = port_directions(plan, name)
        given = {port: builder.tensor(array) for port, array in zip(read, inputs, strict=True)}
        known = run_function(builder, plan, name, given)
        return [known[port].data for port in written]

    return run
