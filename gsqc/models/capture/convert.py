# SPDX-License-Identifier: Apache-2.0
"""convert_graph: the nodes of an exported program become calls of `gsqc.models.model_ops`, without
the batch dimension.

before:  v = aten.view(aten.linear(x, w), [1, T, H, D])   q = aten.transpose(v, 1, 2)
         g = aten.mul(aten.silu(a), b)
after:   q = split_heads(linear(x, w), heads=H)   g = silu_gate(a, b)

ensures: every result is [T, n] or [H, T, D]; nodes that change nothing are gone; all operators
without an entry in `gsqc.models.capture.rules` are reported in one UnsupportedOperatorError
"""

from __future__ import annotations

from typing import Any

import torch.fx

from gsqc.errors import UnsupportedOperatorError
from gsqc.models import model_ops
from gsqc.models.capture.export import Exported
from gsqc.models.capture.forms import ExportedValue, Form, Unsupported
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.capture.rules import RULES
from gsqc.models.capture.source import source_line

Node = torch.fx.Node
SHOWN = 5
"""Operators that an error lists; the rest are counted."""


class _Conversion:
    """One pass over an exported graph. What cannot be converted is collected, then raised once."""

    def __init__(self, exported: Exported, tokens: int) -> None:
        self.exported, self.builder = exported, GraphBuilder(exported, tokens)
        self.problems: dict[str, None] = {}

    def run(self) -> torch.fx.Graph:
        """Convert every node that the logits depend on."""
        builder, live = self.builder, _live(self.exported.graph)
        for node in self.exported.graph.nodes:
            builder.current = node
            if node.op == "placeholder":
                builder.values[node] = self._input(node)
            elif node.op == "call_function" and node in live:
                builder.values[node] = self._call(node)
        results: Any = self.exported.graph.output_node().args[0]
        logits = builder.values[results[0]]
        if not self.problems and logits.form is not Form.ROWS:
            self.problems["the model's result: gsqc needs logits for every token"] = None
        if self.problems:
            raise _error(list(self.problems))
        builder.graph.output((logits.node,))
        # A gate takes the place of its activation function, whose own call is then without use.
        builder.graph.eliminate_dead_code()
        builder.graph.lint()
        return builder.graph

    def _input(self, node: Node) -> ExportedValue:
        if node.name in self.exported.parameters:
            return ExportedValue(Form.PARAMETER, name=self.exported.parameters[node.name])
        if node.name in self.exported.numbers:
            return ExportedValue(Form.NUMBER, number=self.exported.numbers[node.name])
        forms = {"tokens": Form.TOKENS, "positions": Form.POSITIONS}
        return ExportedValue(forms.get(node.name, Form.OTHER))

    def _call(self, node: Node) -> ExportedValue:
        rule = RULES.get(node.target)
        try:
            if rule is None:
                raise Unsupported("")
            if any(self.builder.values[a].form is Form.UNKNOWN for a in node.all_input_nodes):
                # A consequence of an operator that is reported already.
                return ExportedValue(Form.UNKNOWN)
            return rule(self.builder, node)
        except Unsupported as reason:
            name = str(node.target).removesuffix(".default")
            self.problems[f"{name}{reason} at {source_line(node.meta)}"] = None
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
        f"gsqc compiles models made of {names}. "
        "Write the named lines with these, or choose another model",
    )


def convert_graph(exported: Exported, tokens: int) -> torch.fx.Graph:
    """Raises UnsupportedOperatorError, which names all operators without an entry and their source
    lines.
    """
    return _Conversion(exported, tokens).run()
