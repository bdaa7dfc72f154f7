# SPDX-License-Identifier: Apache-2.0
"""What an op is: a function over the operator builder, the kind of program it becomes, and its
gradient rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from gsqc.numerics.formats import Value, map_tensors, to_spec
from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.numerics.operators.trace import Trace, TraceBuilder


class Kind(StrEnum):
    """How a target lowers an op.

    ROW     element-wise operators and reductions inside a row (leading dimensions only broadcast): one loop nest
    LAYOUT  index maps and element-wise operators, no reduction: transpose, slice, concat, gather, pad
    MATMUL  the exact group-scaled matmul: a hand-scheduled kernel
    VIEW    a reshape: no code, the same memory
    GRAPH   a composition of other ops: expand_composites replaces it before code is generated
    """

    ROW = "row"
    LAYOUT = "layout"
    MATMUL = "matmul"
    VIEW = "view"
    GRAPH = "graph"


@dataclass(frozen=True, eq=False)
class Op:
    """An op: `function(builder, *values, **attributes)` is its whole meaning.

    `composition(calls, *values, **attributes)` gives the same meaning of a GRAPH op in calls of
    other ops.
    """

    name: str
    kind: Kind
    function: Callable[..., Value]
    composition: Callable[..., Any] | None = None
    gradient: list[Callable[..., Any]] = field(default_factory=list)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *args: Any, **attributes: Any) -> Any:
        raise TypeError(f"{self.name} is called through a builder or a graph")

    def define_gradient(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: `rule(g, call, *d_results)` gives one gradient (or None) for each value of
        `call.args`.

        `g` adds calls to the backward graph (`g.call(op, *values, **attributes)`); `call` has args,
        results, attributes and `needs`, which says for each argument whether a gradient is wanted.
        """
        self.gradient.append(rule)
        return rule


OPS: dict[str, Op] = {}


def op(kind: Kind) -> Callable[[Callable[..., Value]], Op]:
    """Decorator: register the function as the op of the same name."""

    def register(function: Callable[..., Value]) -> Op:
        name = function.__name__
        assert name not in OPS, name
        OPS[name] = Op(name, kind, function)
        return OPS[name]

    return register


class Calls(Protocol):
    """What a composition is written against: it evaluates the ops, or adds them to a graph."""

    def __call__(self, operation: Op, *values: Any, **attributes: Any) -> Any:
        """The op's result; a tuple if it has several."""

    def type_of(self, value: Any) -> Value:
        """The value's structure and shapes."""


@dataclass(frozen=True)
class BuilderCalls:
    """Calls that evaluate, or record, with an operator builder."""

    builder: Builder

    def __call__(self, operation: Op, *values: Any, **attributes: Any) -> Any:
        """The op's function on the values."""
        return operation.function(self.builder, *values, **attributes)

    def type_of(self, value: Any) -> Value:
        """A value of tensors is its own type."""
        return value


def composite(composition: Callable[..., Any]) -> Op:
    """Decorator: register a composition of other ops as the op of the same name."""

    def function(builder: Builder, *values: Value, **attributes: Any) -> Value:
        return composition(BuilderCalls(builder), *values, **attributes)

    name = composition.__name__
    assert name not in OPS, name
    OPS[name] = Op(name, Kind.GRAPH, function, composition)
    return OPS[name]


def evaluate(operation: Op, values: list[Value], attributes: dict[str, Any]) -> Value:
    """Run an op on numpy arrays: the golden result, arrays out."""
    b = NumpyBuilder()
    results = operation.function(b, *(map_tensors(v, b.tensor) for v in values), **attributes)
    return map_tensors(results, lambda t: t.data)


def trace(operation: Op, values: list[Value], attributes: dict[str, Any]) -> tuple[Trace, Value]:
    """Record an op on values of `Spec`: its program, and the specs of its results."""
    b = TraceBuilder()
    inputs = [map_tensors(v, lambda s: b.input(s.shape, s.dtype)) for v in values]
    results = operation.function(b, *inputs, **attributes)
    map_tensors(results, lambda t: b.output(t))
    return b.trace, to_spec(results)


@dataclass(frozen=True)
class Case:
    """A test case of an op: its values as arrays, its attributes, and a word that says what it
    exercises.
    """

    name: str
    values: list[Value]
    attributes: dict[str, Any] = field(default_factory=dict)


CaseGenerator = Callable[[Any], Iterator[Case]]
CASES: dict[str, CaseGenerator] = {}


def cases(operation: Op) -> Callable[[CaseGenerator], CaseGenerator]:
    """Decorator: `generator(rng)` yields the op's test cases: random, smallest, extreme and ragged."""

    def register(generator: CaseGenerator) -> CaseGenerator:
        CASES[operation.name] = generator
        return generator

    return register


def tensor_count(value: Value) -> int:
    """How many tensors a value holds."""
    count: list[Tensor] = []
    map_tensors(value, count.append)
    return len(count)
