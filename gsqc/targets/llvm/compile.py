# SPDX-License-Identifier: Apache-2.0
"""Kernels become one shared library: TIR, LLVM through TVM, and the C compiler as linker."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx

from gsqc.bundle.machine import default_threads
from gsqc.files.reading import read_file
from gsqc.files.writing import write_new
from gsqc.numerics.ops.registry import Kind
from gsqc.targets.kernels import Kernel
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.layout_program import write_layout_program
from gsqc.targets.llvm.matmul import write_matmul
from gsqc.targets.llvm.row_program import write_row_program
from gsqc.targets.llvm.sources import LIBRARY
from gsqc.targets.llvm.tables import Tables, tables_source
from gsqc.targets.tools import run_tool

PARTS = 8
"""Objects that LLVM makes of a bundle's kernels, on all cores: a fixed number, so that the library
is the same.
"""


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

    The writers leave nothing to simplify, vectorise or share, so only the passes that make a
    callable function run.
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


def _object(functions: dict[str, Any], cpu: CpuTarget, path: Path) -> Path:
    _build(functions, cpu).write_to_file(str(path))
    return path


def _text_bytes(library: Path) -> int:
    """The size of .text: `size -A` prints a line per section."""
    found = re.search(
        r"^\.text\s+(\d+)", run_tool(["size", "-A", str(library)], "measuring code"), re.MULTILINE
    )
    assert found, "a library has code"
    return int(found.group(1))


def _link(
    objects: Sequence[Path], tables: dict[str, tuple[int, ...]], cpu: CpuTarget, folder: Path
) -> bytes:
    source, library = folder / "tables.c", folder / "kernels.so"
    write_new(source, tables_source(tables))
    options = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-pthread", "-D_DEFAULT_SOURCE"]
    options += ["-Wl,--build-id=none", "-s"]
    sources = map(str, (*objects, source, *LIBRARY))
    run_tool([*cpu.compiler, *options, "-o", str(library), *sources], "linking")
    return read_file(library)


def compile_kernels(kernels: Sequence[Kernel], cpu: CpuTarget) -> CompiledCode:
    """Compile and link. TargetError if the C compiler is missing or fails."""
    functions: dict[str, Any] = {}
    tables: dict[str, tuple[int, ...]] = {}
    for kernel in kernels:
        assert kernel.name not in functions, kernel.name
        functions[kernel.name], used = lower_kernel(kernel, cpu)
        tables.update(used.entries)
    parts = [dict(list(functions.items())[k::PARTS]) for k in range(min(PARTS, len(functions)))]
    with (
        tempfile.TemporaryDirectory(prefix="gsqc-") as directory,
        ThreadPoolExecutor(default_threads()) as pool,
    ):
        folder = Path(directory)
        objects = list(
            pool.map(lambda k: _object(parts[k], cpu, folder / f"kernels{k}.o"), range(len(parts)))
        )
        library = _link(objects, tables, cpu, folder)
        return CompiledCode(library, _text_bytes(folder / "kernels.so"), cpu.triple, cpu.features)
