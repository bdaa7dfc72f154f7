# SPDX-License-Identifier: Apache-2.0
"""convert_graph: the nodes of an exported program become calls of `gsqc.models.model_ops`, without
the batch dimension.

before:  v = aten.view(aten.linear(x, w), [1, T, H, D])   q = aten.transpose(v, 1, 2)
         g = aten.mul(aten.silu(a), b)
after:   q = split_heads(linear(x, w), heads=H)   g = silu_gate(a, b)

ensures: every result is [T, n] or [H, T, D]; nodes that change nothing are gone; all operators
without an entry in `gsqc.models.capture.rules` are reported in one UnsupportedOperatorError, by the
constructs that they belong to (`constructs`)
"""

from __future__ import annotations

from typing import Any

import torch.fx

from gsqc.errors import ModelError, UnsupportedOperatorError
from gsqc.models import model_ops
from gsqc.models.capture.export import WRAPPED, Exported
from gsqc.models.capture.forms import ExportedValue, Form, Unsupported
from gsqc.models.capture.graph_builder import GraphBuilder
from gsqc.models.capture.guess import guess
from gsqc.models.capture.known_rules import evaluated, is_known
from gsqc.models.capture.problems import Problem, described
from gsqc.models.capture.rules import RULES
from gsqc.models.capture.source import layer_index, module_path

Node = torch.fx.Node


class _Conversion:
    """One pass over an exported graph. What cannot be converted is collected, then raised once.

    A survey goes on behind an operator that cannot be converted, with a value of the form that its
    shape suggests. So it finds what else is missing. Its graph is of no use.
    """

    def __init__(self, exported: Exported, tokens: int, *, survey: bool = False) -> None:
        self.exported, self.builder = exported, GraphBuilder(exported, tokens)
        self.survey = survey
        self.guessed: set[Node] = set()
        self.problems: dict[Problem, None] = {}

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
            raise ModelError(
                "the model's result is not a row of logits for every token",
                "give the whole language model, with its head: …ForCausalLM",
            )
        if not self.problems:
            assert logits.node is not None
            node = logits.node
            if self.exported.classifies:
                node = _as_classifier(builder, node)
            builder.graph.output((node,))
            # A gate takes the place of its activation function, whose own call is then without use.
            builder.graph.eliminate_dead_code()
            builder.graph.lint()
        return builder.graph

    def _input(self, node: Node) -> ExportedValue:
        if node.name in self.exported.parameters:
            return ExportedValue(Form.PARAMETER, name=self.exported.parameters[node.name])
        if node.name in self.exported.numbers:
            return ExportedValue(Form.NUMBER, number=self.exported.numbers[node.name])
        if node.name in self.exported.known:
            return ExportedValue(Form.KNOWN, known=self.exported.known[node.name])
        forms = {"tokens": Form.TOKENS, "positions": Form.POSITIONS, "types": Form.TYPES}
        return ExportedValue(forms.get(node.name, Form.OTHER))

    def _call(self, node: Node) -> ExportedValue:
        rule = RULES.get(node.target)
        follows = any(a in self.guessed for a in node.all_input_nodes)
        if follows:
            self.guessed.add(node)
        try:
            if is_known(node, self.builder.values.__getitem__):
                return evaluated(node, self.builder.values.__getitem__)
            if rule is None:
                raise Unsupported("")
            if any(self.builder.values[a].form is Form.UNKNOWN for a in node.all_input_nodes):
                # A consequence of an operator that is reported already.
                return self._unknown(node)
            return rule(self.builder, node)
        except Unsupported as reason:
            problem = Problem.of(node, str(reason), WRAPPED)
            # What follows from a guess counts if it is missing whatever the guess is.
            if not follows or rule is None or problem.is_named:
                self.problems[problem] = None
        except Exception:
            if not follows:
                raise  # our own bug. Behind a guess it may be no more than a wrong guess
        return self._unknown(node)

    def _unknown(self, node: Node) -> ExportedValue:
        """The value of an operator that cannot be converted."""
        self.guessed.add(node)
        return guess(self.builder, node) if self.survey else ExportedValue(Form.UNKNOWN)


def _as_classifier(builder: GraphBuilder, logits: Node) -> Node:
    """The logits as those of a classifier. What made them of the last layer's result is one more
    layer, which has an adapter as the others have.
    """
    calls = [n for n in builder.graph.nodes if n.op == "call_function"]
    inside = [n.meta["block"] for n in calls if n.meta["block"] is not None]
    if inside:
        last = max(k for k, n in enumerate(calls) if n.meta["block"] is not None)
        for node in calls[last + 1 :]:
            node.meta["block"] = max(inside) + 1
    made = builder.emit(model_ops.class_logits, logits, shape=logits.meta["shape"])
    made.meta["block"] = None
    return made


def _live(graph: torch.fx.Graph) -> set[Node]:
    live: set[Node] = set()
    waiting = [graph.output_node()]
    while waiting:
        node = waiting.pop()
        if node not in live:
            live.add(node)
            waiting += node.all_input_nodes
    return live


def _error(problems: list[Problem], layers: int) -> UnsupportedOperatorError:
    known = ", ".join(
        sorted(
            f.__name__
            for f in vars(model_ops).values()
            if getattr(f, "__module__", "") == model_ops.__name__
        )
    )
    return UnsupportedOperatorError(
        described(problems, layers),
        "gsqc models lists the families that compile. "
        f"A model of your own compiles if it is made of {known}",
    )


def _layers(graph: torch.fx.Graph) -> int:
    """How many decoder layers an exported graph has."""
    return len({layer_index(module_path(n.meta, WRAPPED)) for n in graph.nodes} - {None})


def convert_graph(exported: Exported, tokens: int) -> torch.fx.Graph:
    """Raises UnsupportedOperatorError, which names all constructs that are missing, each with the
    source line of its first use.
    """
    conversion = _Conversion(exported, tokens)
    graph = conversion.run()
    if conversion.problems:
        survey = _Conversion(exported, tokens, survey=True)
        survey.run()
        problems = [*conversion.problems, *survey.problems]
        raise _error(list(dict.fromkeys(problems)), _layers(exported.graph))
    return graph
