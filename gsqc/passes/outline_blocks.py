# SPDX-License-Identifier: Apache-2.0
"""outline_blocks: the decoder blocks of a model graph become kinds, each called once per layer.

before:  x = embedding(tokens, table)
         x = add(x, linear(…, layers.0…))   …   x = add(x, linear(…, layers.29…))
         logits = linear(rms_norm(x), table)
after:   embed: [embedding]   kinds: {block: [nodes of layer 0]}   head: [rms_norm, linear]
         for each layer its kind and the names of its parameters

Blocks are of one kind if they have the same operators on the same shapes. Each kind is compiled
once, so compile time and code size do not grow with depth. Raises ModelError for a graph that is
not embedding, blocks in a row and head.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch.fx

from gsqc.errors import ModelError
from gsqc.models import expert_ops, model_ops
from gsqc.passes.outline import Outline, Parameter, Part, Storage
from gsqc.passes.properties import OUTLINED
from gsqc.passes.step import Step, graph_pass

Node = torch.fx.Node
FIRST_KIND = "block"
_HINT = "gsqc compiles decoders: an embedding, blocks one after the other, a head"


def _is_parameter(node: Node) -> bool:
    return node.op == "placeholder" and "parameter" in node.meta


def _inputs(nodes: list[Node]) -> list[Node]:
    """What the nodes take from outside, in the order of first use."""
    inside = set(nodes)
    return list(dict.fromkeys(a for n in nodes for a in n.all_input_nodes if a not in inside))


def _canonical(nodes: list[Node]) -> tuple[Any, ...]:
    """The structure without names: equal for blocks of one kind."""
    # Nodes and parameters are replaced by their places. A constant keeps its name: all layers read
    # the same table.
    index = {n: ("node", k) for k, n in enumerate(nodes)}
    parameters = [n for n in _inputs(nodes) if _is_parameter(n)]

    def code(arg: Any) -> Any:
        if not isinstance(arg, Node):
            return arg
        if arg in index:
            return index[arg]
        if arg in parameters:
            return "parameter", parameters.index(arg), tuple(arg.meta["shape"])
        return ("constant", arg.meta["constant"]) if "constant" in arg.meta else "input"

    return tuple(
        (
            n.target,
            tuple(code(a) for a in n.args),
            tuple(sorted(n.kwargs.items())),
            tuple(n.meta.get("shape", ())),
        )
        for n in nodes
    )


def _storage(node: Node, users: list[Node], *, in_block: bool) -> Storage:
    """How a bundle stores a parameter, by its rank in a block and by its use outside of blocks."""
    # A table is not coded in 4 bits: both uses, rows and logits, read GSE-8 as it is.
    if in_block:
        exact = len(node.meta["shape"]) < 2 or any(_reads_exactly(u, node) for u in users)
        return Storage.CODES_ROW if exact else Storage.CODES
    reads_rows = (model_ops.embedding, model_ops.linear)
    is_table = any(u.target in reads_rows and u.args[1] is node for u in users)
    return Storage.TABLE if is_table else Storage.ROW


def _reads_exactly(user: Node, parameter: Node) -> bool:
    """Whether a call reads a matrix that is small and decides much: a router, biases of experts."""
    if user.target is expert_ops.experts_down:
        weights: Any = user.args[0]
        return weights.target is expert_ops.routing
    return user.target in (expert_ops.router, expert_ops.add_expert_bias)


def _part(nodes: list[Node], what: str, *, in_block: bool) -> Part:
    """A piece of the graph. ModelError unless it takes one activation."""
    taken = _inputs(nodes)
    # Tables and positions are there for every part.
    known = {"parameter", "constant", "positions"}
    inputs = [n for n in taken if not known & set(n.meta)]
    if len(inputs) != 1:
        raise ModelError(f"{what} takes {len(inputs)} activations, not one", _HINT)
    parameters = []
    for node in (n for n in taken if _is_parameter(n)):
        users = [u for u in node.users if u in nodes]
        storage = _storage(node, users, in_block=in_block)
        shape = tuple(node.meta["shape"])
        parameters.append(Parameter(node, node.meta["parameter"], shape, storage))
    return Part(nodes, inputs[0], parameters)


def _check_chain(parts: list[tuple[str, list[Node]]], output: Node) -> None:
    """ModelError unless each part takes the last value of the one before it, and the last one's is
    the result.
    """
    # A block is called with the stream alone. A value that goes around a block, or out of it by
    # another way, would be lost without a word.
    for (before, nodes), (name, following) in pairwise(parts):
        leaving = {n for n in nodes if any(u not in nodes for u in n.users)}
        taken = {a for n in following for a in n.all_input_nodes}
        if leaving != {nodes[-1]} or nodes[-1] not in taken:
            line = nodes[-1].meta.get("source", "unknown source")
            raise ModelError(f"{name} does not take the result of {before} alone ({line})", _HINT)
    if parts[-1][1][-1] is not output:
        raise ModelError("the head's last operator does not give the model's result", _HINT)


@graph_pass(ensures=(OUTLINED,))
def outline_blocks(step: Step) -> Step:
    """Split the captured graph into embedding, kinds of blocks, and head."""
    blocks: dict[int, list[Node]] = {}
    embed: list[Node] = []
    head: list[Node] = []
    for node in (n for n in step.graph.nodes if n.op == "call_function"):
        block = node.meta.get("block")
        if block is not None:
            blocks.setdefault(block, []).append(node)
        else:
            # What belongs to no layer stands before the first block or after the last.
            (head if blocks else embed).append(node)
    if not blocks or not embed or not head:
        raise ModelError("the model lacks an embedding, decoder layers or a head", _HINT)
    layers = [blocks[k] for k in sorted(blocks)]
    numbered = [
        (f"decoder layer {k}", nodes) for k, nodes in zip(sorted(blocks), layers, strict=True)
    ]
    results: Any = step.graph.output_node().args[0]
    _check_chain([("the embedding", embed), *numbered, ("the head", head)], results[0])
    known: dict[Any, str] = {}
    kinds: dict[str, Part] = {}
    layer_kinds = []
    for (what, nodes), form in zip(numbered, map(_canonical, layers), strict=True):
        if form not in known:
            known[form] = f"{FIRST_KIND}_{len(known)}" if known else FIRST_KIND
            kinds[known[form]] = _part(nodes, what, in_block=True)
        layer_kinds.append(known[form])
    names = [[n.meta["parameter"] for n in _inputs(nodes) if _is_parameter(n)] for nodes in layers]
    first, last = (
        _part(nodes, what, in_block=False)
        for what, nodes in (("the embedding", embed), ("the head", head))
    )
    step.outline = Outline(first, kinds, last, layer_kinds, names)
    return step
