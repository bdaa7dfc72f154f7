# SPDX-License-Identifier: Apache-2.0
"""Kernels become one shared library: TIR, LLVM through TVM, and the C compiler as linker."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from gsqc.targets.llvm.kernel_cache import KernelCache, cache_folder, kernel_key
from gsqc.targets.llvm.layout_program import write_layout_program
from gsqc.targets.llvm.matmul import write_matmul
from gsqc.targets.llvm.row_program import write_row_program
from gsqc.targets.llvm.sources import LIBRARY
from gsqc.targets.llvm.tables import tables_source
from gsqc.targets.tools import run_tool


@dataclass(frozen=True)
class CompiledCode:
    """A linked shared library, the size of its code (.text), and what the machine must have."""

    library: bytes
    code_bytes: int
    triple: str
    features: tuple[str, ...]


def lower_kernel(kernel: Kernel, cpu: CpuTarget) -> Any:
    """The kernel as a TIR function."""
    if kernel.kind is Kind.ROW:
        return write_row_program(kernel.name, kernel.trace, cpu)
    if kernel.kind is Kind.LAYOUT:
        return write_layout_program(kernel.name, kernel.trace, cpu)
    assert kernel.kind is Kind.MATMUL, f"{kernel.name}: {kernel.kind} has no code"
    x_bits, w_bits = kernel.attributes["x_bits"], kernel.attributes["w_bits"]
    return write_matmul(kernel.name, kernel.trace, x_bits, w_bits, cpu)


def _target(cpu: CpuTarget) -> Any:
    options = {"kind": "llvm", "mtriple": cpu.triple, "mcpu": cpu.mcpu}
    return tvm.target.Target({**options, "mattr": list(cpu.mattr)} if cpu.mattr else options)


def _build(function: Any, cpu: CpuTarget) -> Any:
    """TVM's module for a function.

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
    module = tvm.ir.transform.Sequential(passes)(
        tvm.IRModule({function.attrs["global_symbol"]: function})
    )
    return tvm.get_global_func("target.build.llvm")(module, target)


def _object(function: Any, cpu: CpuTarget, path: Path) -> bytes:
    _build(function, cpu).write_to_file(str(path))
    return read_file(path)


def _text_bytes(library: Path) -> int:
    """The size of .text: `size -A` prints a line per section."""
    found = re.search(
        r"^\.text\s+(\d+)", run_tool(["size", "-A", str(library)], "measuring code"), re.MULTILINE
    )
    assert found, "a library has code"
    return int(found.group(1))


def _symbol(key: str) -> str:
    """The name of a kernel's function in its object, which bundles share."""
    return f"k{key[:32]}"


def _link(
    kernels: Sequence[Kernel], keys: Mapping[str, str], cpu: CpuTarget, folder: Path
) -> bytes:
    """keys  those of the kernels, by name"""
    source, names, library = (folder / name for name in ("tables.c", "names.ld", "kernels.so"))
    write_new(source, tables_source(kernel.trace for kernel in kernels))
    # A linker script: it gives the functions the names of the plan's kernels.
    lines = (f"__tvm_ffi_{name} = __tvm_ffi_{_symbol(key)};\n" for name, key in keys.items())
    write_new(names, "".join(lines))
    objects = [folder / f"{key}.o" for key in dict.fromkeys(keys.values())]
    options = ["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-pthread", "-D_DEFAULT_SOURCE"]
    options += ["-Wl,--build-id=none", "-s"]
    sources = map(str, (*objects, names, source, *LIBRARY))
    run_tool([*cpu.compiler, *options, "-o", str(library), *sources], "linking")
    return read_file(library)


def _add_objects(kernels: Mapping[str, Kernel], cpu: CpuTarget, folder: Path) -> None:
    """Write the object of each kernel to KEY.o: from the user's cache, or compiled on all cores."""
    known = KernelCache(cache_folder())
    missing = {}
    for key, kernel in kernels.items():
        if (found := known.get(key)) is None:
            missing[key] = lower_kernel(replace(kernel, name=_symbol(key)), cpu)
        else:
            write_new(folder / f"{key}.o", found)

    def compiled(key: str) -> None:
        known.put(key, _object(missing[key], cpu, folder / f"{key}.o"))

    with ThreadPoolExecutor(default_threads()) as pool:
        list(pool.map(compiled, missing))
    if missing:
        known.prune()


def compile_kernels(kernels: Sequence[Kernel], cpu: CpuTarget) -> CompiledCode:
    """Compile and link. TargetError if the C compiler is missing or fails."""
    keys = {kernel.name: kernel_key(kernel, cpu) for kernel in kernels}
    assert len(keys) == len(kernels), "kernels have different names"
    with tempfile.TemporaryDirectory(prefix="gsqc-") as directory:
        folder = Path(directory)
        _add_objects({keys[kernel.name]: kernel for kernel in kernels}, cpu, folder)
        library = _link(kernels, keys, cpu, folder)
        return CompiledCode(library, _text_bytes(folder / "kernels.so"), cpu.triple, cpu.features)
