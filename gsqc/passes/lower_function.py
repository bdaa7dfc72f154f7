# SPDX-License-Identifier: Apache-2.0
"""lower_function: a graph of one-kernel calls becomes kernel calls on planned memory.

before:  xq: gse8[128,576] = quantise(x, bits=8)
after:   kernel quantise_3(x.m, x.e, xq.m, xq.d, xq.e) with xq.m at byte 4096 of the scratch region

requires: expand_linear, share_repeated, hoist_constants      ensures: no data moves for a view
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
from gsqc.numerics.operators.trace import Node as Operator
from gsqc.numerics.operators.trace import Trace
from gsqc.numerics.ops.registry import Kind, Op, trace
from gsqc.passes.plan_memory import Lifetime, plan_memory


@dataclass
class KernelTable:
    """The kernels of a bundle: equal ops on equal shapes are one kernel."""

    plans: dict[str, KernelPlan] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def add(self, node: Node) -> str:
        """The name of the kernel that a call runs."""
        operation, attributes = node.target, dict(node.kwargs)
        assert isinstance(operation, Op)
        values = [to_spec(value_of(a)) for a in node.args]  # type: ignore[arg-type]
        inputs = [encode_value(v) for v in values]
        key = repr((operation.name, sorted(attributes.items()), inputs))
        if key not in self._names:
            name = f"{operation.name}_{len(self.plans)}"
            recorded, _ = trace(operation, values, attributes)
            counts: dict[str, int] = {}
            for operator in recorded.live_nodes():
                counts[operator.operator] = counts.get(operator.operator, 0) + 1
            self._names[key] = name
            self.plans[name] = KernelPlan(operation.name, attributes, inputs, counts)
            self.traces[name], self.kinds[name] = recorded, operation.kind
        return self._names[key]


def _origin(operator: Operator) -> tuple[int, int]:
    """The input that a view's result is part of, and the element at which it begins."""
    offset = 0
    while operator.operator != "input":
        source = operator.args[0]
        if operator.operator == "slice":
            start = operator.attributes["start"]
            assert not any(start[1:]) and operator.shape[1:] == source.shape[1:], (
                "a view is contiguous"
            )
            row = 1
            for n in source.shape[1:]:
                row *= n
            offset += start[0] * row
        else:
            assert operator.operator == "reshape", f"{operator.operator} is no view"
        operator = source
    return operator.attributes["index"], offset


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


class _FunctionLowering:
    def __init__(self, function: Function, table: KernelTable) -> None:
        self.function, self.table = function, table
        self.plan = FunctionPlan()
        self.references: dict[Node, list[Reference]] = {}
        self.specs: dict[str, TensorPlan] = {}

    def _define(self, node: Node, name: str) -> None:
        specs = flatten(value_of(node))
        names = tensor_names(name, value_of(node))
        self.references[node] = [
            Reference(n, 0, _count(s.shape)) for n, s in zip(names, specs, strict=True)
        ]
        for n, s in zip(names, specs, strict=True):
            self.specs[n] = TensorPlan(s.dtype, _count(s.shape))

    def _view(self, node: Node) -> None:
        assert isinstance(node.target, Op)
        sources = [r for a in node.args for r in self.references[a]]  # type: ignore[index]
        recorded, _ = trace(node.target, [value_of(a) for a in node.args], dict(node.kwargs))  # type: ignore[arg-type]
        parts = []
        for out in recorded.outputs:
            index, offset = _origin(out)
            source = sources[index]
            parts.append(Reference(source.name, source.offset + offset, _count(out.shape)))
        self.references[node] = parts

    def _call(self, node: Node) -> None:
        inputs = [r for a in node.args for r in self.references[a]]  # type: ignore[index]
        outputs: list[Reference] = []
        values = value_of(node) if isinstance(value_of(node), tuple) else (value_of(node),)
        for k, (part, value) in enumerate(zip(results_of(node), values, strict=True)):
            if part is None:
                names = tensor_names(f"{node.name}_unused{k}", value)
                for name, spec in zip(names, flatten(value), strict=True):
                    self.specs[name] = TensorPlan(spec.dtype, _count(spec.shape))
                    outputs.append(Reference(name, 0, _count(spec.shape)))
            else:
                self._define(part, part.name)
                outputs += self.references[part]
        self.plan.calls.append((self.table.add(node), inputs + outputs))

    def run(self) -> FunctionPlan:
        for node in self.function.placeholders.values():
            self._define(node, node.name)
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
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for k, (_, references) in enumerate(calls):
            for r in references:
                first.setdefault(r.name, k)
                last[r.name] = k
        inner = [n for n in first if n not in ports]
        offsets, self.plan.scratch_bytes = plan_memory(
            [Lifetime(n, specs[n].size_bytes, first[n], last[n]) for n in inner]
        )
        self.plan.calls = calls
        self.plan.ports = {n: specs[n] for n in sorted(ports)}
        self.plan.scratch = {
            n: TensorPlan(specs[n].dtype, specs[n].count, offsets[n]) for n in inner
        }


def lower_function(function: Function, table: KernelTable) -> FunctionPlan:
    """The function's plan; its kernels join `table`."""
    return _FunctionLowering(function, table).run()
