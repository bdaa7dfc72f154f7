# SPDX-License-Identifier: Apache-2.0
"""outline_blocks: the L identical decoder blocks of a model graph become one, called L times.

before:  x = embedding(tokens, table); x = add(x, linear(…, layers.0…)); … x = add(x, linear(…, layers.29…)); logits = …
after:   embed: [embedding]   block: [nodes of layer 0], parameters of each layer by position   head: [rms_norm, linear]

requires: every node knows its block (capture)      ensures: compile time and code size do not grow with depth
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.fx

from gsqc.errors import ModelError

Node = torch.fx.Node


@dataclass(frozen=True)
class Outline:
    """The parts of a decoder.

    `block` holds the nodes of the first layer, `parameters[i]` the names of layer i's parameters,
    in the order in which block's placeholders `block_parameters` are first used.
    """

    embed: list[Node]
    block: list[Node]
    head: list[Node]
    block_input: Node
    block_parameters: list[Node]
    parameters: list[list[str]]


def _is_parameter(node: Node) -> bool:
    return node.op == "placeholder" and "parameter" in node.meta


def _external_inputs(nodes: list[Node]) -> list[Node]:
    inside = set(nodes)
    seen: dict[Node, None] = {}
    for node in nodes:
        for arg in node.all_input_nodes:
            if arg not in inside:
                seen[arg] = None
    return list(seen)


def _canonical(nodes: list[Node]) -> list[Any]:
    """The block's structure without names: equal for identical blocks."""
    index = {n: ("node", k) for k, n in enumerate(nodes)}
    parameters = [n for n in _external_inputs(nodes) if _is_parameter(n)]

    def code(arg: Any) -> Any:
        if not isinstance(arg, Node):
            return arg
        if arg in index:
            return index[arg]
        if arg in parameters:
            return "parameter", parameters.index(arg)
        return ("constant", arg.meta["constant"]) if "constant" in arg.meta else "input"

    shape = [tuple(n.meta.get("shape", ())) for n in nodes]
    return [
        (n.target, tuple(code(a) for a in n.args), tuple(sorted(n.kwargs.items())), s)
        for n, s in zip(nodes, shape, strict=True)
    ]


def outline_blocks(graph: torch.fx.Graph) -> Outline:
    """Split a model graph; ModelError if its blocks differ or are not a chain."""
    blocks: dict[int, list[Node]] = {}
    embed: list[Node] = []
    head: list[Node] = []
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        block = node.meta.get("block")
        if block is not None:
            blocks.setdefault(block, []).append(node)
        else:
            (head if blocks else embed).append(node)
    if not blocks:
        raise ModelError("the model has no decoder layers", "gsqc compiles Llama-like decoders")
    layers = [blocks[k] for k in sorted(blocks)]
    first = _canonical(layers[0])
    different = [k for k, nodes in enumerate(layers) if _canonical(nodes) != first]
    if different:
        raise ModelError(
            f"decoder layer {different[0]} differs from layer 0 in its operators or shapes",
            "gsqc compiles models whose decoder layers are all alike",
        )
    inputs = [
        n for n in _external_inputs(layers[0]) if not _is_parameter(n) and "constant" not in n.meta
    ]
    if len(inputs) != 1:
        raise ModelError(
            f"decoder layer 0 takes {len(inputs)} activations, not one",
            "gsqc compiles plain decoders",
        )
    parameters = [
        [n.meta["parameter"] for n in _external_inputs(nodes) if _is_parameter(n)]
        for nodes in layers
    ]
    block_parameters = [n for n in _external_inputs(layers[0]) if _is_parameter(n)]
    return Outline(embed, layers[0], head, inputs[0], block_parameters, parameters)
