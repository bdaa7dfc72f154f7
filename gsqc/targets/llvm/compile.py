# SPDX-License-Identifier: Apache-2.0
"""Kernels become one shared library: TIR, LLVM through TVM, and the C compiler as linker."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from gsqc.ops.registry import Kind
from gsqc.targets.kernels import Kernel
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.layout_program import write_layout_program
from gsqc.targets.llvm.matmul import write_matmul
from gsqc.targets.llvm.row_program import write_row_program
from gsqc.targets.llvm.tables import Tables, tables_source
from gsqc.targets.tools import run_tool


@dataclass(frozen=True)
class CompiledCode:
    """A linked shared library, the size of its code (.text), and what the machine must have."""

    library: bytes
    code_bytes: int
    triple: str
    features: tuple[str, ...]


def lower_kernel(kernel: Kernel, cpu: CpuTarget) -> tuple[Any, Tables]:
    """The kernel as a TIR function, and the tables that it reads."""
    if kernel.kind is Kind.ROW:
        return write_row_program(kernel.name, kernel.trace, cpu)
    if kernel.kind is Kind.LAYOUT:
        return write_layout_program(kernel.name, kernel.trace, cpu)
    assert kernel.kind is Kind.MATMUL, f"{kernel.name}: {kernel.kind} has no code"
    x_bits, w_bits = kernel.attributes["x_bits"], kernel.attributes["w_bits"]
    return write_matmul(kernel.name, kernel.trace, x_bits, w_bits, cpu), Tables()


def _target(cpu: CpuTarget) -> Any:
    options = {"kind": "llvm", "mtriple": cpu.triple, "mcpu": cpu.mcpu}
    return tvm.target.Target({**options, "mattr": list(cpu.mattr)} if cpu.mattr else options)


def _build(functions: dict[str, Any], cpu: CpuTarget) -> Any:
    """TVM's module for the functions.

    The writers leave nothing to simplify, vectorise or share, so only the passes that make a callable function run.
    """
    target = _target(cpu)
    passes = [
        tirx.transform.BindTarget(target.with_host(target)),
        tirx.transform.AnnotateEntryFunc(),
        tirx.transform.SplitHostDevice(),
        tirx.transform.MakePackedAPI(),
        tirx.transform.LowerTVMBuiltin(),
    ]
    module = tvm.ir.transform.Sequential(passes)(tvm.IRModule(functions))
    return tvm.get_global_func("target.build.llvm")(module, target)


def _text_bytes(library: Path) -> int:
    """The size of .text: `size -A` prints a line per section."""
    found = re.search(r"^\.text\s+(\d+)", run_tool(["size", "-A", str(library)], "measuring code"), re.MULTILINE)
    assert found, "a library has code"
    return int(found.group(1))


def _link(module: Any, tables: dict[str, tuple[int, ...]], cpu: CpuTarget) -> tuple[bytes, int]:
    with tempfile.TemporaryDirectory(prefix="gsqc-") as directory:
        folder = Path(directory)
        objects, source, library = folder / "kernels.o", folder / "tables.c", folder / "kernels.so"
        module.write_to_file(str(objects))
        source.write_text(tables_source(tables))
        options = ["-shared", "-fPIC", "-O1", "-Wl,--build-id=none", "-s"]
        run_tool([*cpu.compiler, *options, "-o", str(library), str(objects), str(source)], "linking")
        return library.read_bytes(), _text_bytes(library)


def compile_kernels(kernels: Sequence[Kernel], cpu: CpuTarget) -> CompiledCode:
    """Compile and link. TargetError if the C compiler is missing or fails."""
    functions: dict[str, Any] = {}
    tables: dict[str, tuple[int, ...]] = {}
    for kernel in kernels:
        assert kernel.name not in functions, kernel.name
        functions[kernel.name], used = lower_kernel(kernel, cpu)
        tables.update(used.entries)
    library, code_bytes = _link(_build(functions, cpu), tables, cpu)
    return CompiledCode(library, code_bytes, cpu.triple, cpu.features)
