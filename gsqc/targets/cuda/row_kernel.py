# SPDX-License-Identifier: Apache-2.0
"""Row programs on a GPU: a block per row, whose threads share the loops over its elements.

Phases, domains and stored values are those of analysis/row_analysis.py. A stored value lies in
shared memory, unless it is a result. A reduction over a row or over 32 elements is one of the block
or of a warp; any other group is one thread's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

from gsqc.bundle.plan import ITEM_BYTES, align
from gsqc.numerics.operators.trace import Node, Trace
from gsqc.targets.analysis.broadcast import broadcast_index
from gsqc.targets.analysis.row_analysis import REDUCTIONS, RowAnalysis, Task
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


@dataclass(frozen=True)
class Memory:
    """Where a value lies: a parameter that holds `shape` for all rows, or the row's own memory
    (None).
    """

    name: str
    shape: tuple[int, ...] | None


@dataclass
class Scope:
    """Statements of one loop body, and the names that they define."""

    statements: list[str] = field(default_factory=list)
    known: dict[tuple[int, C], C] = field(default_factory=dict)


class RowKernel:
    """Writes the kernel of one trace."""

    def __init__(self, symbol: str, trace: Trace) -> None:
        self.symbol, self.trace, self.plan, self.tables = (
            symbol,
            trace,
            RowAnalysis(trace),
            Tables(),
        )
        self.row_scope = Scope()
        self.memory: dict[int, list[Memory]] = {}
        self.targets: dict[int, list[Memory]] = {}
        self.current: set[int] = set()
        self.names = 0
        widest = max([self.plan.loop_domain(n) for n in self.plan.nodes], default=1)
        self.threads = min(MOST_THREADS, -(-widest // WARP) * WARP)

    # -------------------------------------------------------------------------------------------------------
    # values

    def _name(self, scope: Scope, dtype: str, value: C) -> C:
        self.names += 1
        scope.statements.append(f"const {C_TYPES[dtype]} v{self.names} = {value};")
        return C(f"v{self.names}")

    def _address(self, memory: Memory, index: C) -> C:
        if memory.shape is None:
            return index
        lead, size = memory.shape[: self.plan.rank], 1
        for n in memory.shape[self.plan.rank :]:
            size *= n
        return self._broadcast(self.plan.lead, lead, C("row")).scaled(size) + index

    @staticmethod
    def _broadcast(shape: tuple[int, ...], source: tuple[int, ...], index: C) -> C:
        found: C = broadcast_index(shape, source, index, C.split, C.scaled, ZERO)
        return found

    def value(self, node: Node, index: C, scope: Scope) -> C:
        """Element `index` of a node's row, as a name or a literal; a scalar is one of the whole
        row's scope.
        """
        node = self.plan.alias(node)
        if node.operator == "const":
            return number(node.attributes["value"])
        if self.plan.domain(node) == 1:
            index, scope = ZERO, self.row_scope
        key = (node.id, index)
        if key not in scope.known:
            scope.known[key] = self._name(scope, node.dtype, self._evaluate(node, index, scope))
        return scope.known[key]

    def _evaluate(self, node: Node, index: C, scope: Scope) -> C:
        plan = self.plan
        if node.operator == "iota":
            inside = node.attributes["axis"] >= plan.rank
            return (
                index if inside else self._broadcast(plan.lead, node.shape[: plan.rank], C("row"))
            )
        if node.operator == "input" or (node.id in self.memory and node.id not in self.current):
            memory = self.memory[node.id][0]
            return C(f"{memory.name}[{self._address(memory, index)}]")
        if node.operator == "slice":
            return self.value(node.args[0], index + number(plan.slice_start(node)), scope)
        assert node.operator not in (*REDUCTIONS, "concat"), (
            f"{node.operator} is read before it is known"
        )
        inner = node.shape[plan.rank :]
        at = [self._broadcast(inner, a.shape[plan.rank :], index) for a in node.args]
        return self.tables.apply(
            node, [self.value(a, i, scope) for a, i in zip(node.args, at, strict=True)]
        )

    def _store(self, target: Node, index: C, value: C, scope: Scope) -> None:
        for memory in self.targets[target.id]:
            scope.statements.append(f"{memory.name}[{self._address(memory, index)}] = {value};")

    # --------------------------------------------------------------------------------------------------------
    # loops

    @staticmethod
    def _period(task: Task) -> int:
        """Elements of a reduction; 0 for another task."""
        source = task.source
        return (
            int(source.args[0].shape[source.attributes["axis"]])
            if source.operator in REDUCTIONS
            else 0
        )

    def _loop(self, tasks: list[Task], domain: int) -> list[str]:
        """The tasks of one phase and domain, and the wait until all threads have stored."""
        self.current = {t.target.id for t in tasks if t.source is t.target}
        alone = [t for t in tasks if self._period(t) not in (0, domain, WARP)]
        together = [t for t in tasks if t not in alone]
        lines = self._shared_loop(together, domain) if together else []
        for task in alone:
            lines += self._group_loop(task, domain)
        self.current = set()
        return [*lines, "__syncthreads();"]

    def _shared_loop(self, tasks: list[Task], domain: int) -> list[str]:
        """A thread takes every `threads`-th element; the lanes of a warp hold a group of 32 of
        them.
        """
        scope, whole = Scope(), [t.source for t in tasks if self._period(t) == domain]
        k = C("k")
        for node in self.plan.evaluation_order(tasks):
            self.value(node, k, scope)
        for task in tasks:
            if task.source in whole:
                part, operand = f"part{task.source.id}", self.value(task.source.args[0], k, scope)
                scope.statements.append(
                    f"{part} = {REDUCTION[task.source.operator]}::combine({part}, {operand});"
                )
            elif self._period(task):
                group = self.value(task.source.args[0], k, scope)
                total = self._name(
                    scope, "int32", C(f"{REDUCTION[task.source.operator]}::warp({group})")
                )
                inside = Scope()
                self._store(task.target, k.divided(WARP), total, inside)
                scope.statements += [f"if (k % {WARP} == 0) {{", *indented(inside.statements), "}"]
            else:
                self._store(
                    task.target, k + number(task.offset), self.value(task.source, k, scope), scope
                )
        starts = [f"int part{n.id} = {REDUCTION[n.operator]}::neutral;" for n in whole]
        loop = f"for (int k = threadIdx.x; k < {domain}; k += {self.threads}) {{"
        ends = []
        for node in whole:
            self.names += 1
            ends.append(
                f"const int v{self.names} = over_block<{REDUCTION[node.operator]}>(part{node.id});"
            )
            self.row_scope.known[node.id, ZERO] = C(f"v{self.names}")
        return [*starts, loop, *indented(scope.statements), "}", *ends]

    def _group_loop(self, task: Task, domain: int) -> list[str]:
        """A thread takes whole groups."""
        scope, period, name = Scope(), self._period(task), REDUCTION[task.source.operator]
        operand = self.value(task.source.args[0], C("k"), scope)
        scope.statements.append(f"part = {name}::combine(part, {operand});")
        after = Scope()
        self._store(task.target, C("group"), C("part"), after)
        return [
            f"for (int group = threadIdx.x; group < {domain // period}; group += {self.threads}) {{",
            f"    int part = {name}::neutral;",
            f"    for (int k = group * {period}; k < (group + 1) * {period}; ++k) {{",
            *indented(indented(scope.statements)),
            "    }",
            *indented(after.statements),
            "}",
        ]

    def _body(self) -> list[str]:
        lines = self.row_scope.statements
        for phase in range(
            max([*self.plan.phase.values(), *(t.phase for t in self.plan.tasks)], default=0) + 1
        ):
            for node in self.plan.nodes:
                is_scalar = self.plan.domain(node) == 1 and node.operator not in REDUCTIONS
                if is_scalar and self.plan.phase[node.id] == phase:
                    self.value(node, ZERO, self.row_scope)
            tasks = sorted(
                (t for t in self.plan.tasks if t.phase == phase), key=lambda t: -t.domain
            )
            for domain, group in groupby(tasks, key=lambda t: t.domain):
                if domain > 1:
                    lines += self._loop(list(group), domain)
                    continue
                for task in group:
                    scalar = self.value(task.source, ZERO, self.row_scope)
                    self._store(task.target, number(task.offset), scalar, self.row_scope)
                lines.append("__syncthreads();")
        first = Scope()
        for node in self.plan.outputs:
            if self.plan.domain(node) == 1 and node.id in self.targets:
                self._store(node, ZERO, self.value(node, ZERO, self.row_scope), first)
                del self.targets[node.id]
        return (
            [*lines, "if (threadIdx.x == 0) {", *indented(first.statements), "}"]
            if first.statements
            else lines
        )

    # -------------------------------------------------------------------------------------------------------
    # memory

    def _add_parameters(self) -> None:
        for k, node in enumerate(self.trace.inputs):
            self.memory[node.id] = [Memory(f"input{k}", node.shape)]
        for k, node in enumerate(self.trace.outputs):
            self.targets.setdefault(self.plan.outputs[k].id, []).append(
                Memory(f"output{k}", node.shape)
            )

    def _add_memory(self) -> tuple[list[str], int]:
        """Declarations of stored values as offsets of the row's own memory, and its size in bytes."""
        declarations, size = [], 0
        for node in self.plan.stored.values():
            if node.id not in self.targets:
                kind = C_TYPES[node.dtype]
                declarations.append(f"{kind} *stored{node.id} = ({kind} *)(own + {size});")
                size = align(size + self.plan.domain(node) * ITEM_BYTES[node.dtype])
                self.targets[node.id] = [Memory(f"stored{node.id}", None)]
            self.memory[node.id] = self.targets[node.id]
        return declarations, size

    def write(self) -> KernelSource:
        """The kernel, whose blocks take rows in turn."""
        self._add_parameters()
        declarations, size = self._add_memory()
        rows, own, before = max(self.plan.rows, 1), [], ""
        blocks = rows
        if size > SHARED_BYTES:
            blocks = min(rows, SPILL_BLOCKS)
            before = f"__device__ __align__(64) char {self.symbol}_spill[{blocks}][{size}];\n"
            own = [f"char *own = {self.symbol}_spill[blockIdx.x];"]
        elif size:
            own = [f"__shared__ __align__(64) char own[{size}];"]
        body = self._body()
        if blocks == rows:
            body = ["const int row = blockIdx.x;", *body]
        else:
            body = [
                f"for (int row = blockIdx.x; row < {rows}; row += {blocks}) {{",
                *indented(body),
                "}",
            ]
        body = [*own, *declarations, *body]
        source = kernel_source(
            self.symbol, self.trace, Launch(blocks, self.threads), body, self.tables
        )
        return KernelSource(before + source.text, source.launch, source.tables)


def write_row_kernel(symbol: str, trace: Trace) -> KernelSource:
    """The kernel of a ROW trace."""
    return RowKernel(symbol, trace).write()
