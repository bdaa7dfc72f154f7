# SPDX-License-Identifier: Apache-2.0
"""What an op is: a function over the operator builder, a kind, a gradient rule and test cases."""

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

    ROW     one loop nest: element-wise operators and reductions inside a row. Leading dimensions
            only broadcast.
    LAYOUT  index maps (transpose, slice, concat, gather, pad) and element-wise operators, without
            reductions
    MATMUL  a hand-scheduled kernel: the exact matmul of GSE operands
    VIEW    no code: the same memory in another shape
    GRAPH   calls of other ops, which expand_composites puts in its place
    """

    ROW = "row"
    LAYOUT = "layout"
    MATMUL = "matmul"
    VIEW = "view"
    GRAPH = "graph"


@dataclass(frozen=True, eq=False)
class Op:
    """An op.

    function     function(builder, *values, **attributes) is its whole meaning
    composition  composition(calls, *values, **attributes) gives the meaning of a GRAPH op in calls
                 of other ops
    gradient     its gradient rule, if it has one (`define_gradient`)
    """

    name: str
    kind: Kind
    function: Callable[..., Value]
    composition: Callable[..., Any] | None = None
    gradient: list[Callable[..., Any]] = field(default_factory=list)

    @property
    def __name__(self) -> str:
        """The op's name, as FX asks a function for it."""
        return self.name

    def __call__(self, *args: Any, **attributes: Any) -> Any:
        """TypeError. FX wants something callable, but an op is not called by itself."""
        raise TypeError(f"{self.name} is called through a builder or a graph")

    def define_gradient(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: `rule(g, call, *d_results)` gives a gradient or None for each of `call.args`.

        g      adds calls to the backward graph: g.call(op, *values, **attributes)
        call   the forward call: its args, results, attributes, and `needs`, which says for each
               argument whether a gradient is wanted
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
    """What a composition is written against. It evaluates ops, or adds them to a graph."""

    def __call__(self, operation: Op, *values: Any, **attributes: Any) -> Any:
        """The op's result, or a tuple of several."""

    def type_of(self, value: Any) -> Value:
        """The structure and the shapes of a value."""


@dataclass(frozen=True)
class BuilderCalls:
    """Calls that evaluate, or record, with an operator builder."""

    builder: Builder

    def __call__(self, operation: Op, *values: Any, **attributes: Any) -> Any:
        """The op's function on the values."""
        return operation.function(self.builder, *values, **attributes)

    def type_of(self, value: Any) -> Value:
        """The value itself: its tensors know their shapes."""
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
    """The golden result of an op: values of numpy arrays. AssertionError on overflow."""
    b = NumpyBuilder()
    results = operation.function(b, *(map_tensors(v, b.tensor) for v in values), **attributes)
    return map_tensors(results, lambda t: t.data)


def trace(operation: Op, values: list[Value], attributes: dict[str, Any]) -> tuple[Trace, Value]:
    """The program of an op on values of `Spec`, and the specs of its results."""
    b = TraceBuilder()
    inputs = [map_tensors(v, lambda s: b.input(s.shape, s.dtype)) for v in values]
    results = operation.function(b, *inputs, **attributes)
    map_tensors(results, lambda t: b.output(t))
    return b.trace, to_spec(results)


@dataclass(frozen=True)
class Case:
    """A test case of an op: arrays as values, attributes, and a name that says what it tries."""

    name: str
    values: list[Value]
    attributes: dict[str, Any] = field(default_factory=dict)


CaseGenerator = Callable[[Any], Iterator[Case]]
CASES: dict[str, CaseGenerator] = {}


def cases(operation: Op) -> Callable[[CaseGenerator], CaseGenerator]:
    """Decorator: `generator(rng)` yields the op's cases: random, smallest, extreme and ragged."""

    def register(generator: CaseGenerator) -> CaseGenerator:
        CASES[operation.name] = generator
        return generator

    return register


def tensor_count(value: Value) -> int:
    """How many tensors a value holds."""
    count: list[Tensor] = []
    map_tensors(value, count.append)
    return len(count)
