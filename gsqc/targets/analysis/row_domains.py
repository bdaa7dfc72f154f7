# SPDX-License-Identifier: Apache-2.0
"""The domains of a row program: how many elements of a row each value has, and how it is read."""

from __future__ import annotations

import math

from gsqc.numerics.operators.trace import Operator, Trace

REDUCTIONS = ("reduce_max", "reduce_sum")


class RowDomains:
    """The nodes of a trace, as values of one row.

    The leading dimensions of the first result are the rows. Every other value has the same leading
    dimensions, or broadcasts against them.
    """

    def __init__(self, trace: Trace) -> None:
        """Find the rows, and the nodes that are more than a new name for another one."""
        assert trace.outputs
        self.lead = trace.outputs[0].shape[:-1]
        self.rows = math.prod(self.lead)
        self.rank = len(self.lead)
        self.outputs = [self.alias(n) for n in trace.outputs]
        self.nodes = [n for n in trace.live_nodes() if self.alias(n) is n]
        self._check()

    def _check(self) -> None:
        """Assert that no row needs another: only then can rows run in any order, on any thread."""
        for node in self.nodes:
            assert node.operator not in ("transpose", "gather", "matmul"), (
                f"{node.operator} in a row program"
            )
            lead = node.shape[: self.rank]
            assert all(n in (1, m) for n, m in zip(lead, self.lead, strict=True)), (
                f"{node.shape} against {self.lead}"
            )
            if node.operator in REDUCTIONS:
                axis = node.attributes["axis"]
                assert axis >= self.rank and math.prod(node.args[0].shape[axis + 1 :]) == 1, (
                    "a reduction across rows"
                )

    def alias(self, node: Operator) -> Operator:
        """The node that computes a value: reshapes and reductions of one element only rename it."""
        while True:
            trivial = (
                node.operator in REDUCTIONS and node.args[0].shape[node.attributes["axis"]] == 1
            )
            if node.operator == "reshape":
                assert node.shape[: self.rank] == node.args[0].shape[: self.rank], (
                    "a reshape across rows"
                )
            elif not trivial:
                return node
            node = node.args[0]

    def domain(self, node: Operator) -> int:
        """Elements per row."""
        return math.prod(node.shape[self.rank :])

    def loop_domain(self, node: Operator) -> int:
        """Elements of the loop that evaluates the node: for a reduction, its operand's."""
        return self.domain(node.args[0]) if node.operator in REDUCTIONS else self.domain(node)

    def slice_start(self, node: Operator) -> int:
        """Where a slice begins in its operand's row."""
        start, source = node.attributes["start"], node.args[0].shape
        # A slice of another axis would leave gaps between the rows, or inside of one.
        whole = all(
            s == 0 and n == m
            for s, n, m in zip(start[:-1], node.shape[:-1], source[:-1], strict=True)
        )
        inner = all(n == 1 for n in source[self.rank : -1])
        assert whole and inner, "a row program slices its last axis only"
        return int(start[-1])

    def reads(self, node: Operator) -> list[tuple[Operator, bool]]:
        """The operands, each with whether it is read at the reader's own index."""
        if node.operator == "concat":
            return [(self.alias(a), True) for a in node.args]
        # Values of equal domain have equal shapes, or differ by axes of one element: one index.
        same = self.loop_domain(node)
        return [
            (self.alias(a), node.operator != "slice" and self.domain(a) == same) for a in node.args
        ]
