# SPDX-License-Identifier: Apache-2.0
"""Row programs on a CPU: one loop over rows, with a few vector loops over the elements of each.

The walk is that of analysis/row_walk.py. Here are its expressions and statements in TIR, and the
kernel around them. The loops are in row_loops.py.
"""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx

from gsqc.numerics.operators.hadamard import ROTATED
from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.analysis.ranges import Ranges
from gsqc.targets.analysis.row_analysis import Task
from gsqc.targets.analysis.row_values import Scope
from gsqc.targets.analysis.row_walk import RowWalk
from gsqc.targets.llvm.cpu import CpuTarget
from gsqc.targets.llvm.emit import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    const,
    function,
    keep,
    lanes_at,
    load,
    new_buffer,
    row_chunks,
    store,
)
from gsqc.targets.llvm.index import ZERO, Axis, Index
from gsqc.targets.llvm.operators import Operators
from gsqc.targets.llvm.rotation import rotated
from gsqc.targets.llvm.row_loops import LoopWriter, Value
from gsqc.targets.llvm.tables import Tables

QUOTIENT = "gsqc_quotient"
"""A function of library.c."""
PARALLEL_WORK = 1 << 18
"""Element evaluations from which a kernel is worth the start of the thread pool."""


class RowProgram(RowWalk):
    """The kernel of one trace, under construction."""

    zero = ZERO

    def __init__(self, symbol: str, trace: Trace, cpu: CpuTarget) -> None:
        """Prepare the kernel `symbol` of a ROW trace."""
        super().__init__(trace)
        self.symbol = symbol
        self.tables = Tables()
        self.operators = Operators(cpu, Ranges(trace.live_nodes()), self.tables)
        self.parameters: list[Buffer] = []
        self.allocations: list[Stmt] = []
        self.row_axis = Axis("row", max(self.plan.rows, 1))
        # The row as an index: addresses are sums of it and of the loop variables.
        self.row = Index(((self.row_axis, 1),))
        self.loops = LoopWriter(self, self.allocations, cpu.lanes)

    def parameter(self, name: str, node: Operator) -> Buffer:
        """A flat buffer."""
        buffer = new_buffer(name, math.prod(node.shape), node.dtype)
        self.parameters.append(buffer)
        return buffer

    def row_memory(self, name: str, node: Operator) -> Buffer:
        """Memory of the thread, which every row writes anew."""
        buffer = new_buffer(name, self.plan.domain(node), node.dtype)
        self.allocations.append(allocate(buffer))
        return buffer

    def constant(self, value: int) -> Value:
        """A scalar. `apply` copies it to all lanes where they are needed."""
        return Value(const(value), 1)

    def index_value(self, index: Index) -> Value:
        """The index, or the indices of all lanes."""
        return Value(lanes_at(index.expr(), index.lanes), index.lanes)

    def load(self, place: Buffer, address: Index) -> Value:
        """Consecutive elements."""
        return Value(load(place, address.expr(), address.lanes), address.lanes)

    def apply(self, node: Operator, args: list[Value]) -> Value:
        """The operator on as many lanes as its widest operand has."""
        # A scalar of the row beside a vector is copied to all lanes here, where LLVM can take that
        # out of the loop.
        lanes = max(a.lanes for a in args)
        return Value(self.operators.apply(node, [a.widened(lanes) for a in args], lanes), lanes)

    def evaluate(self, node: Operator, index: Index, scope: Scope) -> Value:
        """A rotation needs all vectors of its group, and gives all."""
        if node.operator != "rotate":
            plain: Value = super().evaluate(node, index, scope)
            return plain
        lanes = index.lanes
        _, inside = self.split(index, ROTATED, scope)
        assert not inside.terms, "a loop takes whole groups where it rotates"
        places = [index + (k - inside.constant) for k in range(0, ROTATED, lanes)]
        vectors = [self.value(node.args[0], place, scope).expr for place in places]

        def named(expr: Expr) -> Expr:
            return _keep_in(scope, f"v{node.id}", expr)

        for place, expr in zip(places, rotated(vectors, lanes, named), strict=True):
            scope.known[node.id, place] = Value(expr, lanes)
        value: Value = scope.known[node.id, index]
        return value

    def define(self, node: Operator, value: Value, scope: Scope) -> Value:
        """A register. A condition is written where it is used."""
        # TVM cannot keep a vector of bools. Its operands are kept, so only the comparison repeats.
        if node.dtype == "bool" or node.operator == "rotate":  # a rotation has its names
            return value
        return Value(_keep_in(scope, f"v{node.id}", value.expr), value.lanes)

    def store_at(self, place: Buffer, address: Index, value: Value, scope: Scope) -> None:
        """Store consecutive elements."""
        lanes = address.lanes
        scope.statements.append(store(place, address.expr(), value.widened(lanes), lanes))

    def split(self, index: Index, period: int, scope: Scope) -> tuple[Index, Index]:
        """At compile time where the loop variables allow it, else by a division in `scope`."""

        def divide(start: Index, period: int) -> tuple[Expr, Expr]:
            expr, by = start.expr(), const(period)
            if all(axis is self.row_axis for axis, _ in start.terms):
                parts = tirx.truncdiv(expr, by), tirx.truncmod(expr, by)
            else:
                # The elements of a row go one by one here. LLVM 22 would make vectors of them and
                # load consecutive elements where the index is k % 4, so the quotient is hidden.
                outer = _keep_in(scope, "part", tirx.call_extern("int32", QUOTIENT, expr, by))
                parts = outer, expr - outer * by
            return _keep_in(scope, "part", parts[0]), _keep_in(scope, "part", parts[1])

        return index.split(period, divide)

    def loop(self, tasks: list[Task], domain: int) -> list[Stmt]:
        """A vector loop."""
        return self.loops.write(tasks, domain)

    def write(self) -> Any:
        """The kernel as a PrimFunc: flat inputs, then flat outputs."""
        body = self.statements()
        # A row may be too short to pay for a thread, or too few of them may be there to share.
        work = self.plan.rows * sum(self.plan.domain(n) for n in self.plan.nodes)
        parallel = self.plan.rows > 1 and work >= PARALLEL_WORK
        rows = row_chunks(self.plan.rows, body, self.row_axis.var, self.allocations, parallel)
        return function(self.symbol, self.parameters, [*self.tables.setup, rows])


def _keep_in(scope: Scope, name: str, expr: Expr) -> Expr:
    value, statements = keep(name, expr)
    scope.statements += statements
    return value


def write_row_program(symbol: str, trace: Trace, cpu: CpuTarget) -> Any:
    """The kernel of a ROW op."""
    program = RowProgram(symbol, trace, cpu)
    return program.write()
