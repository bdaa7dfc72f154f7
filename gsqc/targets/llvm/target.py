# SPDX-License-Identifier: Apache-2.0
"""The CPU targets: one for each entry of `cpu.py`."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import KERNELS, RUNNER
from gsqc.bundle.machine import machine_cpu_flags
from gsqc.bundle.manifest import TargetPart
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import TargetError
from gsqc.numerics.ops.registry import Case, Op
from gsqc.targets.interface import Code, CodeJob, Kernels, Target
from gsqc.targets.kernels import Kernel, kernel_of
from gsqc.targets.llvm.cpu import CPU_TARGETS, CpuTarget

_SAME_MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}
"""What other systems call the machines that LLVM's triples name."""


def _this_machine() -> str:
    return _SAME_MACHINE.get(platform.machine(), platform.machine())


class LlvmTarget(Target):
    """A CPU: TVM writes TIR, LLVM compiles it, and the C compiler links it."""

    def __init__(self, cpu: CpuTarget, rank: int) -> None:
        self.cpu, self.name, self.native_rank = cpu, cpu.name, rank
        self.description = f"{cpu.triple}, LLVM {cpu.mcpu}, through TVM"

    def require(self, *, runner: bool = False) -> None:
        """TVM. The C compiler's absence is an error of its own, with the name of the one needed."""
        if importlib.util.find_spec("tvm") is None:
            raise TargetError(
                f"making code for {self.name} needs the compiler, which is not installed",
                "pip install 'gsqc[compiler]'",
            )

    def add_code(self, bundle: BundleWriter, job: CodeJob) -> Code:
        """The kernels' library, and gsqc-step where it is asked for or needed."""
        from gsqc.targets.llvm.bundle_code import add_kernels, add_runner

        job.progress(f"compiling {len(job.plan.kernels)} kernels")
        code_bytes = add_kernels(bundle, self.code_file(KERNELS), job.plan, self.cpu)
        # An emulator runs programs, not libraries: code for another machine comes with its own.
        if job.runner or self.cpu.machine != _this_machine():
            add_runner(bundle, self.code_file(RUNNER), self.cpu)
        return Code(replace(self.entry(), code_bytes=code_bytes))

    def lower(self, operation: Op, case: Case) -> None:
        """Write the op's TIR."""
        from gsqc.targets.llvm.compile import lower_kernel

        kernel, _ = kernel_of("op", operation, case.values, case.attributes)
        lower_kernel(kernel, self.cpu)

    def compile_here(self, kernels: Sequence[Kernel]) -> Kernels:
        """Compile, link, and load the library."""
        from gsqc.targets.llvm.run import load_kernels

        return load_kernels(kernels, self.cpu)

    def entry(self) -> TargetPart:
        """The kind of CPU and the features that the code uses."""
        cpu = self.cpu
        return TargetPart(cpu.triple, cpu.features, self.native_rank)

    def refusal(self, entry: TargetPart) -> TargetError | None:
        """The bundle's own entry counts: it was written by the gsqc that made the code."""
        # An emulated CPU counts as another: only `runner_command` may use it.
        hint = "run it on such a machine, or make code for this one: gsqc retarget BUNDLE"
        kind = entry.triple.split("-", 1)[0]
        if kind != _this_machine():
            return TargetError(f"{kind} code does not run on {platform.machine()}", hint)
        # A missing feature would end the process at the first instruction that needs it.
        flags = machine_cpu_flags()
        missing = [feature for feature in entry.cpu_features if feature not in flags]
        if missing:
            return TargetError(
                f"the CPU of this machine lacks {', '.join(missing)}",
                hint,
            )
        return None

    def load(self, bundle: Bundle, plan: Plan) -> Kernels:
        """The library, in this process."""
        from gsqc.targets.llvm.kernels import CompiledKernels

        kernels = CompiledKernels(bundle.read(self.code_file(KERNELS)))
        # As gsqc-step does: a kernel that nothing calls counts too.
        kernels.require(plan.kernels)
        return kernels

    def runner_command(self, bundle: Path) -> list[str] | None:
        """Code for another kind of CPU runs in gsqc-step under the CPU's emulator."""
        cpu = self.cpu
        if cpu.machine == _this_machine():
            return super().runner_command(bundle)
        if not cpu.emulator or shutil.which(cpu.emulator[0]) is None:
            raise TargetError(
                f"{cpu.name} code needs a {cpu.machine} machine or its emulator",
                "apt-get install qemu-user, or run gsqc check on such a machine",
            )
        return [*cpu.emulator, str(bundle / self.code_file(RUNNER)), "--target", cpu.name]


TARGETS = tuple(LlvmTarget(cpu, rank) for rank, cpu in enumerate(CPU_TARGETS.values(), 1))
"""Ordered so that a later one is faster, where it runs."""
