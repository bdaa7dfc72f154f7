# SPDX-License-Identifier: Apache-2.0
"""hoist_constants: what depends on frozen values alone is computed once: when a session or a
generation starts.

before:  wq = quantise(dequantise_q4_1(codes, …), bits=8)   c = gse_matmul(xq, wq)
after:   block_prepare(codes, …) -> wq      block_forward(x, wq): c = gse_matmul(xq, wq)

block_prepare runs once a session. block_prepare_decode runs once a generation, in which the adapter
does not change: its operands are made there. With small weights only generation has prepared
operands. The head's operands are made chunk by chunk at each use: that costs 0.3 % of a step on a
CPU, and holding them 29 MB. On an NPU it would be three quarters of the head's backward, so there
they are held.
"""

from __future__ import annotations

from collections.abc import Collection

from gsqc.graph.function import (
    Function,
    Node,
    copy_nodes,
    insert_first,
    insert_last,
    role_of,
    value_of,
)
from gsqc.graph.roles import FROZEN, Kind, Role
from gsqc.numerics.ops.registry import Kind as OpKind
from gsqc.numerics.ops.registry import Op
from gsqc.passes.add_loss import HEAD
from gsqc.passes.modes import BACKWARD, FORWARD, PREPARE, PREPARE_DECODE, generation_modes
from gsqc.passes.properties import HOISTED, NO_EQUAL_CALLS
from gsqc.passes.step import Step, graph_pass


def _constant_calls(function: Function, constant: Collection[Kind]) -> tuple[list[Node], set[Node]]:
    """The calls that depend on frozen placeholders alone, and those of them that leave the
    function.

    A view costs nothing: one that is needed outside stays in the function, and what it looks at is
    handed over.
    """
    found: dict[Node, None] = {}
    for node in function.graph.nodes:
        if (node.op == "placeholder" and role_of(node).kind in constant) or (
            node.op == "call_function" and all(a in found for a in node.all_input_nodes)
        ):
            found[node] = None
    leaving = {n for n in found if n.op == "call_function"}
    order = [n for n in found if n in leaving]
    for node in reversed(order):
        is_view = isinstance(node.target, Op) and node.target.kind is OpKind.VIEW
        if is_view and any(u not in leaving for u in node.users):
            leaving.discard(node)
    return order, leaving


def _key(node: Node, names: dict[Node, str]) -> str:
    """A name that is equal for equal computations on equal placeholders."""
    parts = [names.get(a, str(a)) if isinstance(a, Node) else str(a) for a in node.args]
    target = node.target.name if isinstance(node.target, Op) else "getitem"
    return f"{target}({', '.join(parts)}, {sorted(node.kwargs.items())})"


def hoist_from(
    name: str, functions: list[Function], constant: Collection[Kind], prefix: str = "prepared"
) -> Function:
    """Move what depends on `constant` placeholders alone out of all `functions` into one new
    function.

    Its results, and the placeholders that take them, are named `prefix`_….
    """
    prepare = Function(name, functions[0].block_kind)
    results: dict[str, Node] = {}
    copied: dict[str, Node] = {}
    for function in functions:
        found, leaving = _constant_calls(function, constant)
        names: dict[Node, str] = {n: n.name for n in function.placeholders.values()}
        mapping: dict[Node, Node] = {}
        for node in found:
            for arg in node.all_input_nodes:
                if arg.op == "placeholder" and arg not in mapping:
                    known = prepare.placeholders.get(arg.name)
                    mapping[arg] = known or insert_last(
                        prepare.graph, arg.name, value_of(arg), role_of(arg)
                    )
            names[node] = _key(node, names)
            if names[node] not in copied:
                copy_nodes([node], prepare.graph, mapping)
                copied[names[node]] = mapping[node]
            mapping[node] = copied[names[node]]
        for node in found:
            if node not in leaving or all(u in leaving for u in node.users):
                continue
            result = f"{prefix}_{mapping[node].name}"
            results[result] = mapping[node]
            role = Role(Kind.PREPARED, result)
            placeholder = insert_first(function.graph, result, value_of(node), role)
            node.replace_all_uses_with(
                placeholder,
                delete_user_cb=lambda u, leaving=leaving: u not in leaving,  # type: ignore[misc]
            )
        function.remove_dead()
    prepare.set_outputs({n: (node, Role(Kind.PREPARED, n)) for n, node in results.items()})
    prepare.remove_dead()
    return prepare


@graph_pass(requires=(NO_EQUAL_CALLS,), ensures=(HOISTED,))
def hoist_constants(step: Step) -> Step:
    """Add the prepare functions of the head and of each kind of block."""
    options, functions = step.options, step.functions
    if options.keep_head:
        step.add(hoist_from(f"{HEAD}_{PREPARE}", [functions[f"{HEAD}_{BACKWARD}"]], FROZEN))
    modes = generation_modes(options)
    for kind in step.parts.kinds:
        generation = [functions[mode.function(kind)] for mode in modes]
        training = [functions[f"{kind}_{part}"] for part in (FORWARD, BACKWARD)]
        kept = [*training, *generation] if options.keep_operands else generation
        step.add(hoist_from(f"{kind}_{PREPARE}", kept, FROZEN))
        trainable = {Kind.TRAINABLE}
        step.add(hoist_from(f"{kind}_{PREPARE_DECODE}", generation, trainable, "adapter"))
    return step
