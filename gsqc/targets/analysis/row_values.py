# SPDX-License-Identifier: Apache-2.0
"""The values of a row program, for every target: each is evaluated once per index, or loaded.

A target supplies the expressions and the statements: vectors on a CPU, C text on a GPU.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.analysis.broadcast import Index, broadcast_index
from gsqc.targets.analysis.row_analysis import RowAnalysis
from gsqc.targets.analysis.row_domains import REDUCTIONS

Value = Any
"""One element, or the elements of a vector, in the target's own form."""
Statement = Any
Place = Any
"""What the target stores to: a buffer, or the name of an array."""


@dataclass(frozen=True)
class Memory:
    """Where a value lies.

    A parameter holds `shape` for all rows. Memory of the row itself has the shape None.
    """

    place: Place
    shape: tuple[int, ...] | None


@dataclass
class Scope:
    """The statements of one loop body, and the values that they define."""

    statements: list[Statement] = field(default_factory=list)
    known: dict[tuple[int, Index], Value] = field(default_factory=dict)


class RowValues(ABC):
    """Evaluates, loads and stores the nodes of one trace.

    Scalars of the row are defined in `row_scope`, before the loops that read them. `memory` says
    where inputs and stored nodes are read, and `targets` where nodes are written. A node in
    `current` is stored by the present loop, which therefore evaluates it.
    """

    zero: Index
    row: Index
    """Which row this is. The subclass sets both."""

    def __init__(self, trace: Trace) -> None:
        """Analyse the trace."""
        self.trace, self.plan = trace, RowAnalysis(trace)
        self.row_scope = Scope()
        self.memory: dict[int, list[Memory]] = {}
        self.targets: dict[int, list[Memory]] = {}
        self.current: set[int] = set()
        self._rows: dict[tuple[int, ...], Index] = {}

    @abstractmethod
    def constant(self, value: int) -> Value:
        """A constant."""

    @abstractmethod
    def index_value(self, index: Index) -> Value:
        """An index as a value."""

    @abstractmethod
    def load(self, place: Place, address: Index) -> Value:
        """The element at a flat address."""

    @abstractmethod
    def apply(self, node: Operator, args: list[Value]) -> Value:
        """An element-wise operator."""

    @abstractmethod
    def define(self, node: Operator, value: Value, scope: Scope) -> Value:
        """Give a node's value a name, so that it is evaluated once."""

    @abstractmethod
    def store_at(self, place: Place, address: Index, value: Value, scope: Scope) -> None:
        """Store an element at a flat address."""

    @abstractmethod
    def split(self, index: Index, period: int, scope: Scope) -> tuple[Index, Index]:
        """(index // period, index % period)."""

    def value(self, node: Operator, index: Index, scope: Scope) -> Value:
        """Element `index` of a node's row, evaluated once per scope.

        A scalar is the same at every index and belongs to the row's scope.
        """
        node = self.plan.alias(node)
        if node.operator == "const":
            return self.constant(node.attributes["value"])
        # Whichever loop asks first, the scalar is defined before it, and known to all others.
        if self.plan.domain(node) == 1:
            index, scope = self.zero, self.row_scope
        key = (node.id, index)
        if key not in scope.known:
            scope.known[key] = self.define(node, self._evaluate(node, index, scope), scope)
        return scope.known[key]

    def _evaluate(self, node: Operator, index: Index, scope: Scope) -> Value:
        if node.operator == "iota":
            inside = node.attributes["axis"] >= self.plan.rank
            return self.index_value(index if inside else self._row_of(node.shape))
        if node.operator == "input" or (node.id in self.memory and node.id not in self.current):
            memory = self.memory[node.id][0]
            return self.load(memory.place, self._address(memory, index))
        # A slice has no loop or memory: its reader reads the operand, so many elements further on.
        if node.operator == "slice":
            return self.value(node.args[0], index + self.plan.slice_start(node), scope)
        assert node.operator not in (*REDUCTIONS, "concat"), f"{node.operator} is not known yet"
        return self.evaluate(node, index, scope)

    def evaluate(self, node: Operator, index: Index, scope: Scope) -> Value:
        """Element `index` of an operator's row, from its operands."""
        args = [self.value(a, self._index_of(node, a, index, scope), scope) for a in node.args]
        return self.apply(node, args)

    def _index_of(self, node: Operator, argument: Operator, index: Index, scope: Scope) -> Index:
        """Where an operand is read for element `index` of the node's row."""
        # Compared without the rows, which every address adds by itself.
        inner, own = node.shape[self.plan.rank :], argument.shape[self.plan.rank :]
        return index if inner == own else self._broadcast(inner, own, index, scope)

    def _address(self, memory: Memory, index: Index) -> Index:
        """The flat address of element `index` of the row."""
        if memory.shape is None:
            return index
        row_size = math.prod(memory.shape[self.plan.rank :])
        return self._row_of(memory.shape).scaled(row_size) + index

    def _row_of(self, shape: tuple[int, ...]) -> Index:
        """This row in a tensor whose leading dimensions broadcast against the program's."""
        lead = shape[: self.plan.rank]
        if lead not in self._rows:
            # The division is the same for all elements: it is done once, outside of the loops.
            self._rows[lead] = self._broadcast(self.plan.lead, lead, self.row, self.row_scope)
        return self._rows[lead]

    def _broadcast(
        self, shape: tuple[int, ...], source: tuple[int, ...], index: Index, scope: Scope
    ) -> Index:
        return broadcast_index(shape, source, index, partial(self.split, scope=scope), self.zero)

    def store(self, target: Operator, index: Index, value: Value, scope: Scope) -> None:
        """Store an element of a node's row wherever the node lies."""
        for memory in self.targets[target.id]:
            self.store_at(memory.place, self._address(memory, index), value, scope)
