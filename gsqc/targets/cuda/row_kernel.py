# SPDX-License-Identifier: Apache-2.0
"""Row programs on a GPU: a block per row, whose threads share the loops over its elements.

The walk is that of analysis/row_walk.py. A stored value lies in shared memory, unless it is a
result. A reduction over a row or over 32 elements is one of the block or of a warp. Any other group
is one thread's.
"""

from __future__ import annotations

from gsqc.bundle.plan import ITEM_BYTES, align
from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.analysis.row_analysis import Task
from gsqc.targets.analysis.row_values import Scope
from gsqc.targets.analysis.row_walk import RowWalk
from gsqc.targets.cuda.expression import C_TYPES, ZERO, C, number
from gsqc.targets.cuda.writer import KernelSource, Launch, Tables, indented, kernel_source

WARP = 32
MOST_THREADS = 256
SHARED_BYTES = 47 << 10
"""Stored values of a row beyond this lie in global memory; a block may have 48 KiB, of which
over_block takes some.
"""
SPILL_BLOCKS = 512
"""Rows that are in work at a time where stored values lie in global memory."""
REDUCTION = {"reduce_sum": "Sum", "reduce_max": "Max"}


class RowKernel(RowWalk):
    """The kernel of one trace, under construction."""

    zero, row = ZERO, C("row")

    def __init__(self, symbol: str, trace: Trace) -> None:
        """Prepare the kernel `symbol` of a ROW trace."""
        super().__init__(trace)
        self.symbol, self.tables = symbol, Tables()
        self.declarations: list[str] = []
        self.own_bytes = 0
        # Names are counted, because one node may be evaluated at several indices.
        self.names = 0
        # Whole warps, because a warp's reduction waits for all of its lanes.
        widest = max([self.plan.loop_domain(n) for n in self.plan.nodes], default=1)
        self.threads = min(MOST_THREADS, -(-widest // WARP) * WARP)

    # ----------------------------------------------------------------------------------------------
    # expressions and statements

    def parameter(self, name: str, node: Operator) -> str:
        """A pointer, which `kernel_source` declares."""
        return name

    def row_memory(self, name: str, node: Operator) -> str:
        """An array at the next aligned offset of the row's own memory."""
        kind = C_TYPES[node.dtype]
        self.declarations.append(f"{kind} *{name} = ({kind} *)(own + {self.own_bytes});")
        row_bytes = self.plan.domain(node) * ITEM_BYTES[node.dtype]
        self.own_bytes = align(self.own_bytes + row_bytes)
        return name

    def constant(self, value: int) -> C:
        """A literal."""
        return number(value)

    def index_value(self, index: C) -> C:
        """The index itself."""
        return index

    def load(self, place: str, address: C) -> C:
        """An element of an array."""
        return C(f"{place}[{address}]")

    def apply(self, node: Operator, args: list[C]) -> C:
        """The operator in C."""
        return self.tables.apply(node, args)

    def define(self, node: Operator, value: C, scope: Scope) -> C:
        """A constant of the thread."""
        return self._name(scope, C_TYPES[node.dtype], value)

    def _name(self, scope: Scope, kind: str, value: C) -> C:
        self.names += 1
        scope.statements.append(f"const {kind} v{self.names} = {value};")
        return C(f"v{self.names}")

    def store_at(self, place: str, address: C, value: C, scope: Scope) -> None:
        """An assignment."""
        scope.statements.append(f"{place}[{address}] = {value};")

    def split(self, index: C, period: int, scope: Scope) -> tuple[C, C]:
        """A division, which nvcc turns into a multiplication by a constant."""
        return index.divided(period), index.remainder(period)

    def barrier(self) -> list[str]:
        """A thread may read what another one has stored only after all have arrived here."""
        return ["__syncthreads();"]

    def once(self, statements: list[str]) -> list[str]:
        """Every thread knows the scalars of the row: one of them stores."""
        return ["if (threadIdx.x == 0) {", *indented(statements), "}"]

    # ----------------------------------------------------------------------------------------------
    # loops

    def loop(self, tasks: list[Task], domain: int) -> list[str]:
        """One loop for all tasks, save reductions over groups that are not a warp's."""
        alone = [t for t in tasks if t.reduces and t.period not in (domain, WARP)]
        together = [t for t in tasks if t not in alone]
        lines = self._shared_loop(together, domain) if together else []
        for task in alone:
            lines += self._group_loop(task, domain)
        return lines

    def _shared_loop(self, tasks: list[Task], domain: int) -> list[str]:
        """A thread takes every `threads`-th element.

        The lanes of a warp then hold a group of 32 neighbours, which they reduce or rotate among
        themselves. A rotation's domain is a multiple of 32: no lane leaves the loop before others.
        """
        scope = Scope()
        whole = [t.source for t in tasks if t.reduces and t.period == domain]

        def reduce(node: Operator, operand: C) -> None:
            kind = REDUCTION[node.operator]
            if node in whole:
                part = f"part{node.id}"
                scope.statements.append(f"{part} = {kind}::combine({part}, {operand});")
            else:
                self._store_of_warp(
                    node, self._name(scope, "int", C(f"{kind}::warp({operand})")), scope
                )

        self.run_tasks(tasks, C("k"), scope, reduce)
        starts = [f"int part{n.id} = {REDUCTION[n.operator]}::neutral;" for n in whole]
        loop = f"for (int k = threadIdx.x; k < {domain}; k += {self.threads}) {{"
        # Each thread has reduced its own elements. The block combines them behind the loop.
        ends = Scope()
        for node in whole:
            total = C(f"over_block<{REDUCTION[node.operator]}>(part{node.id})")
            self.row_scope.known[node.id, ZERO] = self._name(ends, "int", total)
        return [*starts, loop, *indented(scope.statements), "}", *ends.statements]

    def _store_of_warp(self, node: Operator, total: C, scope: Scope) -> None:
        """Store a warp's total, which all lanes have, from the first lane."""
        inside = Scope()
        self.store(node, C("k").divided(WARP), total, inside)
        scope.statements += [f"if (k % {WARP} == 0) {{", *indented(inside.statements), "}"]

    def _group_loop(self, task: Task, domain: int) -> list[str]:
        """A thread takes whole groups, one element after the other."""
        scope, after, kind = Scope(), Scope(), REDUCTION[task.source.operator]
        operand = self.value(task.source.args[0], C("k"), scope)
        # Its neighbours are in other turns of the loop, not in other lanes.
        assert not any("rotated(" in s for s in scope.statements), "a rotation of one thread"
        scope.statements.append(f"part = {kind}::combine(part, {operand});")
        self.store(task.target, C("group"), C("part"), after)
        period, groups = task.period, domain // task.period
        return [
            f"for (int group = threadIdx.x; group < {groups}; group += {self.threads}) {{",
            f"    int part = {kind}::neutral;",
            f"    for (int k = group * {period}; k < (group + 1) * {period}; ++k) {{",
            *indented(indented(scope.statements)),
            "    }",
            *indented(after.statements),
            "}",
        ]

    # ----------------------------------------------------------------------------------------------
    # the kernel

    def write(self) -> KernelSource:
        """The kernel, whose blocks take rows in turn."""
        body = self.statements()
        rows = blocks = max(self.plan.rows, 1)
        before, own = "", []
        if self.own_bytes > SHARED_BYTES:
            # Global memory for every row could be gigabytes. A fixed number of blocks shares it.
            blocks = min(rows, SPILL_BLOCKS)
            spill = f"{self.symbol}_spill"
            before = f"__device__ __align__(64) char {spill}[{blocks}][{self.own_bytes}];\n"
            own = [f"char *own = {spill}[blockIdx.x];"]
        elif self.own_bytes:
            own = [f"__shared__ __align__(64) char own[{self.own_bytes}];"]
        if blocks == rows:
            body = ["const int row = blockIdx.x;", *body]
        else:
            head = f"for (int row = blockIdx.x; row < {rows}; row += {blocks}) {{"
            body = [head, *indented(body), "}"]
        body = [*own, *self.declarations, *body]
        launch = Launch(blocks, self.threads)
        source = kernel_source(self.symbol, self.trace, launch, body, self.tables)
        return KernelSource(before + source.text, source.launch, source.tables)


def write_row_kernel(symbol: str, trace: Trace) -> KernelSource:
    """The kernel of a ROW trace."""
    return RowKernel(symbol, trace).write()
