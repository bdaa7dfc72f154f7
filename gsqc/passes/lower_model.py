# SPDX-License-Identifier: Apache-2.0
"""lower_model: the float nodes of each part of the model become integer ops on typed values.

before:  y = linear(x, w)   p = attention(q, k, v)
after:   embed(tokens, table) -> x      head(x, …) -> logits
         block(x, …) -> x_out:   y: row16[T,n] = linear(x, w, x_bits=8, w_bits=8, bits=16)
                                 s = linear(q, k, …)   p = softmax(s)   …
         block_decode, embed_decode, head_decode: one token, with keys and values in caches
         block_prefill, …: several tokens of a prompt, if the target reads them at once

A model op without a rule here becomes the op of its name, with the same operands and attributes.
docs/number-format.md has the table of the widths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.errors import ModelError
from gsqc.graph.function import Function, Node, shape_of, value_of
from gsqc.graph.roles import STREAM_IN, STREAM_OUT, Kind, Notes, Role
from gsqc.models import model_ops
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.embedding import embedding
from gsqc.numerics.ops.layout import join_rows, take_leading, transpose
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.position_embedding import position_embedding
from gsqc.numerics.ops.registry import OPS
from gsqc.numerics.ops.rope import rope
from gsqc.numerics.ops.rope_pairs import halves_to_pairs, pairs_to_halves
from gsqc.numerics.ops.vocabulary import vocabulary_logits
from gsqc.passes.lower_attention import lower_attention
from gsqc.passes.lowering import ACTIVATION_BITS, STREAM_BITS, Lowering, row_type
from gsqc.passes.modes import Mode, generation_modes, training_mode
from gsqc.passes.outline import Part, Storage
from gsqc.passes.properties import OUTLINED, TYPED
from gsqc.passes.step import Step, StepOptions, graph_pass

# ------------------------------------------------------------------------------------------------
# rules


def _same_op(lowering: Lowering, node: Node) -> Any:
    """The op of the same name. Where it has several results, the first is the value."""
    name = node.target.__name__  # type: ignore[union-attr]
    result = lowering.call(OPS[name], *lowering.args(node), **node.kwargs)
    return result[0] if isinstance(result, tuple) else result


def _embedding(lowering: Lowering, node: Node) -> Any:
    table: Any = node.args[1]
    columns = table.meta["shape"][-1]
    return lowering.call(embedding, *lowering.args(node), columns=columns)


def _position_embedding(lowering: Lowering, node: Node) -> Any:
    positions, table = lowering.args(node)
    offset: Any = node.kwargs["offset"]
    if offset:
        count = shape_of(table)[0] - offset
        table = lowering.call(take_leading, table, start=offset, count=count)
    return lowering.call(position_embedding, positions, table)


def _linear(lowering: Lowering, node: Node) -> Any:
    """A product with a table gives logits; any other is a linear, which adapters may change."""
    x, w = lowering.args(node)
    weight: Any = node.args[1]
    if lowering.storage[weight] is Storage.TABLE:
        return lowering.call(vocabulary_logits, x, w)
    # What goes straight into the residual stream keeps the stream's width: a sum of many layers
    # would otherwise collect a rounding from each.
    into_stream = all(u.target is model_ops.add for u in node.users)
    bits = STREAM_BITS if into_stream else ACTIVATION_BITS
    options = lowering.options
    widths = {"x_bits": options.activation_bits, "w_bits": options.weight_bits}
    y: Node = lowering.call(linear, x, w, *lowering.balance(weight), **widths, bits=bits)
    name = lowering.linear_names[weight]
    y.meta["notes"] = Notes(gradient_bits=options.gradient_bits, linear=name)
    return y


def _rope(lowering: Lowering, node: Node) -> Any:
    return lowering.call(rope, *lowering.args(node), inverse=False)


def _rope_pairs(lowering: Lowering, node: Node) -> Any:
    x, *tables = lowering.args(node)
    width = 2 * shape_of(tables[0])[-1]
    halves = lowering.call(pairs_to_halves, x, width=width)
    rotated = lowering.call(rope, halves, *tables, inverse=False)
    return lowering.call(halves_to_pairs, rotated, width=width)


def _merge_heads(lowering: Lowering, node: Node) -> Any:
    (x,) = lowering.args(node)
    return lowering.call(join_rows, lowering.call(transpose, x, permutation=(1, 0, 2)))


def _add(lowering: Lowering, node: Node) -> Any:
    return lowering.call(add, *lowering.args(node), bits=STREAM_BITS)


def _attention(lowering: Lowering, node: Node) -> Any:
    scale: Any = node.kwargs["scale"]
    return lower_attention(lowering, *lowering.args(node), scale=float(scale))


_RULES: dict[Any, Callable[[Lowering, Node], Any]] = {
    model_ops.embedding: _embedding,
    model_ops.position_embedding: _position_embedding,
    model_ops.linear: _linear,
    model_ops.rope: _rope,
    model_ops.rope_pairs: _rope_pairs,
    model_ops.attention: _attention,
    model_ops.merge_heads: _merge_heads,
    model_ops.add: _add,
}


def _lower_nodes(lowering: Lowering) -> Any:
    """Lower the part's nodes in order; the last one's value."""
    nodes = lowering.part.nodes
    for node in nodes:
        for arg in node.all_input_nodes:
            if arg not in lowering.nodes and "constant" in arg.meta:
                lowering.add_constant(arg)
            if "positions" in arg.meta:
                lowering.nodes[arg] = lowering.position
        lowering.nodes[node] = _RULES.get(node.target, _same_op)(lowering, node)
    return lowering.nodes[nodes[-1]]


# ------------------------------------------------------------------------------------------------
# parts


def _stream(lowering: Lowering, what: str) -> Any:
    """The value of a part as the residual stream takes it. ModelError for another width."""
    value = _lower_nodes(lowering)
    if getattr(value_of(value), "bits", None) != STREAM_BITS:
        last = lowering.part.nodes[-1]
        name, line = getattr(last.target, "__name__", last.target), last.meta.get("source")
        raise ModelError(
            f"{what} ends with {name} ({line or 'unknown source'})",
            "gsqc compiles models whose layers follow an embedding or a sum directly",
        )
    return value


def _embed(part: Part, mode: Mode, options: StepOptions) -> Function:
    lowering = Lowering(part, mode, options, "embed")
    tokens = Role(Kind.INPUT, mode.inputs[0])
    lowering.nodes[part.input] = lowering.input("tokens", Spec((mode.tokens,), "int32"), tokens)
    lowering.add_parameters(in_block=False)
    lowering.function.set_outputs({"x": (_stream(lowering, "the embedding"), STREAM_OUT)})
    return lowering.function


def _block(part: Part, mode: Mode, options: StepOptions, kind: str, hidden: int) -> Function:
    lowering = Lowering(part, mode, options, kind, kind)
    x = lowering.input("x", row_type((mode.tokens, hidden), STREAM_BITS), STREAM_IN)
    lowering.nodes[part.input] = x
    # Asking makes the placeholder: here, so that it stands before the weights.
    assert lowering.position is not None
    lowering.add_parameters(in_block=True)
    out = _stream(lowering, "a decoder layer")
    lowering.function.set_outputs({"x_out": (out, STREAM_OUT), **lowering.next_caches})
    return lowering.function


def _head(part: Part, mode: Mode, options: StepOptions, hidden: int) -> Function:
    """From the stream to logits: of every token in training, of the last one in generation."""
    lowering = Lowering(part, mode, options, "head")
    x = lowering.input("x", row_type((mode.tokens, hidden), STREAM_BITS), STREAM_IN)
    lowering.add_parameters(in_block=False)
    # Of a chunk of a prompt only the last token's logits are used, and the table is the largest
    # product of all.
    if mode.generates and mode.tokens > 1:
        x = lowering.call(take_leading, x, start=mode.tokens - 1, count=1)
    lowering.nodes[part.input] = x
    logits: Any = _lower_nodes(lowering)
    # vocabulary_logits alone gives several results, one for each chunk of the vocabulary.
    if not isinstance(logits, tuple):
        raise ModelError(
            "the model's result is no product with a table of the vocabulary",
            "gsqc compiles models that end with a linear head",
        )
    named = {f"logits_{k}": node for k, node in enumerate(logits)}
    outputs = {name: (node, Role(Kind.OUTPUT, name)) for name, node in named.items()}
    lowering.function.set_outputs(outputs)
    return lowering.function


@graph_pass(requires=(OUTLINED,), ensures=(TYPED,))
def lower_model(step: Step) -> Step:
    """The functions embed, one for each kind of block, and head: for training, and for each mode of
    generation.
    """
    outline, options = step.parts, step.options
    # The stream is as wide as the embedding.
    table = next(p for p in outline.embed.parameters if p.storage is Storage.TABLE)
    hidden = table.shape[1]
    for mode in (training_mode(options), *generation_modes(options)):
        for kind, part in outline.kinds.items():
            step.add(_block(part, mode, options, kind, hidden))
        step.add(_embed(outline.embed, mode, options), _head(outline.head, mode, options, hidden))
    return step
