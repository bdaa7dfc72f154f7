# SPDX-License-Identifier: Apache-2.0
"""The walk over a row program, for every target: the phases, and the tasks of each.

`RowAnalysis` decides what is stored and in which phase each value is known. `RowWalk` declares the
memory, defines the scalars of the row and runs the tasks. A target supplies the loops: over vectors
on a CPU, over the threads of a block on a GPU.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import groupby

from gsqc.numerics.operators.trace import Operator
from gsqc.targets.analysis.broadcast import Index
from gsqc.targets.analysis.row_analysis import Task
from gsqc.targets.analysis.row_domains import REDUCTIONS
from gsqc.targets.analysis.row_values import Memory, Place, RowValues, Scope, Statement, Value

Reduce = Callable[[Operator, Value], None]
"""Adds an element of the operand to a reduction in progress."""


class RowWalk(RowValues):
    """Turns one trace into the statements for one row."""

    @abstractmethod
    def parameter(self, name: str, node: Operator) -> Place:
        """Declare an input or output of the kernel."""

    @abstractmethod
    def row_memory(self, name: str, node: Operator) -> Place:
        """Declare memory for a stored value of one row."""

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

    def statements(self) -> list[Statement]:
        """The statements for one row."""
        self._declare()
        last = max([*self.plan.phase.values(), *(t.phase for t in self.plan.tasks)], default=0)
        for phase in range(last + 1):
            self._define_scalars(phase)
            # Loops of one phase do not need each other's results. Tasks of one domain share a loop.
            tasks = [t for t in self.plan.tasks if t.phase == phase]
            tasks.sort(key=lambda t: -t.domain)
            for domain, group in groupby(tasks, key=lambda t: t.domain):
                self._run(list(group), domain)
        self._store_scalars()
        return self.row_scope.statements

    def _declare(self) -> None:
        """Say where each input, output and stored value lies."""
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
        """Run the tasks of one phase and domain."""
        # What this loop stores is not in memory yet, so the loop evaluates it.
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
