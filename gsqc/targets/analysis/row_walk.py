# SPDX-License-Identifier: Apache-2.0
"""The walk over a row program, for every target: what is evaluated, loaded and stored, in order.

`RowAnalysis` decides what is stored and in which phase each value is known. `RowWalk` goes through
the phases and turns nodes into statements. A target supplies the expressions, the statements and
the loops: a vector loop on a CPU, the threads of a block on a GPU.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

from gsqc.numerics.operators.trace import Node, Trace
from gsqc.targets.analysis.broadcast import Index, broadcast_index
from gsqc.targets.analysis.row_analysis import REDUCTIONS, RowAnalysis, Task

Value = Any
"""One element, or the elements of a vector, in the target's own form."""
Statement = Any
Place = Any
"""What the target stores to: a buffer, or the name of an array."""
Reduce = Callable[[Node, Value], None]
"""Adds an element of the operand to a reduction in progress."""


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


class RowWalk(ABC):
    """Turns one trace into the statements for one row.

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

    # ----------------------------------------------------------------------------------------------
    # what a target supplies

    @abstractmethod
    def parameter(self, name: str, node: Node) -> Place:
        """Declare an input or output of the kernel."""

    @abstractmethod
    def row_memory(self, name: str, node: Node) -> Place:
        """Declare memory for a stored value of one row."""

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
    def apply(self, node: Node, args: list[Value]) -> Value:
        """An element-wise operator."""

    @abstractmethod
    def define(self, node: Node, value: Value, scope: Scope) -> Value:
        """Give a node's value a name, so that it is evaluated once."""

    @abstractmethod
    def store_at(self, place: Place, address: Index, value: Value, scope: Scope) -> None:
        """Store an element at a flat address."""

    @abstractmethod
    def split(self, index: Index, period: int, scope: Scope) -> tuple[Index, Index]:
        """(index // period, index % period)."""

    @abstractmethod
    def loop(self, tasks: list[Task], domain: int) -> list[Statement]:
        """Run tasks of one phase over `domain` > 1 elements.

        A reduction over the whole row becomes a scalar of `row_scope`. Others are stored.
        """

    def barrier(self) -> list[Statement]:
        """What makes the stores of a loop visible to the next one: nothing on one thread."""
        return []

    def once(self, statements: list[Statement]) -> list[Statement]:
        """Statements that one thread of the row must run: all of them on one thread."""
        return statements

    # ----------------------------------------------------------------------------------------------
    # the walk

    def statements(self) -> list[Statement]:
        """The statements for one row."""
        self._declare()
        last = max([*self.plan.phase.values(), *(t.phase for t in self.plan.tasks)], default=0)
        for phase in range(last + 1):
            self._define_scalars(phase)
            # No task needs another one of its phase, so those of one domain share a loop.
            tasks = [t for t in self.plan.tasks if t.phase == phase]
            tasks.sort(key=lambda t: -t.domain)
            for domain, group in groupby(tasks, key=lambda t: t.domain):
                self._run(list(group), domain)
        self._store_scalars()
        return self.row_scope.statements

    def _declare(self) -> None:
        for k, node in enumerate(self.trace.inputs):
            self.memory[node.id] = [Memory(self.parameter(f"input{k}", node), node.shape)]
        for k, node in enumerate(self.trace.outputs):
            # Two outputs may be reshapes of one node, which is then stored twice.
            memory = Memory(self.parameter(f"output{k}", node), node.shape)
            self.targets.setdefault(self.plan.outputs[k].id, []).append(memory)
        for node in self.plan.stored.values():
            # A stored value that is an output is read back from there: no memory of its own.
            if node.id not in self.targets:
                place = self.row_memory(f"stored{node.id}", node)
                self.targets[node.id] = [Memory(place, None)]
            self.memory[node.id] = self.targets[node.id]

    def _define_scalars(self, phase: int) -> None:
        """Define the scalars that are known in a phase, outside of every loop."""
        for node in self.plan.nodes:
            scalar = self.plan.domain(node) == 1 and node.operator not in REDUCTIONS
            if scalar and self.plan.phase[node.id] == phase:
                self.value(node, self.zero, self.row_scope)

    def _run(self, tasks: list[Task], domain: int) -> None:
        self.current = {t.target.id for t in tasks if t.source is t.target}
        if domain > 1:
            self.row_scope.statements += self.loop(tasks, domain)
        else:
            for task in tasks:
                self._store_task(task, self.zero, self.row_scope)
        self.current = set()
        self.row_scope.statements += self.barrier()

    def _store_scalars(self) -> None:
        """Store the outputs of one element, which no task does."""
        stores = Scope()
        for node in self.plan.outputs:
            if self.plan.domain(node) == 1 and node.id in self.targets:
                self.store(node, self.zero, self.value(node, self.zero, self.row_scope), stores)
                del self.targets[node.id]
        if stores.statements:
            self.row_scope.statements += self.once(stores.statements)

    def run_tasks(self, tasks: list[Task], index: Index, scope: Scope, reduce: Reduce) -> None:
        """One turn of a loop: evaluate element `index` of what the tasks need, then do them."""
        for node in self.plan.evaluation_order(tasks):
            self.value(node, index, scope)
        for task in tasks:
            if task.reduces:
                reduce(task.source, self.value(task.source.args[0], index, scope))
            else:
                self._store_task(task, index, scope)

    def _store_task(self, task: Task, index: Index, scope: Scope) -> None:
        self.store(task.target, index + task.offset, self.value(task.source, index, scope), scope)

    def store(self, target: Node, index: Index, value: Value, scope: Scope) -> None:
        """Store an element of a node's row wherever the node lies."""
        for memory in self.targets[target.id]:
            self.store_at(memory.place, self._address(memory, index), value, scope)

    # ----------------------------------------------------------------------------------------------
    # values

    def value(self, node: Node, index: Index, scope: Scope) -> Value:
        """Element `index` of a node's row, evaluated once per scope.

        A scalar is the same at every index and belongs to the row's scope.
        """
        node = self.plan.alias(node)
        if node.operator == "const":
            return self.constant(node.attributes["value"])
        if self.plan.domain(node) == 1:
            index, scope = self.zero, self.row_scope
        key = (node.id, index)
        if key not in scope.known:
            scope.known[key] = self.define(node, self._evaluate(node, index, scope), scope)
        return scope.known[key]

    def _evaluate(self, node: Node, index: Index, scope: Scope) -> Value:
        if node.operator == "iota":
            inside = node.attributes["axis"] >= self.plan.rank
            return self.index_value(index if inside else self._row_of(node.shape))
        if node.operator == "input" or (node.id in self.memory and node.id not in self.current):
            memory = self.memory[node.id][0]
            return self.load(memory.place, self._address(memory, index))
        if node.operator == "slice":
            return self.value(node.args[0], index + self.plan.slice_start(node), scope)
        assert node.operator not in (*REDUCTIONS, "concat"), f"{node.operator} is not known yet"
        args = [self.value(a, self._index_of(node, a, index, scope), scope) for a in node.args]
        return self.apply(node, args)

    def _index_of(self, node: Node, argument: Node, index: Index, scope: Scope) -> Index:
        """Where an operand is read for element `index` of the node's row."""
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
