# SPDX-License-Identifier: Apache-2.0
"""Step graphs: torch.fx graphs whose nodes call gsqc ops on typed values, and their printed form.

A node carries three things in its `meta`, each with an accessor here: `value`, its type (a Row, a
Gse or a bare tensor of `Spec`); `role`, on placeholders; `notes`, on calls. An op with several
results is a call node followed by one `getitem` node for each result that is used.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch.fx

from gsqc.graph.roles import Notes, Role
from gsqc.numerics.formats import Value, describe
from gsqc.numerics.ops.registry import Op, trace

Node = torch.fx.Node


@dataclass
class Function:
    """A graph that is compiled once and called with different buffers.

    outputs     names of the results of the graph's output node, in order
    roles       the results' roles, by name
    block_kind  of a function that runs once for each decoder block of a kind: that kind; else None
    """

    name: str
    block_kind: str | None = None
    graph: torch.fx.Graph = field(default_factory=torch.fx.Graph)
    outputs: list[str] = field(default_factory=list)
    roles: dict[str, Role] = field(default_factory=dict)

    @property
    def placeholders(self) -> dict[str, Node]:
        """The graph's inputs by name."""
        return {n.name: n for n in self.graph.nodes if n.op == "placeholder"}

    @property
    def results(self) -> dict[str, Node]:
        """The output nodes by name."""
        nodes = self.graph.output_node().args[0]
        return dict(zip(self.outputs, nodes, strict=True))  # type: ignore[arg-type]

    def set_outputs(self, outputs: dict[str, tuple[Node, Role]]) -> None:
        """End the graph with these results, in place of those that it had."""
        for node in [n for n in self.graph.nodes if n.op == "output"]:
            self.graph.erase_node(node)
        self.outputs = list(outputs)
        self.roles = {name: role for name, (_, role) in outputs.items()}
        self.graph.output(tuple(node for node, _ in outputs.values()))

    def calls(self) -> Iterator[Node]:
        """The op calls, in execution order."""
        return (n for n in self.graph.nodes if n.op == "call_function" and isinstance(n.target, Op))

    def port_role(self, name: str) -> Role:
        """The role of a placeholder or a result."""
        return self.roles[name] if name in self.roles else role_of(self.placeholders[name])

    def next_values(self) -> dict[str, str]:
        """Results that are the next values of placeholders: result -> placeholder."""
        before = {role_of(node): name for name, node in self.placeholders.items()}
        return {name: before[role] for name, role in self.roles.items() if role in before}

    def remove_dead(self) -> None:
        """Drop calls and placeholders that no output depends on."""
        self.graph.eliminate_dead_code(lambda n: n.op in ("placeholder", "output"))
        for node in self.placeholders.values():
            if not node.users:
                self.graph.erase_node(node)


def value_of(node: Node) -> Value:
    """The type of a node."""
    return node.meta["value"]


def role_of(node: Node) -> Role:
    """The role of a placeholder."""
    role: Role = node.meta["role"]
    return role


def notes_of(node: Node) -> Notes:
    """What lowering noted on a call; empty notes if it noted nothing."""
    notes: Notes = node.meta.get("notes", Notes())
    return notes


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of a node's mantissas, or of a bare tensor."""
    return tuple(node.meta["value"].shape)


def is_call(node: Any, operation: Op) -> bool:
    """Whether the node calls the op."""
    return isinstance(node, Node) and node.target is operation


def add_placeholder(graph: torch.fx.Graph, name: str, value: Value, role: Role) -> Node:
    """A graph input of a given type and role, at the graph's insertion point."""
    node = graph.placeholder(name)
    assert node.name == name, f"{name} is taken or is no identifier"
    node.meta.update(value=value, role=role)
    return node


def insert_first(graph: torch.fx.Graph, name: str, value: Value, role: Role) -> Node:
    """A graph input before all nodes of the graph."""
    with graph.inserting_before(next(iter(graph.nodes), None)):
        return add_placeholder(graph, name, value, role)


def insert_last(graph: torch.fx.Graph, name: str, value: Value, role: Role) -> Node:
    """A graph input after the other inputs, before the first call."""
    first = next((n for n in graph.nodes if n.op != "placeholder"), None)
    if first is None:
        return add_placeholder(graph, name, value, role)
    with graph.inserting_before(first):
        return add_placeholder(graph, name, value, role)


def add_call(graph: torch.fx.Graph, operation: Op, *args: Node, **attributes: Any) -> Any:
    """Append a call with its type inferred; a tuple of nodes if the op has several results."""
    node = graph.call_function(operation, args, attributes)
    _, node.meta["value"] = trace(operation, [value_of(a) for a in args], attributes)
    if not isinstance(node.meta["value"], tuple):
        return node
    parts = []
    for k, value in enumerate(node.meta["value"]):
        part = graph.call_function(operator.getitem, (node, k))
        part.meta["value"] = value
        parts.append(part)
    return tuple(parts)


@dataclass(frozen=True)
class GraphCalls:
    """Calls that a composition adds to a graph, at its insertion point
    (`gsqc.numerics.ops.registry.Calls`).
    """

    graph: torch.fx.Graph

    def __call__(self, operation: Op, *values: Node, **attributes: Any) -> Any:
        """Append a call."""
        return add_call(self.graph, operation, *values, **attributes)

    def type_of(self, value: Node) -> Value:
        """The type of a node."""
        return value_of(value)


def results_of(node: Node) -> list[Node | None]:
    """A call's result nodes: itself, or its getitem nodes by index (None where unused)."""
    if not isinstance(value_of(node), tuple):
        return [node]
    parts: list[Node | None] = [None] * len(value_of(node))
    for user in node.users:
        if user.target is operator.getitem:
            parts[user.args[1]] = user  # type: ignore[index]
    return parts


def call_of(node: Node) -> Node:
    """The call that a result node comes from (itself for a placeholder)."""
    return node.args[0] if node.target is operator.getitem else node  # type: ignore[return-value]


def copy_nodes(nodes: list[Node], graph: torch.fx.Graph, mapping: dict[Node, Node]) -> None:
    """Copy calls into another graph; `mapping` holds what their arguments become, and gains the
    copies.
    """
    for node in nodes:
        mapping[node] = graph.node_copy(node, lambda n: mapping[n])
        mapping[node].meta = dict(node.meta)


def format_function(function: Function) -> str:
    """The graph in our notation: a line per op, `name: type = op(args, attributes)`."""
    lines = [f"function {function.name}("]
    lines += [
        f"  {node.name}: {describe(value_of(node))},  # {role_of(node)}"
        for node in function.placeholders.values()
    ]
    lines.append("):")
    for node in function.calls():
        names = ", ".join(p.name if p is not None else "_" for p in results_of(node))
        attributes = [f"{k}={v}" for k, v in node.kwargs.items()]
        arguments = ", ".join([*(str(a) for a in node.args), *attributes])
        target: Any = node.target
        lines.append(f"  {names}: {describe(value_of(node))} = {target.name}({arguments})")
    results = ", ".join(f"{k}={n.name}" for k, n in function.results.items())
    return "\n".join([*lines, f"  return {results}", ""])
