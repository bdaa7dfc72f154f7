# SPDX-License-Identifier: Apache-2.0
"""Regions: parts of a traced graph that depend on one node, and what they compute.

A norm, a rotary embedding or an activation is such a part. It is told by its results on a few
random numbers, so it does not matter in which operators an exporter writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gsqc.models.capture.programs.tracer import Node, Tracer

MOST_MEMBERS = 48
"""Operators of a region."""


class Region(NamedTuple):
    """The operators that compute `result` from `source`, in the order of the graph."""

    tracer: Tracer
    source: Node
    result: Node
    members: tuple[Node, ...]

    def has(self, *targets: Any) -> bool:
        """Whether one of the operators is among the members."""
        return any(n.target in targets for n in self.members)

    def constants(self) -> list[Tensor]:
        """The constant tensors that the members read."""
        read = dict.fromkeys(a for n in self.members for a in n.all_input_nodes)
        return [self.tracer.placed[n] for n in read if n in self.tracer.placed]

    def numbers(self) -> list[float]:
        """The plain numbers among the members' arguments."""
        found = [a for n in self.members for a in n.args if isinstance(a, float | int)]
        return [float(a) for a in found]

    def __call__(self, x: Tensor) -> Tensor | None:
        """The result for a source, or None if an operator does not take it."""
        values = {self.source: x}

        def value(node: Any) -> Any:
            if not isinstance(node, Node):
                return node
            return values[node] if node in values else self.tracer.placed[node].float()

        try:
            with torch.no_grad():
                for node in self.members:
                    target: Any = node.target
                    values[node] = target(*tree_map(value, node.args), **node.kwargs)
        except Exception:  # the shapes are ours, and need not suit every operator
            return None
        return values[self.result]


def regions(tracer: Tracer, result: Node, allowed: Callable[[Node], bool]) -> Iterator[Region]:
    """The regions that end with a node, the smallest first, made of operators that are allowed."""
    frontier, members = {result}, list[Node]()
    while len(members) < MOST_MEMBERS:
        latest = max(frontier)
        if latest.op != "call_function" or not allowed(latest):
            return
        members.append(latest)
        frontier.remove(latest)
        frontier |= {n for n in latest.all_input_nodes if n not in tracer.placed}
        if not frontier:
            return
        if len(frontier) == 1:
            (source,) = frontier
            yield Region(tracer, source, result, tuple(reversed(members)))
