# SPDX-License-Identifier: Apache-2.0
"""Programs in place of kernels: an executor runs a plan in which each function is one call of its
program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.errors import BundleError
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.targets.arm_npu.accelerators import NpuOptions
from gsqc.targets.arm_npu.npu_code import compile_program, read_npu_program
from gsqc.targets.arm_npu.u85.run import Compiled, run_command_stream
from gsqc.targets.host_memory import HostMemory
from gsqc.targets.interface import Call, Functions, bind_each
from gsqc.targets.programs import NUMPY_PROGRAMS, port_directions
from gsqc.targets.tosa.programs import compose_function, port_shapes, program_file, run_function
from gsqc.targets.tosa.reference_model import run_reference_model
from gsqc.targets.tosa.serialise import serialise

Array = npt.NDArray[Any]
RunProgram = Callable[[str, list[Array]], Sequence[Array]]
"""Runs the program of a function, by name, on its inputs."""


class ProgramKernels(HostMemory):
    """The programs of a plan, with the interface of `CompiledKernels`; `run` runs one."""

    def __init__(self, plan: Plan, run: RunProgram) -> None:
        self.plan, self.run = plan, run

    def program(self, calls: Sequence[Call]) -> Functions:
        """Calls of programs, and copies, bound to their arrays."""
        return bind_each(calls, self._bound)

    def _bound(self, name: str, arrays: Sequence[Array]) -> Callable[[], None]:
        """A program on flat arrays (inputs, then outputs), ready to run."""
        read, _ = port_directions(self.plan, name)
        shapes = port_shapes(self.plan, name, read)

        def run() -> None:
            inputs = [a.reshape(s) for a, s in zip(arrays[: len(read)], shapes, strict=True)]
            results, targets = self.run(name, inputs), arrays[len(read) :]
            if [(t.size, t.dtype) for t in targets] != [(r.size, r.dtype) for r in results]:
                raise BundleError(
                    f"the program {name} does not fit the plan", "compile the model again"
                )
            for target, result in zip(targets, results, strict=True):
                np.copyto(target, result.reshape(-1), casting="no")

        return run

    def set_threads(self, count: int) -> None:
        """Programs run on one thread; the result does not depend on it."""


def program_bytes(bundle: Bundle, plan: Plan, name: str) -> bytes:
    """A function's TOSA program: the bundle's own, or made from its plan where it has none."""
    path = bundle.files.get(program_file(name))
    return serialise(compose_function(plan, name).trace) if path is None else path.read_bytes()


def _reference_model(bundle: Bundle, plan: Plan) -> RunProgram:
    programs: dict[str, bytes] = {}

    def run(name: str, inputs: list[Array]) -> list[Array]:
        if name not in programs:
            programs[name] = program_bytes(bundle, plan, name)
        return run_reference_model(programs[name], inputs)

    return run


def _numpy(bundle: Bundle, plan: Plan) -> RunProgram:
    """Function by function in numpy: what a program's results are compared with, port by port."""

    def run(name: str, inputs: list[Array]) -> list[Array]:
        builder = NumpyBuilder()
        read, written = port_directions(plan, name)
        given = {port: builder.tensor(array) for port, array in zip(read, inputs, strict=True)}
        known = run_function(builder, plan, name, given)
        return [known[port].data for port in written]

    return run


def _interpreter(bundle: Bundle, plan: Plan) -> RunProgram:
    """The bundle's own command streams; for a bundle of another target, those that Vela makes of
    its programs now.
    """
    compiled: dict[str, Compiled] = {}

    def run(name: str, inputs: list[Array]) -> list[Array]:
        if name not in compiled:
            if bundle.manifest.npu is not None:
                compiled[name] = read_npu_program(bundle, name)
            else:
                program = compose_function(plan, name)
                compiled[name] = compile_program(
                    program, program_bytes(bundle, plan, name), NpuOptions()
                ).compiled
        return run_command_stream(compiled[name], inputs)

    return run


_RUNNERS: dict[str, Callable[[Bundle, Plan], RunProgram]] = {
    "tosa-reference": _reference_model,
    "ethos-u85-sim": _interpreter,
    NUMPY_PROGRAMS: _numpy,
}


def load_program_kernels(bundle: Bundle, plan: Plan, target: str) -> ProgramKernels:
    """The programs of a bundle, run by one of PROGRAM_TARGETS. TargetError if what runs them is not
    installed.
    """
    return ProgramKernels(plan, _RUNNERS[target](bundle, plan))
