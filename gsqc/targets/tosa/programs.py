# SPDX-License-Identifier: Apache-2.0
"""Whole functions of a plan as programs: all kernels of block_forward, one after the other, are one
trace.

The plan holds every kernel's op, shapes and attributes, so a bundle's programs can be made, or made
again, from its plan alone. A program's tensors are the function's ports in the plan's order: first
those it reads, then those it writes. A port has the shape in which its first kernel takes it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.bundle.manifest import ProgramEntry
from gsqc.bundle.plan import FunctionPlan, KernelPlan, Plan, Reference
from gsqc.bundle.writer import BundleWriter
from gsqc.numerics.formats import Spec, flatten, map_tensors
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.operators.trace import Node, Trace, TraceBuilder
from gsqc.numerics.ops.registry import OPS
from gsqc.targets.programs import port_directions
from gsqc.targets.tosa.serialise import serialise_with_origins


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

    def kernel_of(self, node: Node) -> str:
        """The name of the kernel that an operator was recorded for first."""
        place = bisect_right(self.marks, node.id, key=lambda mark: mark[0]) - 1
        return self.marks[place][1] if place >= 0 else self.name


def _input_specs(kernel: KernelPlan) -> list[Spec]:
    values, _ = kernel.call()
    return flatten(tuple(values))


def _port_shape(plan: Plan, function: FunctionPlan, port: str) -> tuple[int, ...]:
    """The shape in which the first kernel that reads a port takes it; a part of rows stands for all
    rows.
    """
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


def port_shapes(plan: Plan, name: str, ports: Sequence[str]) -> list[tuple[int, ...]]:
    """The shapes in which a function's program takes these ports."""
    function = plan.functions[name]
    return [_port_shape(plan, function, port) for port in ports]


def run_function(
    builder: Builder, plan: Plan, name: str, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Apply a function's kernels, one after the other, with any builder; every tensor of the
    function by name.
    """
    known = dict(inputs)
    for kernel, references in plan.functions[name].calls:
        if isinstance(builder, _MarkingBuilder):
            builder.mark(kernel)
        _call(builder, plan.kernels[kernel], references, known)
    return known


class _MarkingBuilder(TraceBuilder):
    """Notes at which operator each kernel begins.

    Records a cast beside the operator that works on the int32 tensor, in that one's shape: Vela
    makes one pass over memory of operators in a row that have one shape, and what it writes then is
    the narrow tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[int, str]] = []

    def mark(self, kernel: str) -> None:
        self.marks.append((len(self.trace.nodes), kernel))

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        if x.data.operator == "cast" and x.dtype == "int32":
            return self.cast(self.reshape(self._tensor(x.data.args[0]), shape), "int32")
        if (
            x.data.operator == "slice"
            and x.shape[1:] == x.data.args[0].shape[1:]
            and shape[0] == x.shape[0]
        ):
            whole = self._tensor(x.data.args[0])
            zeros = (0,) * (len(shape) - 1)
            rows = self.reshape(whole, (whole.shape[0], *shape[1:]))
            return self.slice(rows, (x.data.attributes["start"][0], *zeros), shape)
        return super().reshape(x, shape)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        if x.data.operator == "reshape" and x.dtype == "int32":
            return super().reshape(self.cast(self._tensor(x.data.args[0]), dtype), x.shape)
        return super().cast(x, dtype)


def compose_function(plan: Plan, name: str) -> Program:
    """The function as one program."""
    function, builder = plan.functions[name], _MarkingBuilder()
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
    """Apply a kernel; its results become known by the names that it writes."""
    values, attributes = kernel.call()
    remaining = iter(references)

    def take(spec: Spec) -> Tensor:
        reference = next(remaining)
        return _part(known[reference.name], reference, spec.shape)

    arguments = [map_tensors(value, take) for value in values]
    results = flatten(OPS[kernel.op].function(builder, *arguments, **attributes))
    for reference, result in zip(remaining, results, strict=True):
        known[reference.name] = result


@dataclass
class SerialisedProgram:
    """A program with its TOSA file, and the recorded operator that each tensor in it comes from, by
    name.
    """

    program: Program
    tosa: bytes
    origins: dict[str, Node]


def serialise_functions(plan: Plan) -> dict[str, SerialisedProgram]:
    """Every function of a plan as a TOSA program. TargetError if tosa-tools is not installed."""
    programs = {name: compose_function(plan, name) for name in plan.functions}
    return {
        name: SerialisedProgram(p, *serialise_with_origins(p.trace)) for name, p in programs.items()
    }


def program_file(name: str) -> str:
    """Where a bundle keeps the TOSA program of a function."""
    return f"programs/{name}.tosa"


def add_programs(bundle: BundleWriter, programs: dict[str, SerialisedProgram]) -> dict[str, Any]:
    """Add the TOSA files; returns the manifest's table of their inputs and outputs, in the
    programs' order.
    """
    for name, serialised in programs.items():
        bundle.add_bytes(program_file(name), serialised.tosa)
    table = {
        name: ProgramEntry(tuple(s.program.inputs), tuple(s.program.outputs), len(s.origins))
        for name, s in programs.items()
    }
    return {"programs": table}
