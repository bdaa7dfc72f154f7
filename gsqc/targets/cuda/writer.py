# SPDX-License-Identifier: Apache-2.0
"""What every kernel's source has: parameters, a launch, and lookup tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.analysis.table_data import c_initialiser, table_symbol
from gsqc.targets.cuda.expression import C_TYPES, C, operation


@dataclass(frozen=True)
class Launch:
    """How many blocks of how many threads a kernel is started with."""

    blocks: int
    threads: int


@dataclass(frozen=True)
class KernelSource:
    """A kernel as CUDA C, its launch, and the tables that it names (symbol -> entries)."""

    text: str
    launch: Launch
    tables: dict[str, tuple[int, ...]]


class Tables:
    """The tables of one kernel."""

    def __init__(self) -> None:
        """No tables yet."""
        self.entries: dict[str, tuple[int, ...]] = {}

    def apply(self, node: Operator, args: Sequence[C]) -> C:
        """An element-wise operator; a lookup's table is noted."""
        if node.operator != "table":
            return operation(node, args)
        symbol = table_symbol(node.attributes["entries"])
        self.entries[symbol] = node.attributes["entries"]
        return operation(node, args, symbol)


def tables_source(tables: dict[str, tuple[int, ...]]) -> str:
    """The tables' data."""
    # In global memory: the lanes of a warp look up different entries, which constant memory serves
    # one after the other.
    return "".join(
        f"__device__ const int {s}[] = {c_initialiser(e)};\n" for s, e in sorted(tables.items())
    )


def kernel_source(
    symbol: str, trace: Trace, launch: Launch, body: Sequence[str], tables: Tables
) -> KernelSource:
    """A function of flat arrays: input0, input1, … output0, …"""
    inputs = [f"const {C_TYPES[n.dtype]} *input{k}" for k, n in enumerate(trace.inputs)]
    outputs = [f"{C_TYPES[n.dtype]} *output{k}" for k, n in enumerate(trace.outputs)]
    # The bound on threads tells nvcc how many registers each of them may have.
    bounds = f'extern "C" __global__ void __launch_bounds__({launch.threads})'
    head = f"{symbol}({', '.join(inputs + outputs)}) {{"
    return KernelSource("\n".join([bounds, head, *indented(body), "}\n"]), launch, tables.entries)


def indented(lines: Sequence[str]) -> list[str]:
    """The lines, one level further in."""
    return [f"    {line}" for line in lines]
