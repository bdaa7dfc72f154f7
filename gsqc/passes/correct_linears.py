# SPDX-License-Identifier: Apache-2.0
"""correct_linears: what `--pass lorc` does to a step (gsqc/passes/optional/lorc.py).

before:  y = linear(x, w)
after:   y = linear(x, w) + linear(linear(x, v), u)

U and V are placeholders as the codes of w are: arrays of the same weight, in each layer its own.
"""

from __future__ import annotations

from typing import Any

from gsqc.graph.function import (
    Function,
    Node,
    add_call,
    insert_first,
    is_call,
    notes_of,
    role_of,
    shape_of,
    value_of,
)
from gsqc.graph.roles import Notes, Role
from gsqc.models.low_rank import array_name
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.dequantise import dequantise_row16
from gsqc.numerics.ops.linear import linear
from gsqc.passes.properties import ADAPTED
from gsqc.passes.step import Pass, SideArrays, Step, graph_pass


def correct_linears(rank: int) -> Pass:
    """The pass for factors of a rank."""

    @graph_pass(requires=(ADAPTED,), ensures=(ADAPTED,))
    def lorc(step: Step) -> Step:
        # Training and generation have the same linears, so the last function speaks for all.
        functions = [f for f in step.functions.values() if f.block_kind is not None]
        corrected = {f.block_kind: _correct_function(f, rank) for f in functions}
        step.corrections = [
            SideArrays(layer, position, types)
            for layer, kind in enumerate(step.parts.layer_kinds)
            for position, types in corrected[kind].items()
        ]
        return step

    return lorc


def _correct_function(function: Function, rank: int) -> dict[int, dict[str, Spec]]:
    """Correct each linear of a coded weight. Gives the arrays' types by the weight's position."""
    found = {}
    for node in [n for n in function.calls() if is_call(n, linear)]:
        role = _codes_of(node)
        if role is not None and role.position is not None:
            found[role.position] = _correct(function, node, role, rank)
    return found


def _codes_of(node: Node) -> Role | None:
    """The role of the codes of the weight of a linear. An adapter's own products have none."""
    weight: Any = node.args[1]
    codes: Any = weight.args[0] if weight.op == "call_function" else weight
    role = role_of(codes) if codes.op == "placeholder" else None
    return role if role is not None and role.array == "codes" else None


def _correct(function: Function, node: Node, codes: Role, rank: int) -> dict[str, Spec]:
    """Put the sum in the place of a linear. Gives the types of its arrays."""
    graph = function.graph
    operands: Any = node.args
    x, w, *balance = operands
    rows, columns = shape_of(w)
    types: dict[str, Spec] = {}
    for name, shape in (("u", (rows, rank)), ("v", (rank, columns))):
        types[array_name(name, "codes")] = Spec(shape, "int16")
        types[array_name(name, "exponents")] = Spec((shape[0], 1), "int8")
    held = {
        key: insert_first(
            graph, f"{w.name}_{key}", spec, Role(codes.kind, codes.name, codes.position, key)
        )
        for key, spec in types.items()
    }
    width: Any = node.kwargs["x_bits"]
    own_width: Any = node.kwargs["w_bits"]

    def call(operation: Any, *values: Node, **attributes: Any) -> Any:
        with graph.inserting_before(node):
            return add_call(graph, operation, *values, **attributes)

    def factor(name: str, columns: int) -> Node:
        arrays = [held[array_name(name, key)] for key in ("codes", "exponents")]
        row: Node = call(dequantise_row16, *arrays, columns=columns)
        return row

    def times(bits: int, w_bits: int, *values: Node) -> Node:
        y: Node = call(linear, *values, x_bits=width, w_bits=w_bits, bits=bits)
        y.meta["notes"] = Notes(gradient_bits=notes_of(node).gradient_bits)
        return y

    inner = times(16, width, x, factor("v", columns), *balance)
    # Both are wider than the linear's own result: the sum is rounded once.
    outer = times(24, width, inner, factor("u", rank))
    own = times(24, own_width, x, w, *balance)
    node.replace_all_uses_with(call(add, own, outer, bits=value_of(node).bits))
    graph.erase_node(node)
    return types
