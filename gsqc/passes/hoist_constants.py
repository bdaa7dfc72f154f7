# SPDX-License-Identifier: Apache-2.0
"""hoist_constants: what depends on frozen weights alone is computed once, when a session starts.

before:  wq = quantise(dequantise_q4_1(codes, …), bits=8)   c = gse_matmul(xq, wq)
after:   prepare(codes, …) -> wq      forward(x, wq): c = gse_matmul(xq, wq)

requires: share_repeated
ensures: the functions given hold no dequantisation; all take what one prepare function returns
"""

from __future__ import annotations

from gsqc.graph.function import Function, Node, add_placeholder, copy_nodes, value_of
from gsqc.numerics.ops.registry import Kind, Op


def _constant_calls(function: Function) -> tuple[list[Node], set[Node]]:
    """The calls that depend on frozen placeholders alone, and those of them that leave the
    function.

    A view costs nothing: one that is needed outside stays in the function, and what it looks at is
    handed over.
    """
    found: dict[Node, None] = {}
    for node in function.graph.nodes:
        if (node.op == "placeholder" and node.meta.get("frozen")) or (
            node.op == "call_function" and all(a in found for a in node.all_input_nodes)
        ):
            found[node] = None
    leaving = {n for n in found if n.op == "call_function"}
    order = [n for n in found if n in leaving]
    for node in reversed(order):
        is_view = isinstance(node.target, Op) and node.target.kind is Kind.VIEW
        if is_view and any(u not in leaving for u in node.users):
            leaving.discard(node)
    return order, leaving


def _key(node: Node, names: dict[Node, str]) -> str:
    """A name that is equal for equal computations on equal placeholders."""
    parts = [names.get(a, str(a)) if isinstance(a, Node) else str(a) for a in node.args]
    target = node.target.name if isinstance(node.target, Op) else "getitem"
    return f"{target}({', '.join(parts)}, {sorted(node.kwargs.items())})"


def hoist_constants(name: str, functions: list[Function], prefix: str = "prepared") -> Function:
    """Move the constant calls of all `functions` into one new function, which is returned.

    Its results, and the placeholders that take them, are named `prefix`_….
    """
    prepare = Function(name)
    results: dict[str, Node] = {}
    copied: dict[str, Node] = {}
    for function in functions:
        constant, leaving = _constant_calls(function)
        names: dict[Node, str] = {n: n.name for n in function.placeholders.values()}
        mapping: dict[Node, Node] = {}
        for node in constant:
            for arg in node.all_input_nodes:
                if arg.op == "placeholder" and arg not in mapping:
                    mapping[arg] = prepare.placeholders.get(arg.name) or _copy_placeholder(
                        prepare, arg
                    )
            names[node] = _key(node, names)
            if names[node] not in copied:
                copy_nodes([node], prepare.graph, mapping)
                copied[names[node]] = mapping[node]
            mapping[node] = copied[names[node]]
        for node in constant:
            if node not in leaving or all(u in leaving for u in node.users):
                continue
            result = f"{prefix}_{mapping[node].name}"
            results[result] = mapping[node]
            with function.graph.inserting_before(next(iter(function.graph.nodes))):
                placeholder = add_placeholder(function.graph, result, value_of(node), prepared=True)
            node.replace_all_uses_with(
                placeholder,
                delete_user_cb=lambda u, leaving=leaving: u not in leaving,  # type: ignore[misc]
            )
        function.remove_dead()
    prepare.set_outputs(results)
    prepare.remove_dead()
    return prepare


def _copy_placeholder(prepare: Function, node: Node) -> Node:
    first = next((n for n in prepare.graph.nodes if n.op != "placeholder"), None)
    if first is None:
        return add_placeholder(prepare.graph, node.name, value_of(node), **_meta(node))
    with prepare.graph.inserting_before(first):
        return add_placeholder(prepare.graph, node.name, value_of(node), **_meta(node))


def _meta(node: Node) -> dict[str, object]:
    return {k: v for k, v in node.meta.items() if k != "value"}
