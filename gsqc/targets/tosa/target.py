# SPDX-License-Identifier: Apache-2.0
"""The target tosa-reference, in which Arm's TOSA reference model runs each function's program. It
also gives every bundle its TOSA programs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import TargetPart
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import TargetError
from gsqc.numerics.formats import to_spec
from gsqc.numerics.ops.registry import Case, Op, trace
from gsqc.targets.interface import Array
from gsqc.targets.program_kernels import ProgramTarget, RunProgram

MISSING = TargetError("tosa-tools is not installed", "pip install 'gsqc[npu]'")


class TosaReference(ProgramTarget):
    """Runs a bundle's own programs, or those made from its plan."""

    name = "tosa-reference"
    description = "Arm's TOSA reference model, for checks"

    def add_programs(
        self, bundle: BundleWriter, plan: Plan, progress: Callable[[str], None]
    ) -> dict[str, Any]:
        """Add the programs of all functions, if tosa-tools is installed.

        Whoever holds the bundle can then run them in another implementation of TOSA.
        """
        # The programs are a by-product: a compilation does not fail for want of a serialiser.
        if importlib.util.find_spec("tosa_serializer") is None:
            return {"programs": {}}
        from gsqc.targets.registry import program_style
        from gsqc.targets.tosa.programs import add_programs, serialise_functions

        progress("writing the TOSA programs")
        return add_programs(bundle, serialise_functions(plan, program_style()))

    def lower(self, operation: Op, case: Case) -> None:
        """Serialise the op as a program of its own."""
        from gsqc.targets.tosa.serialise import serialise

        serialise(trace(operation, [to_spec(v) for v in case.values], case.attributes)[0])

    def refusal(self, entry: TargetPart) -> TargetError | None:
        """Any machine will do, if the reference model is installed."""
        return MISSING if importlib.util.find_spec("tosa_reference_model") is None else None

    def run_programs(self, bundle: Bundle, plan: Plan) -> RunProgram:
        """Runs each function's program, which is read or made once."""
        from gsqc.targets.registry import program_style
        from gsqc.targets.tosa.programs import program_bytes
        from gsqc.targets.tosa.reference_model import run_reference_model

        programs: dict[str, bytes] = {}

        def run(name: str, inputs: list[Array]) -> list[Array]:
            if name not in programs:
                programs[name] = program_bytes(bundle, plan, name, program_style())
            return run_reference_model(programs[name], inputs)

        return run


TARGETS = (TosaReference(),)
