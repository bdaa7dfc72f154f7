# SPDX-License-Identifier: Apache-2.0
"""lower_functions: a graph of one-kernel calls becomes kernel calls on planned memory.

before:  xq: gse8[128,576] = quantise(x, bits=8)
after:   kernel quantise_3(x.m, x.e, xq.m, xq.d, xq.e), with xq.m at byte 4096 of the scratch region

Values end here: from now on there are tensors, a mantissa and an exponent each with a place of its
own. No data moves for a view. Equal ops on equal shapes are one kernel, whatever function calls
them.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from gsqc.bundle.plan import (
    FunctionPlan,
    KernelPlan,
    Reference,
    TensorPlan,
    encode_value,
    tensor_names,
)
from gsqc.graph.function import Function, Node, results_of, value_of
from gsqc.numerics.formats import flatten, to_spec
from gsqc.numerics.operators.trace import Operator
from gsqc.numerics.ops.registry import Kind, Op, trace
from gsqc.passes.plan_memory import lifetimes, plan_memory
from gsqc.passes.plan_properties import LOWERED
from gsqc.passes.properties import CLIPPING_ADDED, HOISTED, UPDATES_ADDED
from gsqc.passes.step import KernelTable, Step, graph_pass


class _Kernels:
    """Adds kernels to a table; equal ops on equal shapes get one name."""

    def __init__(self, table: KernelTable) -> None:
        self.table = table
        self._names: dict[str, str] = {}

    def name(self, node: Node) -> str:
        """The name of the kernel that a call runs."""
        operation, attributes = node.target, dict(node.kwargs)
        assert isinstance(operation, Op)
        values = [to_spec(value_of(a)) for a in node.args]  # type: ignore[arg-type]
        inputs = [encode_value(v) for v in values]
        # A kernel is known by what it computes. So blocks, forward and backward share code, and its
        # size does not grow with the number of calls.
        key = repr((operation.name, sorted(attributes.items()), inputs))
        if key not in self._names:
            name = f"{operation.name}_{len(self.table.plans)}"
            recorded, _ = trace(operation, values, attributes)
            counts = Counter(operator.operator for operator in recorded.live_nodes())
            self.table.plans[name] = KernelPlan(operation.name, attributes, inputs, dict(counts))
            self.table.traces[name], self.table.kinds[name] = recorded, operation.kind
            self._names[key] = name
        return self._names[key]


def _origin(operator: Operator) -> tuple[int, int]:
    """The input that a view's result is part of, and the element at which it begins."""
    # The recorded operators say what a view does, so no list of the ops that are views is needed.
    offset = 0
    while operator.operator != "input":
        source = operator.args[0]
        if operator.operator == "slice":
            start = operator.attributes["start"]
            # Whole leading rows only: anything else would not be one run of memory.
            assert not any(start[1:]) and operator.shape[1:] == source.shape[1:], (
                "a view is contiguous"
            )
            offset += start[0] * math.prod(source.shape[1:])
        else:
            assert operator.operator == "reshape", f"{operator.operator} is no view"
        operator = source
    return operator.attributes["index"], offset


class _FunctionLowering:
    def __init__(self, function: Function, kernels: _Kernels) -> None:
        self.function, self.kernels = function, kernels
        self.plan = FunctionPlan()
        self.references: dict[Node, list[Reference]] = {}
        self.specs: dict[str, TensorPlan] = {}

    def _define(self, node: Node, name: str) -> None:
        specs = flatten(value_of(node))
        names = tensor_names(name, value_of(node))
        self.references[node] = [
            Reference(n, 0, math.prod(s.shape)) for n, s in zip(names, specs, strict=True)
        ]
        for n, s in zip(names, specs, strict=True):
            self.specs[n] = TensorPlan(s.dtype, math.prod(s.shape))

    def _view(self, node: Node) -> None:
        assert isinstance(node.target, Op)
        operands: Any = node.args
        sources = [r for a in operands for r in self.references[a]]
        recorded, _ = trace(node.target, [value_of(a) for a in operands], dict(node.kwargs))
        parts = []
        for out in recorded.outputs:
            index, offset = _origin(out)
            source = sources[index]
            parts.append(Reference(source.name, source.offset + offset, math.prod(out.shape)))
        self.references[node] = parts

    def _call(self, node: Node) -> None:
        inputs = [r for a in node.args for r in self.references[a]]  # type: ignore[index]
        outputs: list[Reference] = []
        values = value_of(node) if isinstance(value_of(node), tuple) else (value_of(node),)
        for k, (part, value) in enumerate(zip(results_of(node), values, strict=True)):
            if part is None:
                # A kernel writes all its results, so one that nobody reads needs a place as well.
                names = tensor_names(f"{node.name}_unused{k}", value)
                for name, spec in zip(names, flatten(value), strict=True):
                    self.specs[name] = TensorPlan(spec.dtype, math.prod(spec.shape))
                    outputs.append(Reference(name, 0, math.prod(spec.shape)))
            else:
                self._define(part, part.name)
                outputs += self.references[part]
        self.plan.calls.append((self.kernels.name(node), inputs + outputs))

    def run(self) -> FunctionPlan:
        for node in self.function.placeholders.values():
            self._define(node, node.name)
        # Defined so far are the inputs. The caller places them, and no call writes to them.
        ports = set(self.specs)
        for node in self.function.calls():
            assert isinstance(node.target, Op)
            if node.target.kind is Kind.VIEW:
                self._view(node)
            else:
                self._call(node)
        renamed = self._name_outputs(ports)
        self._place(ports | set(renamed.values()), renamed)
        return self.plan

    def _name_outputs(self, ports: set[str]) -> dict[str, str]:
        """Results are written straight to the function's output ports."""
        # No copy at the end. In return a result must be a whole tensor that a call writes.
        renamed: dict[str, str] = {}
        for name, node in self.function.results.items():
            for port, reference in zip(
                tensor_names(name, value_of(node)), self.references[node], strict=True
            ):
                whole = (
                    reference.offset == 0 and reference.count == self.specs[reference.name].count
                )
                assert whole and reference.name not in ports and reference.name not in renamed, (
                    f"{self.function.name}: output {port} is an input, a part, or given twice"
                )
                renamed[reference.name] = port
        return renamed

    def _place(self, ports: set[str], renamed: dict[str, str]) -> None:
        specs = {renamed.get(n, n): s for n, s in self.specs.items()}
        calls = [
            (
                kernel,
                [Reference(renamed.get(r.name, r.name), r.offset, r.count) for r in references],
            )
            for kernel, references in self.plan.calls
        ]
        sizes = {n: s.size_bytes for n, s in specs.items() if n not in ports}
        inner = lifetimes(sizes, ([r.name for r in references] for _, references in calls))
        offsets, self.plan.scratch_bytes = plan_memory(inner)
        self.plan.calls = calls
        self.plan.ports = {n: specs[n] for n in sorted(ports)}
        self.plan.scratch = {
            t.name: TensorPlan(specs[t.name].dtype, specs[t.name].count, offsets[t.name])
            for t in inner
        }


@graph_pass(requires=(HOISTED, UPDATES_ADDED, CLIPPING_ADDED), ensures=(LOWERED,))
def lower_functions(step: Step) -> Step:
    """Plan every function; their kernels are those of the step."""
    kernels = _Kernels(step.kernels)
    for name, function in step.functions.items():
        step.plan.functions[name] = _FunctionLowering(function, kernels).run()
    step.plan.kernels = step.kernels.plans
    return step
