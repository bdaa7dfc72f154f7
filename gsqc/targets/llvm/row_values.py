# SPDX-License-Identifier: Apache-2.0
"""Values inside a row program: evaluated once per index, bound to a name, loaded where they are
stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import tirx

from gsqc.numerics.operators.trace import Node
from gsqc.targets.analysis.row_analysis import REDUCTIONS, RowAnalysis, Task
from gsqc.targets.llvm.emit import Buffer, Expr, Stmt, const, keep, load, splat, store
from gsqc.targets.llvm.index import ZERO, Axis, Index, NotVector, broadcast_index
from gsqc.targets.llvm.operators import Operators


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
class Memory:
    """Where a value lies: a parameter that holds `shape` for all rows, or the row's own memory
    (None).
    """

    buffer: Buffer
    shape: tuple[int, ...] | None


@dataclass
class Scope:
    """Statements of one loop body, and the names that they define."""

    statements: list[Stmt] = field(default_factory=list)
    known: dict[tuple[int, Index], Value] = field(default_factory=dict)

    def name(self, hint: str, expr: Expr) -> Expr:
        value, statements = keep(hint, expr)
        self.statements += statements
        return value

    def opaque(self, expr: Expr, extent: int) -> Axis:
        return Axis("part", extent, self.name("part", expr))


class RowValues:
    """Evaluates nodes of a row program.

    `memory` says where inputs and stored nodes are read, `targets` where nodes are written; a node
    in `current` is evaluated by the present loop although it is stored. Scalars of the row are
    defined in `row_scope`.
    """

    def __init__(
        self, plan: RowAnalysis, operators: Operators, row: Axis, row_scope: Scope
    ) -> None:
        self.plan, self.operators, self.row, self.row_scope = plan, operators, row, row_scope
        self.memory: dict[int, list[Memory]] = {}
        self.targets: dict[int, list[Memory]] = {}
        self.current: set[int] = set()
        self._bases: dict[tuple[int, ...], Index] = {}

    def _row_of(self, shape: tuple[int, ...]) -> Index:
        """The row of a tensor whose leading dimensions broadcast against the program's."""
        lead = shape[: self.plan.rank]
        if lead not in self._bases:
            index = Index(((self.row, 1),))
            self._bases[lead] = broadcast_index(self.plan.lead, lead, index, self.row_scope.opaque)
        return self._bases[lead]

    def address(self, memory: Memory, index: Index) -> Index:
        """The flat index into a memory of element `index` of the row."""
        if memory.shape is None:
            return index
        size = 1
        for n in memory.shape[self.plan.rank :]:
            size *= n
        return self._row_of(memory.shape).scaled(size) + index

    def value(self, node: Node, index: Index, scope: Scope) -> Value:
        """Elements `index` of a node; scalars may come back for a vector index whose lanes are
        equal.
        """
        node = self.plan.alias(node)
        if node.operator == "const":
            return Value(const(node.attributes["value"]), 1)
        if self.plan.domain(node) == 1:
            index, scope = ZERO, self.row_scope
        key = (node.id, index)
        if key not in scope.known:
            value = self._evaluate(node, index, scope)
            # TVM's analyser cannot bind a vector of bools: a condition is written where it is used.
            bound = value.expr if node.dtype == "bool" else scope.name(f"v{node.id}", value.expr)
            scope.known[key] = Value(bound, value.lanes)
        return scope.known[key]

    def _evaluate(self, node: Node, index: Index, scope: Scope) -> Value:
        if node.operator == "iota":
            return self._iota(node, index)
        if node.operator == "input" or (node.id in self.memory and node.id not in self.current):
            if index.lanes > 1 and index.step != 1:
                raise NotVector
            memory = self.memory[node.id][0]
            return Value(
                load(memory.buffer, self.address(memory, index).expr(), index.lanes), index.lanes
            )
        if node.operator == "slice":
            return self.value(node.args[0], index + self.plan.slice_start(node), scope)
        assert node.operator not in (*REDUCTIONS, "concat"), (
            f"{node.operator} is read before it is known"
        )
        args = [self.value(a, self._index_of(node, a, index, scope), scope) for a in node.args]
        lanes = max(a.lanes for a in args)
        return Value(self.operators.apply(node, [a.widened(lanes) for a in args], lanes), lanes)

    def _index_of(self, node: Node, argument: Node, index: Index, scope: Scope) -> Index:
        """Where an operand is read for element `index` of the node's row."""
        inner, own = node.shape[self.plan.rank :], argument.shape[self.plan.rank :]
        return index if inner == own else broadcast_index(inner, own, index, scope.opaque)

    def _iota(self, node: Node, index: Index) -> Value:
        if node.attributes["axis"] < self.plan.rank:
            return Value(self._row_of(node.shape).expr(), 1)
        if index.lanes == 1:
            return Value(index.expr(), 1)
        return Value(tirx.Ramp(index.expr(), const(index.step), index.lanes), index.lanes)

    def store(self, task: Task, index: Index, scope: Scope) -> None:
        """Evaluate a task's source and store it wherever its target lies."""
        value = self.value(task.source, index, scope)
        for memory in self.targets[task.target.id]:
            address = self.address(memory, index + task.offset)
            scope.statements.append(
                store(memory.buffer, address.expr(), value.widened(index.lanes), index.lanes)
            )
