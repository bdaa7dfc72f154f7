# SPDX-License-Identifier: Apache-2.0
"""What to store, and in which order, so that an op runs row by row: phases and stored values.

The *domain* of a value is how many elements it has per row (row_domains.py). Values of domain 1 are
scalars of the row.

The *phase* of a node is the first pass over the row in which it can be evaluated. A reduction's
result, or a value that is read at another index than the reader's own, is known one phase later.

Of the values that are no scalars, a few are *stored*: reductions, outputs, parts of a concat, what
is read at another index, and what two phases need and is dear to evaluate twice. All others live in
registers, and are evaluated again in each loop that needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.analysis.row_domains import REDUCTIONS, RowDomains

LEAVES = ("input", "const", "iota")
# In units of one vector instruction. An operator that is not here costs 1.
_COST = {
    "table": 14,
    "rotate": 10,
    "mulr15": 6,
    "mulr30": 6,
    "mulc": 6,
    "clz": 6,
    "arithmetic_right_shift_round": 4,
    "mul": 2,
}
CHEAP = 5
"""A value that costs less is evaluated again rather than stored."""


@dataclass(frozen=True)
class Task:
    """Evaluate `source` in `phase`, over a loop of `domain` elements, and store it.

    It is stored in `target`'s memory, from `offset` on. A reduction is its own source, and its loop
    runs over its operand.
    """

    source: Operator
    target: Operator
    offset: int
    domain: int
    phase: int

    @property
    def reduces(self) -> bool:
        """Whether this is a reduction, not the copy of a reduction's result into a concat."""
        return self.source is self.target and self.source.operator in REDUCTIONS

    @property
    def period(self) -> int:
        """How many elements a reduction takes together."""
        assert self.reduces
        return int(self.source.args[0].shape[self.source.attributes["axis"]])


class RowAnalysis(RowDomains):
    """The plan of a row program: its `tasks` in order of phase.

    `stored` maps ids to the nodes that have memory of their own.
    """

    def __init__(self, trace: Trace) -> None:
        """Decide what is stored, and in which phase each value is known."""
        super().__init__(trace)
        self.stored: dict[int, Operator] = {}
        self.phase: dict[int, int] = {}
        self._cost: dict[int, int] = {}
        self._store_required()
        self._store_crossing()
        self._store_shared()
        self.tasks = self._tasks()

    def inline(self, node: Operator) -> bool:
        """Whether a loop evaluates the node for itself: neither leaf, nor scalar, nor stored."""
        return node.operator not in LEAVES and self.domain(node) > 1 and node.id not in self.stored

    def _store_required(self) -> None:
        """Store what no register can hold, and what the caller wants."""
        for node in self.nodes:
            if self.domain(node) > 1 and (node.operator in REDUCTIONS or node.operator == "concat"):
                self.stored[node.id] = node
        for node in self.outputs:
            if self.inline(node):
                self.stored[node.id] = node

    def _own_cost(self, node: Operator) -> int:
        """The cost of a node with all that its loop evaluates for it."""
        return _COST.get(node.operator, 1) + sum(
            self._cost.get(a.id, 0) for a, _ in self.reads(node) if self.inline(a)
        )

    def _store_crossing(self) -> None:
        """Store what is read at another index, unless it is cheap."""
        self._measure()
        crossing: set[int] = set()
        for node in reversed(self.nodes):
            # If a node is evaluated at a foreign index, so are its operands. They are stored in
            # its place where it is cheap, or a bool, which no target stores.
            inherits = node.id in crossing and self.inline(node)
            if inherits and node.dtype != "bool" and self._cost[node.id] >= CHEAP:
                self.stored[node.id] = node
                inherits = False
            crossing.update(a.id for a, same in self.reads(node) if inherits or not same)

    def _measure(self) -> None:
        """The cost of evaluating each inlined node from leaves and stored values."""
        self._cost = {}
        for node in self.nodes:
            if self.inline(node):
                self._cost[node.id] = self._own_cost(node)

    def _known(self, node: Operator) -> int:
        """The phase in which a value can be read at any index."""
        if node.operator in LEAVES:
            return 0
        if node.id in self.stored or node.operator in REDUCTIONS:
            return self.phase[node.id] + 1
        if self.domain(node) == 1:
            return self.phase[node.id]
        # An inlined node can be evaluated anywhere as soon as its operands can be read there.
        return max((self._known(a) for a, _ in self.reads(node)), default=0)

    def _read_phase(self, node: Operator, same: bool) -> int:
        """The phase in which a reader finds a value, at its own index or at another one."""
        if same and node.operator not in (*LEAVES, *REDUCTIONS, "concat"):
            return self.phase[node.id]
        return self._known(node)

    def _assign_phases(self) -> None:
        """Give each node the phase in which the last of its operands is there."""
        self.phase = {}
        for node in self.nodes:
            self.phase[node.id] = max(
                (self._read_phase(a, same) for a, same in self.reads(node)), default=0
            )

    def _needed_phases(self) -> dict[int, set[int]]:
        """For each inlined node the phases whose loops evaluate it."""
        need: dict[int, set[int]] = {n.id: set() for n in self.nodes}
        for node in reversed(self.nodes):
            evaluated = node.id in self.stored or node.operator in REDUCTIONS
            phases = {self.phase[node.id]} if evaluated else need[node.id]
            for a, same in self.reads(node):
                if same and self.inline(a):
                    own = {self.phase[a.id]} if node.operator == "concat" else phases
                    need[a.id] |= own
        return need

    def _store_shared(self) -> None:
        """Store what two phases need and is dear, the dearest first."""
        # Storing one node makes others cheap, or takes them out of a phase: one at a time.
        while True:
            self._assign_phases()
            need = self._needed_phases()
            self._measure()
            dear = [
                n
                for n in self.nodes
                if self.inline(n)
                and n.dtype != "bool"
                and len(need[n.id]) > 1
                and self._cost[n.id] >= CHEAP
            ]
            if not dear:
                return
            node = max(dear, key=lambda n: self._cost[n.id])
            self.stored[node.id] = node

    def evaluation_order(self, tasks: list[Task]) -> list[Operator]:
        """The inlined nodes that the tasks evaluate at their own index, operands first."""
        found: dict[int, Operator] = {}
        pending = [t.source for t in tasks]
        while pending:
            node = pending.pop()
            for a, same in self.reads(node):
                if same and self.inline(a) and a.id not in found and node.operator != "concat":
                    found[a.id] = a
                    pending.append(a)
        return [found[k] for k in sorted(found)]

    def _tasks(self) -> list[Task]:
        """What the loops store. A concat has no loop: each part goes to its place by itself."""
        tasks: list[Task] = []
        for node in self.nodes:
            if node.operator == "concat":
                offset = 0
                for part in node.args:
                    source = self.alias(part)
                    phase = self._read_phase(source, True)
                    tasks.append(Task(source, node, offset, self.domain(part), phase))
                    offset += self.domain(part)
            elif node.id in self.stored or (node.operator in REDUCTIONS):
                tasks.append(Task(node, node, 0, self.loop_domain(node), self.phase[node.id]))
        # A result that is an input or a constant is copied.
        leaves = (n for n in self.outputs if n.operator in LEAVES and self.domain(n) > 1)
        tasks.extend(Task(node, node, 0, self.domain(node), 0) for node in leaves)
        return sorted(tasks, key=lambda t: t.phase)
