# SPDX-License-Identifier: Apache-2.0
"""name_roles: the decoder layers of a captured graph, and names of its parameters by their roles.

Exporters lose names. So a weight is named by what it is used for, as Llama's weights are called:
model.layers.0.self_attn.q_proj is the linear in front of the queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.fx

from gsqc.errors import ModelError
from gsqc.models import model_ops

Node = torch.fx.Node
_GATES = (model_ops.silu_gate, model_ops.gelu_gate, model_ops.relu_square_gate)
_CURVES = (model_ops.silu, model_ops.gelu, model_ops.relu, model_ops.relu_square)
_NORMS = (model_ops.rms_norm, model_ops.layer_norm)
_BESIDE = (
    *(model_ops.rope, model_ops.rope_pairs, model_ops.split_heads, model_ops.columns),
    *(model_ops.scale, model_ops.add_bias, *_NORMS),
)
"""What may stand between a linear and the place that gives it its role."""
MORE = "_more"
"""Ends the name of a parameter whose role another one has already."""


def name_roles(graph: torch.fx.Graph) -> dict[str, str]:
    """New names by the parameters' present ones. Calls get `meta["block"]` and `meta["module"]`.

    Raises ModelError for a graph without attention.
    """
    cuts = _cuts(graph)
    attentions = [n for n in graph.nodes if n.target is model_ops.attention]
    if not attentions:
        raise ModelError("the model has no attention", "gsqc compiles decoders")
    starts = [max((c for c in cuts if c < a), default=None) for a in attentions]
    if None in starts or len(set(starts)) != len(starts):
        raise ModelError(
            "the model's layers do not follow one another",
            "gsqc compiles decoders: an embedding, blocks one after the other, a head",
        )
    calls = [n for n in graph.nodes if n.op == "call_function"]
    found: list[Any] = [*starts, _end(calls, cuts, starts)]
    layer: dict[Node, int | None] = {}
    for node in calls:
        passed = sum(1 for start in found if start < node)
        layer[node] = passed - 1 if 0 < passed < len(found) else None
    names = _Names(graph)
    for number in range(len(attentions)):
        names.add_layer([n for n in calls if layer[n] == number], number)
    names.add_ends([n for n in calls if layer[n] is None], attentions[0])
    for node in calls:
        node.meta["block"] = layer[node]
        node.meta["module"] = names.module_of(node)
    return names.renamed


def _cuts(graph: torch.fx.Graph) -> list[Node]:
    """The calls that every way from the tokens to the logits passes, in order."""
    (result,) = graph.output_node().all_input_nodes
    frontier, cuts = {result}, []
    while frontier:
        latest = max(frontier)
        if latest.op != "call_function":
            break
        if len(frontier) == 1:
            cuts.append(latest)
        frontier.remove(latest)
        frontier |= {n for n in latest.all_input_nodes if n.op == "call_function"}
    return cuts[::-1]


def _end(calls: list[Node], cuts: list[Node], starts: list[Any]) -> Node:
    """The last node of the last layer: the layer is as long as the one before it, if that fits."""
    first = calls.index(starts[-1])
    if len(starts) > 1:
        length = first - calls.index(starts[-2])
        last = calls[min(first + length, len(calls) - 1)]
        before = calls[first - length + 1 : first + 1]
        if last in cuts and _kinds(before) == _kinds(calls[first + 1 : first + length + 1]):
            return last
    sums = [c for c in cuts if c.target is model_ops.add and starts[-1] < c]
    if not sums:
        raise ModelError(
            "the last layer does not end with a sum", "gsqc compiles decoders with residuals"
        )
    return sums[-1]


def _kinds(nodes: list[Node]) -> list[Any]:
    return [n.target for n in nodes]


class _Names:
    """Names by roles. `renamed` has them by the parameters' present ones."""

    def __init__(self, graph: torch.fx.Graph) -> None:
        self.renamed: dict[str, str] = {}
        self._taken: set[str] = set()
        self._modules: dict[Node, str] = {}

    def module_of(self, node: Node) -> str:
        """The path of the module that a call belongs to, or an empty text."""
        return self._modules.get(node, "")

    def _name(self, node: Node, module: str) -> None:
        """Name the parameters of a call, and of the bias behind a linear."""
        if node in self._modules:
            return
        self._modules[node] = module
        held = [a for a in node.all_input_nodes if "parameter" in a.meta]
        for parameter, kind in zip(held, ("weight", "bias"), strict=False):
            self._rename(parameter, f"{module}.{kind}")
        for user in node.users:
            if node.target is model_ops.linear and user.target is model_ops.add_bias:
                self._modules[user] = module
                bias: Any = user.args[1]
                self._rename(bias, f"{module}.bias")

    def _rename(self, parameter: Node, name: str) -> None:
        present = parameter.meta["parameter"]
        if present in self.renamed:  # it is used twice, as a tied table is
            return
        while name in self._taken:
            name = f"{name}{MORE}"
        self._taken.add(name)
        self.renamed[present] = name

    def add_layer(self, nodes: list[Node], number: int) -> None:
        """Name what one decoder layer has."""
        path = f"model.layers.{number}"
        (attention,) = [n for n in nodes if n.target is model_ops.attention]
        self._heads(attention, f"{path}.self_attn")
        self._linears(nodes, attention, path)
        self._norms(nodes, attention, path)
        for node in nodes:
            target: Any = node.target
            has_parameter = any("parameter" in a.meta for a in node.all_input_nodes)
            if has_parameter and node not in self._modules:
                self._name(node, f"{path}.{target.__name__}")

    def _heads(self, attention: Node, path: str) -> None:
        """The linears and norms of q, k and v."""
        ways = {letter: list(_way(a)) for letter, a in zip("qkv", attention.args, strict=False)}
        linears = {letter: way[-1] for letter, way in ways.items()}
        for letter, way in ways.items():
            for node in (n for n in way if n.target in _NORMS):
                self._name(node, f"{path}.{letter}_norm")
            together = [k for k, linear in linears.items() if linear is linears[letter]]
            if linears[letter].target is model_ops.linear:
                self._name(linears[letter], f"{path}.{''.join(together)}_proj")

    def _linears(self, nodes: list[Node], attention: Node, path: str) -> None:
        """The linear behind attention, and those of the feed-forward part."""
        linears = [n for n in nodes if n.target is model_ops.linear and n not in self._modules]
        behind = _behind(attention, nodes)
        for linear in (n for n in linears if n in behind):
            source = list(_way(linear.args[0]))[-1]
            if source.target is model_ops.merge_heads:
                self._name(linear, f"{path}.self_attn.o_proj")
        for node in (n for n in nodes if n.target in (*_GATES, *_CURVES)):
            inputs = [list(_way(a))[-1] for a in node.args]
            if node.target in _GATES and inputs[0] is inputs[1]:
                self._name(inputs[0], f"{path}.mlp.gate_up_proj")
                continue
            names = ("gate_proj", "up_proj") if node.target in _GATES else ("up_proj",)
            for linear, name in zip(inputs, names, strict=True):
                if linear.target is model_ops.linear:
                    self._name(linear, f"{path}.mlp.{name}")
        for linear in linears:
            if list(_way(linear.args[0]))[-1].target in (*_GATES, *_CURVES):
                self._name(linear, f"{path}.mlp.down_proj")

    def _norms(self, nodes: list[Node], attention: Node, path: str) -> None:
        """The norms of the residual stream, by their place before and behind the two parts."""
        norms = [n for n in nodes if n.target in _NORMS and n not in self._modules]
        linears = {m: n for n, m in self._modules.items() if n.target is model_ops.linear}
        first_mlp = [n for m, n in linears.items() if ".mlp." in m and "down" not in m]
        before = [n for n in norms if n < attention]
        feeding = [n for n in norms if any(n in m.all_input_nodes for m in first_mlp)]
        post = [n for n in norms if n not in before and n not in feeding]
        last = linears.get(f"{path}.mlp.down_proj")
        after = [n for n in post if last is not None and last < n]
        middle = [n for n in post if n not in after]
        for node in before:
            self._name(node, f"{path}.input_layernorm")
        for node in middle:
            self._name(node, f"{path}.post_attention_layernorm")
        feeds = "pre_feedforward_layernorm" if middle else "post_attention_layernorm"
        for node in (n for n in feeding if n not in before):
            self._name(node, f"{path}.{feeds}")
        for node in after:
            self._name(node, f"{path}.post_feedforward_layernorm")

    def add_ends(self, nodes: list[Node], attention: Node) -> None:
        """Name what stands before the layers and behind them. `attention` is the first one's."""
        kinds: dict[Any, str] = {
            model_ops.embedding: "model.embed_tokens",
            model_ops.position_embedding: "model.embed_positions",
            model_ops.linear: "lm_head",
        }
        for node in nodes:
            norm = "model.embed_layernorm" if node < attention else "model.norm"
            name = norm if node.target in _NORMS else kinds.get(node.target)
            if name is not None and any("parameter" in a.meta for a in node.all_input_nodes):
                self._name(node, name)


def _way(node: Any) -> Iterator[Node]:
    """A node and those before it, up to the first that does more than `_BESIDE`."""
    while isinstance(node, Node):
        yield node
        if node.target not in _BESIDE:
            return
        node = node.args[0]


def _behind(start: Node, nodes: list[Node]) -> set[Node]:
    """The nodes of a layer that depend on one of them."""
    found = {start}
    for node in nodes:
        if found & set(node.all_input_nodes):
            found.add(node)
    return found
