# SPDX-License-Identifier: Apache-2.0
"""The target numpy. It is the definition of every op, and the others are compared with it."""

from __future__ import annotations

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.numerics.ops.registry import Case, Op, evaluate
from gsqc.targets.interface import Code, CodeJob, Kernels, Target
from gsqc.targets.program_kernels import ProgramTarget, RunProgram

BY_FUNCTION = "numpy-programs"


class NumpyTarget(Target):
    """Kernel by kernel, from the plan alone: a bundle for numpy holds no code."""

    name = "numpy"
    description = "the golden evaluator, which runs every op's own function (slow, for checks)"
    # Where no compiled target fits the CPU, a slow step is better than none.
    native_rank = 0
    runs_any_bundle = True

    def add_code(self, bundle: BundleWriter, job: CodeJob) -> Code:
        """The entry alone: the ops' functions are in gsqc itself."""
        return Code(self.entry())

    def lower(self, operation: Op, case: Case) -> None:
        """Evaluate the case: overflow is an error."""
        evaluate(operation, case.values, case.attributes)

    def load(self, bundle: Bundle, plan: Plan) -> Kernels:
        """The ops' own functions."""
        from gsqc.targets.numpy.kernels import NumpyKernels

        return NumpyKernels(plan.kernels)


class NumpyByFunction(ProgramTarget):
    """Function by function: `gsqc check` compares the targets that run whole programs with it."""

    name = BY_FUNCTION
    description = "numpy, function by function"
    # Its bits are those of numpy, so only a comparison port by port has a use for it.
    listed = False

    def lower(self, operation: Op, case: Case) -> None:
        """As numpy itself."""
        evaluate(operation, case.values, case.attributes)

    def run_programs(self, bundle: Bundle, plan: Plan) -> RunProgram:
        """Evaluates functions of the plan."""
        from gsqc.targets.numpy.programs import numpy_programs

        return numpy_programs(plan)


TARGETS = (NumpyTarget(), NumpyByFunction())
