# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a function depend on placeholders of some role, alone or among others."""

from __future__ import annotations

from collections.abc import Callable

from gsqc.graph.function import Function, Node, role_of
from gsqc.graph.roles import Role

RoleTest = Callable[[Role], bool]


def nodes_from(function: Function, is_source: RoleTest) -> list[Node]:
    """The sources, and the calls all of whose operands lead back to sources; in order."""
    found: dict[Node, None] = {}
    for node in function.graph.nodes:
        if node.op == "placeholder":
            is_found = is_source(role_of(node))
        else:
            is_found = node.op == "call_function" and all(a in found for a in node.all_input_nodes)
        if is_found:
            found[node] = None
    return list(found)


def nodes_reached(function: Function, is_source: RoleTest) -> set[Node]:
    """The sources, and the nodes that have an operand which a source reaches."""
    found: set[Node] = set()
    for node in function.graph.nodes:
        is_found = node.op == "placeholder" and is_source(role_of(node))
        if is_found or any(a in found for a in node.all_input_nodes):
            found.add(node)
    return found
