# SPDX-License-Identifier: Apache-2.0
"""The targets of Arm's NPUs: arm-npu:ACCELERATOR compiles for one, ethos-u85-sim interprets what
was compiled.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import TargetPart
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import TargetError
from gsqc.numerics.formats import to_spec
from gsqc.numerics.ops.registry import Case, Op, trace
from gsqc.option import options_of
from gsqc.targets.arm_npu.accelerators import (
    TARGET,
    TRAINS,
    NpuOptions,
    npu_options,
    parse_accelerator,
    target_name,
)
from gsqc.targets.interface import Code, CodeJob, Kernels, Target
from gsqc.targets.program_kernels import ProgramTarget, RunProgram
from gsqc.targets.programs import ProgramStyle

NEEDS = ("tosa",)
"""Folders of other targets that this one builds on."""


def _lower_for_vela(operation: Op, case: Case) -> None:
    # Vela takes seconds per program, so it is left out here. docs/arm-npu.md has what it refuses.
    from gsqc.targets.arm_npu.builder import serialise_for_vela

    specs = [to_spec(v) for v in case.values]
    serialise_for_vela(trace(operation, specs, case.attributes)[0])


class ArmNpu(Target):
    """An Ethos-U85. A host drives it with the command streams and the plan that a bundle holds."""

    description = f"Arm Ethos-U85 through TOSA and Vela: {', '.join(map(target_name, TRAINS))}"
    options = options_of(NpuOptions)
    # Vela would take too long for the programs that read a prompt in chunks.
    prefill = False
    # Made chunk by chunk, the operands would be three quarters of the head's backward pass.
    prepares_head = True

    def __init__(self, name: str = TARGET) -> None:
        self.name = name

    def named(self, name: str) -> Target | None:
        """`arm-npu` or `arm-npu:ACCELERATOR`. TargetError for one that cannot run a step."""
        if name.partition(":")[0] != TARGET:
            return None
        return ArmNpu(target_name(parse_accelerator(name)))

    def check_options(self, given: Mapping[str, object]) -> None:
        """OptionError for a file that is not there, or a memory of no size."""
        npu_options(self.name, given)

    def require(self, *, runner: bool = False) -> None:
        """Vela and tosa-tools."""
        from gsqc.targets.arm_npu.vela import require_tools

        super().require(runner=runner)
        require_tools()

    def add_code(self, bundle: BundleWriter, job: CodeJob) -> Code:
        """A command stream of each function, for the plan that fits the board's memory."""
        from gsqc.targets.arm_npu.npu_code import add_npu_code

        options = npu_options(self.name, job.options)
        made = add_npu_code(bundle, self.code_file(""), job, options)
        part = replace(self.entry(), code_bytes=made.code_bytes, details=made.details)
        return Code(part, made.recompute)

    def program_style(self) -> ProgramStyle:
        """Without the forms that Vela gets wrong."""
        from gsqc.targets.arm_npu.builder import STYLE

        return STYLE

    def lower(self, operation: Op, case: Case) -> None:
        """Serialise the op as Vela takes it."""
        _lower_for_vela(operation, case)

    def entry(self) -> TargetPart:
        """The accelerator stands for the machine."""
        return TargetPart(parse_accelerator(self.name))

    def refusal(self, entry: TargetPart) -> TargetError | None:
        """No machine that runs Python steps it."""
        return TargetError(
            f"a host drives {entry.triple} with the bundle's plan (docs/arm-npu.md)",
            "check it here with gsqc check --on numpy,tosa-reference,ethos-u85-sim, "
            "or make code for this CPU: gsqc retarget BUNDLE",
        )

    def load(self, bundle: Bundle, plan: Plan) -> Kernels:
        """Never called: no machine that runs Python steps it, as `refusal` says."""
        raise AssertionError(self.name)

    def describe(self, part: TargetPart) -> dict[str, Any]:
        """Vela's counts and estimates."""
        from gsqc.targets.arm_npu.estimate import describe_code

        return describe_code(dict(part.details or {}))


class EthosSim(ProgramTarget):
    """Interprets the command streams of a bundle, or those that Vela makes of its plan now."""

    name = "ethos-u85-sim"
    description = "an interpreter of the NPU's command streams, for checks"

    def lower(self, operation: Op, case: Case) -> None:
        """Serialise the op as Vela takes it."""
        _lower_for_vela(operation, case)

    def refusal(self, entry: TargetPart) -> TargetError | None:
        """What is compiled now needs Vela."""
        if importlib.util.find_spec("ethosu") is not None:
            return None
        return TargetError("Vela is not installed", "pip install 'gsqc[npu]'")

    def run_programs(self, bundle: Bundle, plan: Plan) -> RunProgram:
        """Runs each function's command stream in poisoned memory."""
        from gsqc.targets.arm_npu.interpret import interpreted_programs

        return interpreted_programs(bundle, plan)


TARGETS = (ArmNpu(), EthosSim())
