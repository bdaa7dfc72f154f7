# SPDX-License-Identifier: Apache-2.0
"""Rewriter: replaces parts of a traced graph by the operators that they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gsqc.models.capture.captured import add_constant
from gsqc.models.capture.programs.tracer import Node, Tracer, aten

Pattern = Callable[["Rewriter", Node], Node | None]
"""What a node is the end of, in place of it, or None."""
ELEMENTWISE = (
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar),
    *(aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor, aten.square.default, aten.neg.default),
    *(aten.sqrt.default, aten.rsqrt.default, aten.reciprocal.default, aten.abs.default),
    *(aten.add.Scalar, aten.sub.Scalar, aten.div.Scalar, aten.rsub.Scalar),
)
"""Operators on numbers, one by one."""


def of(*groups: tuple[Any, ...]) -> Callable[[Node], bool]:
    """Whether a node calls one of these operators."""
    targets = {target for group in groups for target in group}
    return lambda node: node.target in targets


class Rewriter:
    """Replaces nodes of a traced graph by the operators that they compute together.

    tables  cos and sin of rotary embeddings by name, float64 [T, W/2]
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.tables: dict[str, np.ndarray[Any, Any]] = {}

    def run(self, patterns: Mapping[Any, Sequence[Pattern]]) -> None:
        """Rewrite the whole graph by the patterns of each operator. Raises ModelError for attention
        that is not causal.
        """
        for node in list(self.tracer.graph.nodes):
            if node.op != "call_function":
                continue
            for pattern in patterns.get(node.target, ()):
                made = pattern(self, node)
                if made is not None:
                    node.replace_all_uses_with(made)
                    break
        self.tracer.graph.eliminate_dead_code()

    def before(self, node: Node, op: Any, *args: Any, **kwargs: Any) -> Node:
        """A new call in front of a node, in its place of the program."""
        return self.inserted(node, lambda tracer: tracer.call(op, *args, **kwargs))

    def inserted(self, node: Node, make: Callable[[Tracer], Any]) -> Node:
        """New calls in front of a node, in its place of the program."""
        self.tracer.place = str(node.meta.get("stack_trace", ""))
        with self.tracer.graph.inserting_before(node):
            made: Node = make(self.tracer)
        return made

    def table(self, name: str, numbers: Tensor) -> str:
        """The name of a table with these numbers: a known one, or a new one."""
        return add_constant(self.tables, name, numbers.double().numpy())
