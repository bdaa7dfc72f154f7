# SPDX-License-Identifier: Apache-2.0
"""hoist_constants: what depends on frozen values alone is computed once, when a session or a
generation starts.

before:  block_forward(x, codes, …):  wq = quantise(dequantise_q4_1(codes, …), bits=8)
                                      c = gse_matmul(xq, wq)
after:   block_prepare(codes, …) -> wq
         block_forward(x, wq):        c = gse_matmul(xq, wq)

* block_prepare runs once a session. With small weights only generation has prepared operands.
* block_prepare_decode runs once a generation, in which the adapter does not change: the adapter's
  operands are made there.
* head_prepare is made for targets that ask for it. A CPU makes the head's operands chunk by chunk
  at each use: that costs 0.3 % of a step, and holding them 29 MB. On an NPU it would be three
  quarters of the head's backward.
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
from gsqc.graph.reach import nodes_from
from gsqc.graph.roles import FROZEN, Kind, Role
from gsqc.numerics.ops.registry import Kind as OpKind
from gsqc.numerics.ops.registry import Op
from gsqc.passes.add_loss import HEAD
from gsqc.passes.modes import BACKWARD, FORWARD, PREPARE, PREPARE_DECODE, generation_modes
from gsqc.passes.properties import HOISTED, NO_EQUAL_CALLS
from gsqc.passes.step import Step, graph_pass


def _constant_calls(function: Function, constant: Collection[Kind]) -> tuple[list[Node], set[Node]]:
    """The calls that depend on `constant` placeholders alone, and those of them that leave the
    function.
    """
    found = nodes_from(function, lambda role: role.kind in constant)
    order = [n for n in found if n.op == "call_function"]
    leaving = set(order)
    # A view costs nothing. One that the function still needs stays, and what it looks at is handed
    # over: so two views of one operand need one buffer. Backwards, for views of views.
    for node in reversed(order):
        is_view = isinstance(node.target, Op) and node.target.kind is OpKind.VIEW
        if is_view and any(u not in leaving for u in node.users):
            leaving.discard(node)
    return order, leaving


def _key(node: Node, names: dict[Node, str]) -> str:
    """A name that is equal for equal computations on equal placeholders."""
    # Functions are different graphs: their nodes can be compared by what they compute alone.
    parts = [names.get(a, str(a)) if isinstance(a, Node) else str(a) for a in node.args]
    target = node.target.name if isinstance(node.target, Op) else "getitem"
    return f"{target}({', '.join(parts)}, {sorted(node.kwargs.items())})"


def _copy_once(
    function: Function, calls: list[Node], prepare: Function, copied: dict[str, Node]
) -> dict[Node, Node]:
    """Copy calls into `prepare`, those aside that another function has brought: their copies.

    `copied` holds what `prepare` computes, by what it is; forward and backward share operands.
    """
    names: dict[Node, str] = {n: n.name for n in function.placeholders.values()}
    copies: dict[Node, Node] = {}
    for node in calls:
        for arg in node.all_input_nodes:
            if arg.op == "placeholder" and arg not in copies:
                known = prepare.placeholders.get(arg.name)
                copies[arg] = known or insert_last(
                    prepare.graph, arg.name, value_of(arg), role_of(arg)
                )
        names[node] = _key(node, names)
        if names[node] not in copied:
            copy_nodes([node], prepare.graph, copies)
            copied[names[node]] = copies[node]
        copies[node] = copied[names[node]]
    return copies


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
        copies = _copy_once(function, found, prepare, copied)
        for node in found:
            # What only the leaving calls use is a value inside of `prepare`.
            if node not in leaving or all(u in leaving for u in node.users):
                continue
            result = f"{prefix}_{copies[node].name}"
            results[result] = copies[node]
            role = Role(Kind.PREPARED, result)
            placeholder = insert_first(function.graph, result, value_of(node), role)
            node.replace_all_uses_with(
                placeholder,
                delete_user_cb=lambda u, leaving=leaving: u not in leaving,  # type: ignore[misc]
            )
        function.remove_dead()
    # The same role on both sides: by it list_buffers and build_schedules find the one buffer.
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
        names = [f"{kind}_{part}" for part in (FORWARD, BACKWARD)]
        training = [functions[name] for name in names if name in functions]
        # With small weights a step makes its operands each time, from codes that take a quarter of
        # the memory. A generation reads every weight for every token: there it does not pay.
        kept = [*training, *generation] if options.keep_operands else generation
        # Without anything to prepare for, the functions are there and empty.
        step.add(hoist_from(f"{kind}_{PREPARE}", kept or training, FROZEN if kept else ()))
        # What depends on frozen values alone is gone by now. With them, and not by them alone, the
        # adapter's matrices are shifted.
        of_adapter = {Kind.TRAINABLE, *FROZEN} if generation else ()
        reads = generation or training
        step.add(hoist_from(f"{kind}_{PREPARE_DECODE}", reads, of_adapter, "adapter"))
    return step
