# SPDX-License-Identifier: Apache-2.0
"""Loops of a row program over the elements of a row: vectors in periods, a remainder of single
elements, reductions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from gsqc.numerics.operators.trace import Node
from gsqc.targets.analysis.row_analysis import REDUCTIONS, RowAnalysis, Task
from gsqc.targets.llvm.emit import (
    Buffer,
    Stmt,
    allocate,
    const,
    load,
    loop,
    new_buffer,
    splat_const,
    store,
)
from gsqc.targets.llvm.index import ZERO, Axis, Index, NotVector
from gsqc.targets.llvm.operators import combine, neutral, reduce_lanes
from gsqc.targets.llvm.row_values import RowValues, Scope, Value

LARGEST_UNROLL = 8
"""Vectors of a period that are written out rather than looped over."""
UNROLLED_NODES = 160
"""Node evaluations in an unrolled body; more would only cost compile time."""


@dataclass(frozen=True)
class Accumulator:
    """A reduction in progress: `lanes` partial results, complete after `period` elements."""

    node: Node
    buffer: Buffer
    lanes: int
    period: int

    def start(self) -> Stmt:
        return store(
            self.buffer, const(0), splat_const(neutral(self.node.operator), self.lanes), self.lanes
        )

    def add(self, value: Value) -> Stmt:
        total = combine(self.node.operator, self._load(), value.widened(self.lanes))
        return store(self.buffer, const(0), total, self.lanes)

    def _load(self) -> object:
        return load(self.buffer, const(0), self.lanes)

    def result(self) -> object:
        return self._load() if self.lanes == 1 else reduce_lanes(self.node.operator, self._load())


class LoopWriter:
    """Writes the loop of all tasks of one phase and domain."""

    def __init__(
        self, plan: RowAnalysis, values: RowValues, allocations: list[Stmt], lanes: int
    ) -> None:
        self.plan, self.values, self.allocations, self.lanes = plan, values, allocations, lanes

    def write(self, tasks: list[Task], domain: int) -> list[Stmt]:
        """The statements of the loop; results of whole-row reductions become scalars of the row."""
        self.values.current = {t.target.id for t in tasks if t.source is t.target}
        periods = {self._period(t.source) for t in tasks if t.source.operator in REDUCTIONS} - {
            domain
        }
        lanes = (
            self.lanes if domain >= self.lanes and all(p % self.lanes == 0 for p in periods) else 1
        )
        while True:
            try:
                return self._write(tasks, domain, sorted(periods, reverse=True), lanes)
            except NotVector as problem:
                assert lanes > 1
                if problem.period and problem.period % lanes == 0 and problem.period not in periods:
                    periods.add(problem.period)
                if (
                    not self._nests(domain, periods)
                    or problem.period not in periods
                    or problem.period % lanes
                ):
                    periods = {
                        self._period(t.source) for t in tasks if t.source.operator in REDUCTIONS
                    } - {domain}
                    lanes = 1

    @staticmethod
    def _nests(domain: int, periods: set[int]) -> bool:
        chain = [domain, *sorted(periods, reverse=True)]
        return all(a % b == 0 for a, b in pairwise(chain))

    def _period(self, reduction: Node) -> int:
        return int(reduction.args[0].shape[reduction.attributes["axis"]])

    def _accumulators(self, tasks: list[Task], lanes: int) -> list[Accumulator]:
        result = []
        for task in tasks:
            if task.source.operator in REDUCTIONS:
                buffer = new_buffer(f"sum{task.source.id}x{lanes}", lanes, "int32")
                result.append(Accumulator(task.source, buffer, lanes, self._period(task.source)))
        return result

    def _write(self, tasks: list[Task], domain: int, periods: list[int], lanes: int) -> list[Stmt]:
        whole = domain // lanes * lanes if not periods else domain
        assert domain % lanes == 0 or not periods
        accumulators = self._accumulators(tasks, lanes)
        statements = [a.start() for a in accumulators if a.period == domain]
        new = [allocate(a.buffer) for a in accumulators]
        statements += self._nest(tasks, accumulators, whole, periods, lanes, ZERO)
        finished = {a.node.id: a for a in accumulators if a.period == domain}
        if whole < domain:
            tail = self._accumulators(tasks, 1)
            new += [allocate(a.buffer) for a in tail]
            statements += [store(a.buffer, const(0), finished[a.node.id].result()) for a in tail]
            axis = Axis("last", domain - whole)
            body = self._body(tasks, tail, [Index(((axis, 1),), whole)])
            statements.append(loop(axis.var, axis.extent, body))
            finished = {a.node.id: a for a in tail}
        scope = Scope(statements)
        for node_id, accumulator in finished.items():
            name = scope.name(f"v{node_id}", accumulator.result())
            self.values.row_scope.known[(node_id, ZERO)] = Value(name, 1)
        self.allocations += new
        return statements

    def _nest(
        self,
        tasks: list[Task],
        sums: list[Accumulator],
        size: int,
        periods: list[int],
        lanes: int,
        base: Index,
    ) -> list[Stmt]:
        """Loops over `size` elements from `base`: one per period, and the innermost over vectors."""
        if not periods:
            return self._innermost(tasks, sums, size, lanes, base)
        period = periods[0]
        axis = Axis("group", size // period)
        start = base + Index(((axis, period),))
        own = [a for a in sums if a.period == period]
        body = [a.start() for a in own]
        body += self._nest(tasks, sums, period, periods[1:], lanes, start)
        for a in own:
            position, _ = start.split(period, Scope().opaque)
            for memory in self.values.targets[a.node.id]:
                body.append(
                    store(memory.buffer, self.values.address(memory, position).expr(), a.result())
                )
        return [loop(axis.var, axis.extent, body)]

    def _unroll(self, tasks: list[Task], count: int, inside_period: bool) -> int:
        if inside_period and count <= LARGEST_UNROLL:
            return count
        nodes = len(self.plan.evaluation_order(tasks))
        return next(
            u for u in (4, 2, 1) if count % u == 0 and (u == 1 or u * nodes <= UNROLLED_NODES)
        )

    def _innermost(
        self, tasks: list[Task], sums: list[Accumulator], size: int, lanes: int, base: Index
    ) -> list[Stmt]:
        count = size // lanes
        unroll = self._unroll(tasks, count, bool(base.terms)) if lanes > 1 else 1
        vectors = Index((), 0, lanes)
        if count == unroll:
            return self._body(tasks, sums, [base + vectors + u * lanes for u in range(unroll)])
        axis = Axis("k", count // unroll)
        start = base + Index(((axis, unroll * lanes),), 0, lanes)
        return [
            loop(
                axis.var,
                axis.extent,
                self._body(tasks, sums, [start + u * lanes for u in range(unroll)]),
            )
        ]

    def _body(self, tasks: list[Task], sums: list[Accumulator], indices: list[Index]) -> list[Stmt]:
        scope = Scope()
        by_node = {a.node.id: a for a in sums}
        order = self.plan.evaluation_order(tasks)
        for index in indices:
            for node in order:
                self.values.value(node, index, scope)
            for task in tasks:
                if task.source.operator in REDUCTIONS and task.source is task.target:
                    operand = self.values.value(task.source.args[0], index, scope)
                    scope.statements.append(by_node[task.source.id].add(operand))
                else:
                    self.values.store(task, index, scope)
        return scope.statements
