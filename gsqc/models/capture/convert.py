# SPDX-License-Identifier: Apache-2.0
"""convert_graph: the nodes of an exported program become calls of `gsqc.models.model_ops`, without
the batch dimension.

before:  v = aten.view(aten.linear(x, w), [1, T, H, D]); q = aten.transpose(v, 1, 2); g = aten.mul(aten.silu(a), b)
after:   q = split_heads(linear(x, w), heads=H); g = silu_gate(a, b)

ensures: every result is [T, n] or [H, T, D]; nodes that change nothing are gone; all operators
without an entry in `gsqc.models.capture.rules` are reported in one UnsupportedOperatorError
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.fx

from gsqc.errors import UnsupportedOperatorError
from gsqc.models import model_ops
from gsqc.models.capture.export import WRAPPED, Exported
from gsqc.models.capture.forms import ExportedValue, Form, Unsupported
from gsqc.models.capture.rules import RULES
from gsqc.models.capture.source import layer_index, module_path, source_line

Node = torch.fx.Node
SHOWN = 5
"""Operators that an error lists; the rest are counted."""


class Converter:
    """Builds the graph; the rules append to it through `emit` and the placeholder functions."""

    def __init__(self, exported: Exported, tokens: int) -> None:
        self.exported, self.tokens = exported, tokens
        self.graph = torch.fx.Graph()
        self.values: dict[Node, ExportedValue] = {}
        self.current: Node = next(iter(exported.graph.nodes))
        self._placeholders: dict[str, Node] = {}
        self._problems: dict[str, None] = {}
        self.placeholder("tokens", (tokens,))

    def placeholder(self, name: str, shape: tuple[int, ...], **meta: str) -> Node:
        """The graph's input of that name, made on first use, behind the other inputs."""
        if name not in self._placeholders:
            with self.graph.inserting_after(next(reversed(self._placeholders.values()), None)):
                node = self.graph.placeholder(name.replace(".", "_"))
            node.meta.update(shape=shape, **meta)
            self._placeholders[name] = node
        return self._placeholders[name]

    def emit(
        self, function: Callable[..., Any], *args: Node, shape: tuple[int, ...], **kwargs: Any
    ) -> Node:
        """Append a call, with the current exported node's place in the model."""
        node = self.graph.call_function(function, args, kwargs)
        path = module_path(self.current.meta, WRAPPED)
        node.meta.update(
            shape=shape, module=path, block=layer_index(path), source=source_line(self.current.meta)
        )
        return node

    def convert(self) -> torch.fx.Graph:
        """Convert every node that the logits depend on."""
        live = _live(self.exported.graph)
        for node in self.exported.graph.nodes:
            self.current = node
            if node.op == "placeholder":
                self.values[node] = self._input(node)
            elif node.op == "call_function" and node in live:
                self.values[node] = self._call(node)
        results: Any = self.exported.graph.output_node().args[0]
        logits = self.values[results[0]]
        if not self._problems and logits.form is not Form.ROWS:
            self._problems["the model's result: gsqc needs logits for every token"] = None
        if self._problems:
            raise _error(list(self._problems))
        self.graph.output((logits.node,))
        self.graph.lint()
        return self.graph

    def _input(self, node: Node) -> ExportedValue:
        if node.name in self.exported.parameters:
            return ExportedValue(Form.PARAMETER, name=self.exported.parameters[node.name])
        return ExportedValue(Form.TOKENS if node.name == "tokens" else Form.OTHER)

    def _call(self, node: Node) -> ExportedValue:
        rule = RULES.get(node.target)
        try:
            if rule is None:
                raise Unsupported("")
            if any(self.values[a].form is Form.UNKNOWN for a in node.all_input_nodes):
                return ExportedValue(
                    Form.UNKNOWN
                )  # a consequence of an operator that is reported already
            return rule(self, node)
        except Unsupported as reason:
            name = str(node.target).removesuffix(".default")
            self._problems[f"{name}{reason} at {source_line(node.meta)}"] = None
            return ExportedValue(Form.UNKNOWN)


def _live(graph: torch.fx.Graph) -> set[Node]:
    live: set[Node] = set()
    waiting = [graph.output_node()]
    while waiting:
        node = waiting.pop()
        if node not in live:
            live.add(node)
            waiting += node.all_input_nodes
    return live


def _error(problems: list[str]) -> UnsupportedOperatorError:
    shown = problems[:SHOWN]
    if len(problems) > SHOWN:
        shown.append(f"and {len(problems) - SHOWN} more")
    names = ", ".join(
        sorted(
            f.__name__
            for f in vars(model_ops).values()
            if getattr(f, "__module__", "") == model_ops.__name__
        )
    )
    return UnsupportedOperatorError(
        "\n  ".join(["the model uses operators that have no integer form:", *shown]),
        f"gsqc compiles models made of {names}; write the named lines with these, or choose another model",
    )


def convert_graph(exported: Exported, tokens: int) -> torch.fx.Graph:
    """Raises UnsupportedOperatorError, which names all operators without an entry and their source
    lines.
    """
    return Converter(exported, tokens).convert()
