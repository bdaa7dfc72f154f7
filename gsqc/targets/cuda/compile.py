# SPDX-License-Identifier: Apache-2.0
"""Kernels become one fat binary: CUDA C, and by nvcc code for sm_80 and sm_90 and PTX for what
comes later.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gsqc.files.reading import read_file
from gsqc.files.writing import write_new
from gsqc.numerics.ops.registry import Kind
from gsqc.targets.cuda.layout_kernel import write_layout_kernel
from gsqc.targets.cuda.matmul_kernel import write_matmul_kernel
from gsqc.targets.cuda.row_kernel import write_row_kernel
from gsqc.targets.cuda.writer import KernelSource, Launch, tables_source
from gsqc.targets.kernels import Kernel
from gsqc.targets.tools import run_tool

DEVICE = Path(__file__).parent / "device"
ARCHITECTURES = ("arch=compute_80,code=sm_80", "arch=compute_90,code=[sm_90,compute_90]")
INSTALL = "install the CUDA toolkit, 12.0 or newer, and put its bin folder into PATH"


@dataclass(frozen=True)
class CudaSource:
    """CUDA C of all kernels, and how each is started."""

    text: str
    launches: dict[str, Launch]


def _write(kernel: Kernel) -> KernelSource:
    if kernel.kind is Kind.ROW:
        return write_row_kernel(kernel.name, kernel.trace)
    if kernel.kind is Kind.LAYOUT:
        return write_layout_kernel(kernel.name, kernel.trace)
    assert kernel.kind is Kind.MATMUL, f"{kernel.name}: {kernel.kind} has no code"
    return write_matmul_kernel(
        kernel.name, kernel.trace, kernel.attributes["x_bits"], kernel.attributes["w_bits"]
    )


def cuda_source(
    kernels: Sequence[Kernel], instructions: Path = DEVICE / "instructions.cuh"
) -> CudaSource:
    """The source of kernels; `instructions` is the header of what CUDA C has no name for."""
    written = {kernel.name: _write(kernel) for kernel in kernels}
    assert len(written) == len(kernels), "a kernel's name occurs twice"
    tables = {symbol: entries for k in written.values() for symbol, entries in k.tables.items()}
    headers = [
        read_file(path).decode()
        for path in (instructions, DEVICE / "arithmetic.cuh", DEVICE / "matmul.cuh")
    ]
    text = "\n".join([*headers, tables_source(tables), *(k.text for k in written.values())])
    return CudaSource(text, {name: k.launch for name, k in written.items()})


def compile_cuda(source: CudaSource) -> bytes:
    """The fat binary. TargetError if nvcc is missing or fails."""
    with tempfile.TemporaryDirectory(prefix="gsqc-") as directory:
        folder = Path(directory)
        code, binary = folder / "kernels.cu", folder / "kernels.fatbin"
        write_new(code, source.text)
        options = [word for a in ARCHITECTURES for word in ("-gencode", a)]
        command = [
            "nvcc",
            "-std=c++17",
            "-O3",
            "-fatbin",
            "--threads",
            "0",
            *options,
            "-o",
            str(binary),
            str(code),
        ]
        run_tool(command, "compiling for cuda", install=INSTALL)
        return read_file(binary)
