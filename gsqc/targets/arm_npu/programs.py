# SPDX-License-Identifier: Apache-2.0
"""Whole functions of a plan as programs: all kernels of block_forward, one after the other, are one trace.

The plan holds every kernel's op, shapes and attributes, so a bundle's programs can be made, or made again, from its
plan alone. A program's tensors are the function's ports in the plan's order: first those it reads, then those it
writes. A port has the shape in which its first kernel takes it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import gsqc.ops.all  # noqa: F401  registers every op
from gsqc.formats import Spec, flatten, map_tensors
from gsqc.operators.builder import Tensor
from gsqc.operators.trace import Node, Trace, TraceBuilder
from gsqc.ops.registry import OPS
from gsqc.plan import FunctionPlan, KernelPlan, Plan, Reference


@dataclass
class Program:
    """A function as one trace: its ports by direction, and which kernel an operator comes from."""

    name: str
    trace: Trace
    inputs: list[str]
    outputs: list[str]
    _starts: list[int] = field(default_factory=list)
    _kernels: list[str] = field(default_factory=list)

    def kernel_of(self, node: Node) -> str:
        """The name of the kernel that an operator was recorded for first."""
        place = bisect_right(self._starts, node.id) - 1
        return self._kernels[place] if place >= 0 else self.name


def _input_specs(kernel: KernelPlan) -> list[Spec]:
    values, _ = kernel.call()
    return flatten(tuple(values))


def port_directions(plan: Plan, function: FunctionPlan) -> tuple[list[str], list[str]]:
    """The ports that a function reads, and those that it writes, each in order of name."""
    written: set[str] = set()
    for kernel, references in function.calls:
        count = len(_input_specs(plan.kernels[kernel]))
        written.update(r.name for r in references[count:])
    return [n for n in function.ports if n not in written], [n for n in function.ports if n in written]


def _port_shape(plan: Plan, function: FunctionPlan, port: str) -> tuple[int, ...]:
    """The shape in which the first kernel that reads a port takes it; a part of rows stands for all rows."""
    total = function.ports[port].count
    for kernel, references in function.calls:
        for spec, reference in zip(_input_specs(plan.kernels[kernel]), references, strict=False):
            if reference.name == port:
                row = math.prod(spec.shape[1:])
                whole = reference.count == total
                return spec.shape if whole or total % row else (total // row, *spec.shape[1:])
    return (total,)


def _part(tensor: Tensor, reference: Reference, shape: Sequence[int]) -> Tensor:
    """The elements that a reference names, as a tensor of `shape`."""
    if reference.count == math.prod(tensor.shape):
        return tensor.reshape(*shape)
    row = math.prod(tensor.shape[1:])
    if reference.offset % row or reference.count % row:
        tensor, row = tensor.reshape(math.prod(tensor.shape)), 1
    rest = tensor.shape[1:]
    zeros = (0,) * len(rest)
    rows = tensor.slice((reference.offset // row, *zeros), (reference.count // row, *rest))
    return rows.reshape(*shape)


def compose_function(plan: Plan, name: str) -> Program:
    """The function as one program."""
    function, builder = plan.functions[name], TraceBuilder()
    inputs, outputs = port_directions(plan, function)
    known: dict[str, Tensor] = {}
    for port in inputs:
        known[port] = builder.input(_port_shape(plan, function, port), function.ports[port].dtype)
    program = Program(name, builder.trace, inputs, outputs)
    for kernel, references in function.calls:
        program._starts.append(len(builder.trace.nodes))
        program._kernels.append(kernel)
        _call(builder, plan.kernels[kernel], references, known)
    builder.output(*(known[port] for port in outputs))
    return program


def _call(builder: TraceBuilder, kernel: KernelPlan, references: list[Reference], known: dict[str, Tensor]) -> None:
    """Record a kernel; its results become known by the names that it writes."""
    values, attributes = kernel.call()
    remaining = iter(references)

    def take(spec: Spec) -> Tensor:
        reference = next(remaining)
        return _part(known[reference.name], reference, spec.shape)

    arguments = [map_tensors(value, take) for value in values]
    results = flatten(OPS[kernel.op].function(builder, *arguments, **attributes))
    for reference, result in zip(remaining, results, strict=True):
        known[reference.name] = result
