# SPDX-License-Identifier: Apache-2.0
"""share_repeated: identical calls on identical operands are made once.

before:  a = quantise(h, bits=8)   …   c = quantise(h, bits=8)   y = gse_matmul(c, w)
after:   a = quantise(h, bits=8)   …   y = gse_matmul(a, w)

The products of q, k and v, for one, all quantise the same activations. Ops have no side effects, so
this cannot change a bit.
"""

from __future__ import annotations

from gsqc.graph.function import Function
from gsqc.passes.properties import NO_EQUAL_CALLS, ONE_KERNEL_A_CALL
from gsqc.passes.step import Step, graph_pass


def share_in_function(function: Function) -> None:
    """Merge the equal calls of one function."""
    # One walk is enough: users come later and are compared with the operands that were merged.
    seen: dict[object, object] = {}
    for node in list(function.graph.nodes):
        if node.op != "call_function":
            continue
        key = (
            node.target,
            tuple(node.args),
            tuple(sorted(node.kwargs.items(), key=lambda item: item[0])),
        )
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            function.graph.erase_node(node)


@graph_pass(requires=(ONE_KERNEL_A_CALL,), ensures=(NO_EQUAL_CALLS,))
def share_repeated(step: Step) -> Step:
    """Merge the equal calls of every function."""
    for function in step.functions.values():
        share_in_function(function)
    return step
