# SPDX-License-Identifier: Apache-2.0
"""share_repeated: identical calls on identical operands are made once (q, k and v quantise the same
activations).

before:  a = quantise(h, bits=8)   …   c = quantise(h, bits=8)
after:   a = quantise(h, bits=8)   …   (c is a)

requires: expand_linear      ensures: no two calls of a function are equal
"""

from __future__ import annotations

from gsqc.graph.function import Function


def share_repeated(function: Function) -> Function:
    """Merge equal calls; changes the function in place and returns it."""
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
    return function
