# SPDX-License-Identifier: Apache-2.0
"""The command streams of a bundle, which the interpreter runs."""

from __future__ import annotations

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.targets.arm_npu.accelerators import TARGET, NpuOptions
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.arm_npu.npu_code import compile_program
from gsqc.targets.arm_npu.read_code import read_npu_program
from gsqc.targets.arm_npu.u85.run import Compiled, run_command_stream
from gsqc.targets.interface import Array
from gsqc.targets.program_kernels import RunProgram
from gsqc.targets.programs import compose_function


def _compile_now(plan: Plan, name: str) -> Compiled:
    """What Vela makes of a function of a bundle for another target."""
    # The bundle's own TOSA program may have forms that Vela gets wrong, so it is made anew.
    program = compose_function(plan, name, VelaBuilder)
    return compile_program(program, serialise_for_vela(program.trace), NpuOptions()).compiled


def interpreted_programs(bundle: Bundle, plan: Plan) -> RunProgram:
    """Runs the bundle's own command streams. If it has none, Vela now makes them of its plan."""
    compiled: dict[str, Compiled] = {}
    # What was compiled for several accelerators computes the same: the first will do.
    own = next((t for t in bundle.manifest.targets if t.partition(":")[0] == TARGET), None)

    def run(name: str, inputs: list[Array]) -> list[Array]:
        # Vela takes seconds per function, and a step calls some of them once a layer.
        if name not in compiled:
            compiled[name] = (
                read_npu_program(bundle, own, name) if own else _compile_now(plan, name)
            )
        return run_command_stream(compiled[name], inputs)

    return run
