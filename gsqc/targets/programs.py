# SPDX-License-Identifier: Apache-2.0
"""Whole functions of a plan as programs. All kernels of block_forward, for example, become one
trace, in their order.

The plan holds every kernel's op, shapes and attributes, so a bundle's programs can be made from its
plan alone. A program's tensors are the function's ports in the plan's order: first those that it
reads, then those that it writes. A port has the shape in which its first kernel takes it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.bundle.plan import FunctionPlan, KernelPlan, Plan, Reference
from gsqc.numerics.formats import Spec, flatten, map_tensors
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.operators.trace import Operator, Trace, TraceBuilder
from gsqc.numerics.ops.registry import OPS


def port_directions(plan: Plan, name: str) -> tuple[list[str], list[str]]:
    """The ports that a function reads, and those that it writes, each in the plan's order."""
    function = plan.functions[name]
    written: set[str] = set()
    for kernel, references in function.calls:
        values, _ = plan.kernels[kernel].call()
        # A kernel's references are its inputs, then its outputs.
        written.update(r.name for r in references[len(flatten(tuple(values))) :])
    return [p for p in function.ports if p not in written], [
        p for p in function.ports if p in written
    ]


def program_plan(plan: Plan) -> Plan:
    """The plan with one call per function: its ports that are read, then those that are written."""
    functions = {}
    for name, function in plan.functions.items():
        # A program keeps nothing between calls, so it has no scratch memory in the plan.
        read, written = port_directions(plan, name)
        references = [Reference(port, 0, function.ports[port].count) for port in (*read, *written)]
        functions[name] = FunctionPlan(function.ports, {}, 0, [(name, references)])
    return replace(plan, functions=functions)


@dataclass
class Program:
    """A function as one trace: its ports by direction, and the operator at which each kernel
    begins.
    """

    name: str
    trace: Trace
    inputs: list[str]
    outputs: list[str]
    marks: list[tuple[int, str]]

    def kernel_of(self, node: Operator) -> str:
        """The name of the kernel that an operator was recorded for first."""
        # Operators are numbered in the order of recording, so a kernel's are one range.
        place = bisect_right(self.marks, node.id, key=lambda mark: mark[0]) - 1
        return self.marks[place][1] if place >= 0 else self.name


def _input_specs(kernel: KernelPlan) -> list[Spec]:
    values, _ = kernel.call()
    return flatten(tuple(values))


def _port_shape(plan: Plan, function: FunctionPlan, port: str) -> tuple[int, ...]:
    """The shape in which the first kernel that reads a port takes it.

    It has all rows, even if that kernel takes a part of them.
    """
    total = function.ports[port].count
    for kernel, references in function.calls:
        for spec, reference in zip(_input_specs(plan.kernels[kernel]), references, strict=False):
            if reference.name == port:
                row = math.prod(spec.shape[1:])
                whole = reference.count == total
                return spec.shape if whole or total % row else (total // row, *spec.shape[1:])
    # Nobody reads it: its shape does not matter.
    return (total,)


def _part(tensor: Tensor, reference: Reference, shape: Sequence[int]) -> Tensor:
    """The elements that a reference names, as a tensor of `shape`."""
    # A reshape moves nothing, and a slice is an operator: take the slice only where it is needed.
    if reference.count == math.prod(tensor.shape):
        return tensor.reshape(*shape)
    # Slices of whole rows keep the tensor's shape. Other parts are cut from the flat tensor.
    row = math.prod(tensor.shape[1:])
    if reference.offset % row or reference.count % row:
        tensor, row = tensor.reshape(math.prod(tensor.shape)), 1
    rest = tensor.shape[1:]
    zeros = (0,) * len(rest)
    rows = tensor.slice((reference.offset // row, *zeros), (reference.count // row, *rest))
    return rows.reshape(*shape)


def port_shapes(plan: Plan, name: str, ports: Sequence[str]) -> list[tuple[int, ...]]:
    """The shapes in which a function's program takes these ports."""
    function = plan.functions[name]
    return [_port_shape(plan, function, port) for port in ports]


def run_function(
    builder: Builder, plan: Plan, name: str, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Apply a function's kernels in order, with any builder. Gives every tensor of the function by
    name.
    """
    known = dict(inputs)
    for kernel, references in plan.functions[name].calls:
        if isinstance(builder, MarkingBuilder):
            builder.mark(kernel)
        _call(builder, plan.kernels[kernel], references, known)
    return known


class MarkingBuilder(TraceBuilder):
    """Records a function, and notes at which operator each of its kernels begins."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[int, str]] = []

    def mark(self, kernel: str) -> None:
        """The next operator is the first of this kernel."""
        self.marks.append((len(self.trace.nodes), kernel))


class Forms:
    """Which operators of a program a serialiser writes in another form of the same meaning.

    Here none. A target whose compiler gets some forms wrong overrides these methods.
    """

    def __init__(self, trace: Trace) -> None:
        """Look at the whole program first."""

    def masks(self, select: Operator) -> bool:
        """Whether a SELECT is written with bitwise operators."""
        return False

    def guards(self, reduce_max: Operator) -> bool:
        """Whether the operand of a REDUCE_MAX is copied first."""
        return False

    def copies(self, result: Operator) -> bool:
        """Whether a result of the program is copied before it is given."""
        return False


@dataclass(frozen=True)
class ProgramStyle:
    """How programs are recorded and written: with which builder, and which forms are avoided."""

    builder: type[MarkingBuilder] = MarkingBuilder
    forms: type[Forms] = Forms


def compose_function(
    plan: Plan, name: str, builder_class: type[MarkingBuilder] = MarkingBuilder
) -> Program:
    """The function as one program, recorded by a builder of this class."""
    function, builder = plan.functions[name], builder_class()
    inputs, outputs = port_directions(plan, name)
    shapes = port_shapes(plan, name, inputs)
    given = {
        p: builder.input(s, function.ports[p].dtype) for p, s in zip(inputs, shapes, strict=True)
    }
    known = run_function(builder, plan, name, given)
    builder.output(*(known[port] for port in outputs))
    return Program(name, builder.trace, inputs, outputs, builder.marks)


def _call(
    builder: Builder, kernel: KernelPlan, references: list[Reference], known: dict[str, Tensor]
) -> None:
    """Apply a kernel. Its results become known by the names that it writes."""
    values, attributes = kernel.call()
    # The references of a call are flat: the tensors of its inputs, then those of its results.
    remaining = iter(references)

    def take(spec: Spec) -> Tensor:
        reference = next(remaining)
        return _part(known[reference.name], reference, spec.shape)

    arguments = [map_tensors(value, take) for value in values]
    results = flatten(OPS[kernel.op].function(builder, *arguments, **attributes))
    for reference, result in zip(remaining, results, strict=True):
        known[reference.name] = result
