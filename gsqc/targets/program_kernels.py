# SPDX-License-Identifier: Apache-2.0
"""Programs in place of kernels. An executor runs a plan in which each function is one call of its
program.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import BundleError, TargetError
from gsqc.limits import MAXIMUM_THREADS
from gsqc.targets.host_memory import HostMemory
from gsqc.targets.interface import Array, Call, Code, CodeJob, Functions, Target, bind_each
from gsqc.targets.programs import port_directions, port_shapes
from gsqc.values import require_whole

RunProgram = Callable[[str, list[Array]], Sequence[Array]]
"""Runs the program of a function, by name, on its inputs."""


class ProgramKernels(HostMemory):
    """The programs of a plan as `Kernels`. `run` runs one of them."""

    def __init__(self, plan: Plan, run: RunProgram) -> None:
        self.plan, self.run = plan, run

    def program(self, calls: Sequence[Call]) -> Functions:
        """Calls of programs, and copies, bound to their arrays."""
        return bind_each(calls, self._bound)

    def _bound(self, name: str, arrays: Sequence[Array]) -> Callable[[], None]:
        """A program on flat arrays (inputs, then outputs), ready to run."""
        # Arrays are flat, but a program wants the shapes that its function was recorded with.
        read, _ = port_directions(self.plan, name)
        shapes = port_shapes(self.plan, name, read)

        def run() -> None:
            inputs = [a.reshape(s) for a, s in zip(arrays[: len(read)], shapes, strict=True)]
            results, targets = self.run(name, inputs), arrays[len(read) :]
            # A bundle's program may be damaged, or of another plan: nothing is copied then.
            if [(t.size, t.dtype) for t in targets] != [(r.size, r.dtype) for r in results]:
                raise BundleError(
                    f"the program {name} does not fit the plan", "compile the model again"
                )
            for target, result in zip(targets, results, strict=True):
                np.copyto(target, result.reshape(-1), casting="no")

        return run

    def set_threads(self, count: int) -> None:
        """Programs run on one thread. The result does not depend on it."""
        require_whole("threads", count, 1, MAXIMUM_THREADS)


class ProgramTarget(Target):
    """A target that runs the functions of any bundle as programs, to compare with."""

    # Programs are made from the plan, so it does not matter which target's code a bundle holds.
    runs_any_bundle = True
    by_function = True

    @abstractmethod
    def run_programs(self, bundle: Bundle, plan: Plan) -> RunProgram:
        """What runs the programs of a bundle."""

    def require(self, *, runner: bool = False) -> None:
        """No bundle has code for it: always a TargetError."""
        raise TargetError(
            f"{self.name} is for checks: no bundle has code for it",
            f"compile for another target, then gsqc check --on numpy,{self.name}",
        )

    def add_code(self, bundle: BundleWriter, job: CodeJob) -> Code:
        """Never called: `require` refuses before."""
        raise AssertionError(self.name)

    def load(self, bundle: Bundle, plan: Plan) -> ProgramKernels:
        """The programs of a bundle, in place of its kernels."""
        return ProgramKernels(plan, self.run_programs(bundle, plan))
