# SPDX-License-Identifier: Apache-2.0
"""add_lora: give every selected linear a trainable low-rank branch. Hu et al. 2021, "LoRA".

before:  y = linear(x, w)
after:   u = linear(x, a)   y = linear(x, w) + linear(alpha / rank · u, b)        a [rank, k]   b [n, rank], zero

requires: lower_model      ensures: the first step's output is that of the base, because b is zero
"""

from __future__ import annotations

from gsqc.compiler.options import AdapterOptions
from gsqc.graph.function import (
    Function,
    Node,
    add_call,
    add_placeholder,
    is_call,
    shape_of,
    value_of,
)
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.add import add, scale
from gsqc.numerics.ops.embedding import master_row
from gsqc.numerics.ops.linear import linear

LINEARS = {
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
}


def _trainable(function: Function, name: str, shape: tuple[int, int]) -> Node:
    """A placeholder for an adapter matrix, and its value as rows."""
    with function.graph.inserting_before(next(iter(function.graph.nodes))):
        node = add_placeholder(function.graph, name, Spec(shape, "int32"), trainable=name)
    return node


def _add_branch(function: Function, node: Node, name: str, options: AdapterOptions) -> None:
    """y = base + branch, in place of `node`."""
    graph = function.graph
    x, w = node.args
    assert isinstance(x, Node) and isinstance(w, Node)
    n, k = shape_of(w)
    bits = value_of(node).bits
    a, b = (
        _trainable(function, f"{name}_a", (options.rank, k)),
        _trainable(function, f"{name}_b", (n, options.rank)),
    )
    with graph.inserting_before(node):
        widths = {key: node.kwargs[key] for key in ("x_bits", "w_bits")}
        base = add_call(graph, linear, x, w, **widths, bits=24)
        u = add_call(graph, linear, x, add_call(graph, master_row, a), **widths, bits=16)
        scaled = add_call(graph, scale, u, factor=options.alpha / options.rank, bits=16)
        branch = add_call(graph, linear, scaled, add_call(graph, master_row, b), **widths, bits=24)
        total = add_call(graph, add, base, branch, bits=bits)
    for call in (base, u, branch):
        call.meta["gradient_bits"] = node.meta["gradient_bits"]
    node.replace_all_uses_with(total)
    graph.erase_node(node)


def add_lora(function: Function, options: AdapterOptions) -> Function:
    """Add a branch to each linear of `options.linears`; changes the function in place and returns
    it.
    """
    wanted = {LINEARS[short]: short for short in options.linears}
    for node in list(function.calls()):
        if is_call(node, linear) and node.meta.get("adapter") in wanted:
            _add_branch(function, node, wanted[node.meta["adapter"]], options)
    return function
