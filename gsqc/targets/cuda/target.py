# SPDX-License-Identifier: Apache-2.0
"""The target cuda: NVIDIA GPUs."""

from __future__ import annotations

from dataclasses import replace

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import TargetPart
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import TargetError
from gsqc.numerics.ops.registry import Case, Op
from gsqc.targets.cuda import CUDA
from gsqc.targets.interface import Code, CodeJob, Kernels, Target
from gsqc.targets.kernels import kernel_of


class CudaTarget(Target):
    """Kernels as CUDA C, which nvcc compiles; the machine's driver starts them."""

    name = CUDA
    description = "NVIDIA GPUs, sm_80 and newer, through nvcc"

    def require(self, *, runner: bool = False) -> None:
        """nvcc: the GPU itself is not needed to compile."""
        from gsqc.targets.cuda.bundle_code import require_nvcc

        super().require(runner=runner)
        require_nvcc()

    def add_code(self, bundle: BundleWriter, job: CodeJob) -> Code:
        """A fat binary, and how each of its kernels is started."""
        from gsqc.targets.cuda.bundle_code import add_cuda_code

        job.progress(f"compiling {len(job.plan.kernels)} kernels")
        code_bytes = add_cuda_code(bundle, self.code_file(""), job.plan)
        return Code(replace(self.entry(), code_bytes=code_bytes))

    def lower(self, operation: Op, case: Case) -> None:
        """Write the op's CUDA C."""
        from gsqc.targets.cuda.compile import cuda_source

        cuda_source([kernel_of("op", operation, case.values, case.attributes)[0]])

    def entry(self) -> TargetPart:
        """Any CPU may have a GPU."""
        return TargetPart("nvptx64-nvidia-cuda")

    def refusal(self, entry: TargetPart) -> TargetError | None:
        """What the machine's driver says."""
        from gsqc.targets.cuda.driver import CudaDriver

        # Opening the driver is the only sure way to know: a library without a GPU is common.
        try:
            CudaDriver()
        except TargetError as error:
            return error
        return None

    def load(self, bundle: Bundle, plan: Plan) -> Kernels:
        """The fat binary, on the GPU."""
        from gsqc.targets.cuda.bundle_code import BINARY, LAUNCHES
        from gsqc.targets.cuda.kernels import CudaKernels

        binary, launches = (bundle.read(self.code_file(name)) for name in (BINARY, LAUNCHES))
        return CudaKernels(binary, launches)


TARGETS = (CudaTarget(),)
