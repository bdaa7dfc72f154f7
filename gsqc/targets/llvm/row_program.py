# SPDX-License-Identifier: Apache-2.0
"""Row programs: an op whose values stay inside a row becomes one loop over rows, with few loops
over its elements.

Loops run in vectors; where the lanes of a vector do not stay together (a ragged length, an odd
slice) the same loop is written for single elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from gsqc.numerics.operators.trace import Node, Trace
from gsqc.targets.analysis.ranges import Ranges
from gsqc.targets.analysis.row_analysis import REDUCTIONS, RowAnalysis, Task
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import Buffer, Stmt, allocate, function, new_buffer, row_chunks, store
from gsqc.targets.llvm.index import ZERO, Axis
from gsqc.targets.llvm.operators import Operators
from gsqc.targets.llvm.row_loops import LoopWriter
from gsqc.targets.llvm.row_values import Memory, RowValues, Scope
from gsqc.targets.llvm.tables import Tables

PARALLEL_WORK = 1 << 18
"""Element evaluations from which a kernel is worth the start of the thread pool."""


class RowProgram:
    """Writes the kernel of one trace."""

    def __init__(self, symbol: str, trace: Trace, cpu: CpuTarget) -> None:
        self.symbol, self.trace, self.cpu = symbol, trace, cpu
        self.plan = RowAnalysis(trace)
        self.tables = Tables()
        self.parameters: list[Buffer] = []
        self.allocations: list[Stmt] = []
        self.row = Axis("row", max(self.plan.rows, 1))
        scope = Scope()
        operators = Operators(cpu, Ranges(trace.live_nodes() + self._dead_inputs()), self.tables)
        self.values = RowValues(self.plan, operators, self.row, scope)
        self.loops = LoopWriter(self.plan, self.values, self.allocations, cpu.lanes)

    def _dead_inputs(self) -> list[Node]:
        live = {n.id for n in self.trace.live_nodes()}
        return [n for n in self.trace.inputs if n.id not in live]

    def _add_parameters(self) -> None:
        for k, node in enumerate(self.trace.inputs):
            buffer = new_buffer(f"input{k}", _count(node), node.dtype)
            self.parameters.append(buffer)
            self.values.memory[node.id] = [Memory(buffer, node.shape)]
        for k, node in enumerate(self.trace.outputs):
            buffer = new_buffer(f"output{k}", _count(node), node.dtype)
            self.parameters.append(buffer)
            self.values.targets.setdefault(self.plan.outputs[k].id, []).append(
                Memory(buffer, node.shape)
            )

    def _add_memory(self) -> None:
        """Stored values live in their output, or else in memory of the thread."""
        for node in self.plan.stored.values():
            memory = self.values.targets.get(node.id)
            if memory is None:
                buffer = new_buffer(f"stored{node.id}", self.plan.domain(node), node.dtype)
                self.allocations.append(allocate(buffer))
                memory = [Memory(buffer, None)]
                self.values.targets[node.id] = memory
            self.values.memory[node.id] = memory

    def _scalars(self, phase: int) -> None:
        """Evaluate the scalars of the row that are known in this phase."""
        for node in self.plan.nodes:
            scalar = self.plan.domain(node) == 1 and node.operator not in REDUCTIONS
            if scalar and self.plan.phase[node.id] == phase:
                self.values.value(node, ZERO, self.values.row_scope)

    def _body(self) -> list[Stmt]:
        phases = max([*self.plan.phase.values(), *(t.phase for t in self.plan.tasks)], default=0)
        for phase in range(phases + 1):
            self._scalars(phase)
            tasks = sorted(
                (t for t in self.plan.tasks if t.phase == phase), key=lambda t: -t.domain
            )
            for domain, group in groupby(tasks, key=lambda t: t.domain):
                self._loop(list(group), domain)
        for node in self.plan.outputs:
            if self.plan.domain(node) == 1:
                self._store_scalar(node)
        return self.values.row_scope.statements

    def _loop(self, tasks: list[Task], domain: int) -> None:
        if domain == 1:
            for task in tasks:
                self.values.store(task, ZERO, self.values.row_scope)
        else:
            self.values.row_scope.statements += self.loops.write(tasks, domain)

    def _store_scalar(self, node: Node) -> None:
        scope = self.values.row_scope
        value = self.values.value(node, ZERO, scope)
        for memory in self.values.targets.pop(node.id, []):
            scope.statements.append(
                store(memory.buffer, self.values.address(memory, ZERO).expr(), value.expr)
            )

    def write(self) -> Any:
        """The kernel as a PrimFunc: flat inputs, then flat outputs."""
        self._add_parameters()
        self._add_memory()
        body = self._body()
        work = self.plan.rows * sum(self.plan.domain(n) for n in self.plan.nodes)
        parallel = self.plan.rows > 1 and work >= PARALLEL_WORK
        rows = row_chunks(self.plan.rows, body, self.row.var, self.allocations, parallel)
        return function(self.symbol, self.parameters, [*self.tables.setup, rows])


def _count(node: Node) -> int:
    count = 1
    for n in node.shape:
        count *= n
    return count


def write_row_program(symbol: str, trace: Trace, cpu: CpuTarget) -> tuple[Any, Tables]:
    """The kernel of a ROW op, and the tables that it needs."""
    program = RowProgram(symbol, trace, cpu)
    return program.write(), program.tables


__all__: Sequence[str] = ("RowProgram", "write_row_program")
