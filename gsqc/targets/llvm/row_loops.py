# SPDX-License-Identifier: Apache-2.0
"""Loops of a row program over the elements of a row, in vectors.

Reductions over groups make a nest: a loop over periods, and inside it one over the vectors of a
period. Where the lanes of a vector do not stay together (an odd slice, a ragged period), the same
loop is written for single elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from gsqc.numerics.operators.hadamard import ROTATED
from gsqc.numerics.operators.trace import Operator
from gsqc.targets.analysis.row_analysis import Task
from gsqc.targets.analysis.row_values import Scope
from gsqc.targets.analysis.row_walk import RowWalk
from gsqc.targets.llvm.emit import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    const,
    load,
    loop,
    new_buffer,
    splat,
    splat_const,
    store,
)
from gsqc.targets.llvm.index import ZERO, Axis, Index, NotVector
from gsqc.targets.llvm.operators import combine, neutral, reduce_lanes

LARGEST_UNROLL = 8
"""Vectors of a period that are written out rather than looped over."""
UNROLLED_NODES = 160
"""Operator evaluations in an unrolled body; more would only cost compile time."""


@dataclass(frozen=True)
class Value:
    """An expression of `lanes` elements."""

    expr: Expr
    lanes: int

    def widened(self, lanes: int) -> Expr:
        """The expression with a scalar copied to all lanes."""
        assert self.lanes in (1, lanes)
        return self.expr if self.lanes == lanes else splat(self.expr, lanes)


@dataclass(frozen=True)
class Accumulator:
    """A reduction in progress: `lanes` partial results, complete after `period` elements."""

    node: Operator
    buffer: Buffer
    lanes: int
    period: int

    def start(self) -> Stmt:
        """Begin with the neutral element in each lane."""
        return store(
            self.buffer, const(0), splat_const(neutral(self.node.operator), self.lanes), self.lanes
        )

    def add(self, value: Value) -> Stmt:
        """Combine each lane with its element of a value."""
        total = combine(self.node.operator, self._load(), value.widened(self.lanes))
        return store(self.buffer, const(0), total, self.lanes)

    def _load(self) -> Expr:
        return load(self.buffer, const(0), self.lanes)

    def result(self) -> Expr:
        """The reduction over all lanes."""
        return self._load() if self.lanes == 1 else reduce_lanes(self.node.operator, self._load())


class LoopWriter:
    """Writes the loop of all tasks of one phase and domain."""

    def __init__(self, walk: RowWalk, allocations: list[Stmt], lanes: int) -> None:
        """Loops of vectors of `lanes` for a walk; their memory is added to `allocations`."""
        self.walk, self.allocations, self.lanes = walk, allocations, lanes

    def write(self, tasks: list[Task], domain: int) -> list[Stmt]:
        """The statements of the loop; results of whole-row reductions become scalars of the row."""
        # All lanes of a vector must belong to one sum. So each period must be whole vectors.
        reduced = {t.period for t in tasks if t.reduces} - {domain}
        if self._rotates(tasks) and domain > ROTATED:
            reduced.add(ROTATED)
        whole_vectors = domain >= self.lanes and all(p % self.lanes == 0 for p in reduced)
        periods, lanes = reduced, self.lanes if whole_vectors else 1
        while True:
            try:
                return self._write(tasks, domain, sorted(periods, reverse=True), lanes)
            except NotVector as problem:
                assert lanes > 1
                # A vector crossed a period that an operand is broadcast over. With a loop over
                # those periods it cannot, if they nest with the others. Else go one by one.
                more = periods | {problem.period}
                nests = problem.period % lanes == 0 and _nests(domain, more)
                periods, lanes = (more, lanes) if nests and more > periods else (reduced, 1)

    def _rotates(self, tasks: list[Task]) -> bool:
        """Whether the loop evaluates a rotation, for which it takes whole groups at a time."""
        nodes = [*self.walk.plan.evaluation_order(tasks), *(t.source for t in tasks)]
        return any(n.operator == "rotate" for n in nodes)

    def _accumulators(self, tasks: list[Task], lanes: int) -> list[Accumulator]:
        return [
            Accumulator(
                t.source, new_buffer(f"sum{t.source.id}x{lanes}", lanes, "int32"), lanes, t.period
            )
            for t in tasks
            if t.reduces
        ]

    def _write(self, tasks: list[Task], domain: int, periods: list[int], lanes: int) -> list[Stmt]:
        assert domain % lanes == 0 or not periods
        whole = domain // lanes * lanes
        sums = self._accumulators(tasks, lanes)
        new = [allocate(a.buffer) for a in sums]
        statements = [a.start() for a in sums if a.period == domain]
        statements += self._nest(tasks, sums, whole, periods, lanes, ZERO)
        finished = [a for a in sums if a.period == domain]
        if whole < domain:
            # What is left of a ragged row goes by single elements, which carry on with the sums.
            tail = self._accumulators(tasks, 1)
            new += [allocate(a.buffer) for a in tail]
            statements += [
                store(a.buffer, const(0), vector.result())
                for a, vector in zip(tail, finished, strict=True)
            ]
            axis = Axis("last", domain - whole)
            body = self._body(tasks, tail, [Index(((axis, 1),), whole)])
            statements.append(loop(axis.var, axis.extent, body))
            finished = tail
        # From the next phase on these are scalars of the row, in a register.
        scope = Scope(statements)
        for a in finished:
            result = self.walk.define(a.node, Value(a.result(), 1), scope)
            self.walk.row_scope.known[a.node.id, ZERO] = result
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
        """Loops over `size` elements from `base`: one per period, the innermost over vectors."""
        if not periods:
            return self._innermost(tasks, sums, size, lanes, base)
        period = periods[0]
        axis = Axis("group", size // period)
        start = base + Index(((axis, period),))
        own = [a for a in sums if a.period == period]
        inner = self._nest(tasks, sums, period, periods[1:], lanes, start)
        scope = Scope([*(a.start() for a in own), *inner])
        for a in own:
            position, _ = self.walk.split(start, period, scope)
            self.walk.store(a.node, position, Value(a.result(), 1), scope)
        return [loop(axis.var, axis.extent, scope.statements)]

    def _unroll(self, tasks: list[Task], count: int, inside_period: bool) -> int:
        """How many of `count` vectors one turn of the loop takes."""
        # A group of 32 is a few vectors: written out, its sum stays in registers.
        if inside_period and count <= LARGEST_UNROLL:
            return count
        # Elsewhere unrolling pays where a body is short and its accumulators wait for each other.
        nodes = len(self.walk.plan.evaluation_order(tasks))
        return next(
            u for u in (4, 2, 1) if count % u == 0 and (u == 1 or u * nodes <= UNROLLED_NODES)
        )

    def _innermost(
        self, tasks: list[Task], sums: list[Accumulator], size: int, lanes: int, base: Index
    ) -> list[Stmt]:
        count = size // lanes
        unroll = self._unroll(tasks, count, bool(base.terms)) if lanes > 1 else 1
        if self._rotates(tasks):
            assert size == ROTATED
            unroll = count
        vectors = Index((), 0, lanes)
        if count == unroll:
            return self._body(tasks, sums, [base + vectors + u * lanes for u in range(unroll)])
        axis = Axis("k", count // unroll)
        start = base + Index(((axis, unroll * lanes),), 0, lanes)
        body = self._body(tasks, sums, [start + u * lanes for u in range(unroll)])
        return [loop(axis.var, axis.extent, body)]

    def _body(self, tasks: list[Task], sums: list[Accumulator], indices: list[Index]) -> list[Stmt]:
        scope = Scope()
        # The turns of an unrolled body share a scope: what two of them read is loaded once.
        by_node = {a.node.id: a for a in sums}

        def reduce(node: Operator, operand: Value) -> None:
            scope.statements.append(by_node[node.id].add(operand))

        for index in indices:
            self.walk.run_tasks(tasks, index, scope, reduce)
        return scope.statements


def _nests(domain: int, periods: set[int]) -> bool:
    """Whether each period is a whole number of the next smaller one."""
    chain = [domain, *sorted(periods, reverse=True)]
    return all(a % b == 0 for a, b in pairwise(chain))
