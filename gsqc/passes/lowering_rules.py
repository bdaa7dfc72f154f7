# SPDX-License-Identifier: Apache-2.0
"""What each op of a captured model becomes: the rules of lower_model.

A model op without a rule becomes the op of its name, with the same operands and attributes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.errors import ModelError
from gsqc.graph.function import Node, shape_of
from gsqc.graph.roles import Notes
from gsqc.models import model_ops
from gsqc.numerics.ops.add import add, add_number, scale, subtract
from gsqc.numerics.ops.embedding import embedding
from gsqc.numerics.ops.layer_norm import layer_norm
from gsqc.numerics.ops.layout import join_rows, split_heads, take_leading, transpose, view
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.position_embedding import position_embedding
from gsqc.numerics.ops.record_mean import record_mean
from gsqc.numerics.ops.registry import OPS, Op
from gsqc.numerics.ops.rms_norm import rms_norm
from gsqc.numerics.ops.rope import rope
from gsqc.numerics.ops.rope_pairs import halves_to_pairs, pairs_to_halves
from gsqc.numerics.ops.softcap import softcap
from gsqc.numerics.ops.vocabulary import vocabulary_logits
from gsqc.passes.lower_attention import lower_attention
from gsqc.passes.lower_experts import EXPERT_RULES
from gsqc.passes.lowering import (
    ACTIVATION_BITS,
    STREAM_BITS,
    VECTOR_BITS,
    Lowering,
    result_bits,
)
from gsqc.passes.outline import Storage


def same_op(lowering: Lowering, node: Node) -> Any:
    """The op of the same name. Where it has several results, the first is the value."""
    name = node.target.__name__  # type: ignore[union-attr]
    result = lowering.call(OPS[name], *lowering.args(node), **node.kwargs)
    return result[0] if isinstance(result, tuple) else result


def _table_row(lowering: Lowering, node: Node) -> Any:
    (table,) = lowering.args(node)
    return lowering.call(take_leading, table, start=node.kwargs["row"], count=1)


def _class_logits(lowering: Lowering, node: Node) -> Any:
    """The logits are results of the last block. A copy of them is the head's own, without loss."""
    (x,) = lowering.args(node)
    logits: Node = lowering.call(scale, x, factor=1.0, bits=STREAM_BITS)
    # They leave the function. So backward makes them again, and they are not saved beside.
    logits.meta["notes"] = Notes(recompute=True)
    return (logits,)


def _record_mean(lowering: Lowering, node: Node) -> Any:
    return lowering.call(record_mean, *lowering.args(node), lowering.position, bits=ACTIVATION_BITS)


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
        return _logits(lowering, node, x, w)
    options, bits = lowering.options, result_bits(lowering, node)
    widths = {"x_bits": options.activation_bits, "w_bits": options.weight_bits}
    y: Node = lowering.call(linear, x, w, *lowering.balance(weight), **widths, bits=bits)
    name = lowering.linear_names[weight]
    y.meta["notes"] = Notes(gradient_bits=options.gradient_bits, linear=name)
    return y


def _add_bias(lowering: Lowering, node: Node) -> Any:
    x, bias = lowering.args(node)
    if isinstance(x, tuple):  # logits: `_logits` has seen to it
        return x
    return lowering.call(add, x, bias, bits=result_bits(lowering, node))


def _scale(lowering: Lowering, node: Node) -> Any:
    (x,) = lowering.args(node)
    if isinstance(x, tuple):  # logits: `_logits` has seen to it
        return x
    return lowering.call(scale, x, **node.kwargs, bits=result_bits(lowering, node))


_AFTER_TABLE = (model_ops.scale, model_ops.add_bias, model_ops.softcap)
"""What may be done to logits, each once and in this order."""


def _logits(lowering: Lowering, product: Node, x: Node, table: Node) -> Any:
    """The logits of a product with a table, and of all that is done to it.

    A factor of the logits becomes one of x, which costs a row of x in place of one of logits.
    Raises ModelError.
    """
    bias, cap, node, last = [], {}, product, -1
    while (user := next(iter(node.users), None)) is not None and user.target in _AFTER_TABLE:
        place = _AFTER_TABLE.index(user.target)
        if place <= last:
            raise ModelError(
                f"the logits go through {user.target.__name__} after other things "
                f"({user.meta.get('source', 'unknown source')})",
                "gsqc compiles logits with a factor, a bias and a softcap, in this order",
            )
        if user.target is model_ops.scale:
            x = lowering.call(scale, x, **user.kwargs, bits=ACTIVATION_BITS)
        elif user.target is model_ops.add_bias:
            bias = [lowering.nodes[user.args[1]]]  # type: ignore[index]
        else:
            cap = {"cap": user.kwargs["cap"]}
        node, last = user, place
    if node is not lowering.part.nodes[-1]:
        raise ModelError(
            "the model has what gsqc does not compile: a head of several linears\n"
            f"  a head of several linears at {product.meta.get('source', 'unknown source')}",
            "gsqc compiles a head of one linear, which gives the logits",
        )
    return lowering.call(vocabulary_logits, x, table, *bias, **cap)


def _rms_norm(lowering: Lowering, node: Node) -> Any:
    x, weight = lowering.args(node)
    attributes = dict(node.kwargs)
    if offset := attributes.pop("offset", None):
        weight = lowering.call(add_number, weight, number=offset, bits=VECTOR_BITS)
    return _normed(lowering, rms_norm, x, weight, **attributes)


def _layer_norm(lowering: Lowering, node: Node) -> Any:
    x, *affine = lowering.args(node)
    attributes = dict(node.kwargs)
    if offset := attributes.pop("offset", None):
        affine[0] = lowering.call(add_number, affine[0], number=offset, bits=VECTOR_BITS)
    return _normed(lowering, layer_norm, x, *affine, **attributes)


def _normed(lowering: Lowering, norm: Op, x: Node, *vectors: Node, **attributes: Any) -> Any:
    """The norm of each row, or of each head."""
    *lead, width = shape_of(x)
    if len(lead) > 1:  # each head is a row
        rows = math.prod(lead)
        x = lowering.call(view, x, shape=(rows, width), exponent_shape=(rows, 1))
    y, *_ = lowering.call(norm, x, *vectors, **attributes)
    if len(lead) > 1:
        y = lowering.call(view, y, shape=(*lead, width), exponent_shape=(*lead, 1))
    return y


def _rope(lowering: Lowering, node: Node) -> Any:
    return lowering.call(rope, *lowering.args(node), inverse=False)


def _rope_pairs(lowering: Lowering, node: Node) -> Any:
    x, *tables = lowering.args(node)
    width = 2 * shape_of(tables[0])[-1]
    halves = lowering.call(pairs_to_halves, x, width=width)
    rotated = lowering.call(rope, halves, *tables, inverse=False)
    return lowering.call(halves_to_pairs, rotated, width=width)


def _softcap(lowering: Lowering, node: Node) -> Any:
    (x,) = lowering.args(node)
    if isinstance(x, tuple):  # logits: `_logits` has seen to it
        return x
    return lowering.call(softcap, x, factor=1.0, **node.kwargs, bits=ACTIVATION_BITS)


def _merge_heads(lowering: Lowering, node: Node) -> Any:
    (x,) = lowering.args(node)
    return lowering.call(join_rows, lowering.call(transpose, x, permutation=(1, 0, 2)))


def _add(lowering: Lowering, node: Node) -> Any:
    x, y = lowering.args(node)
    if shape_of(x)[0] < shape_of(y)[0]:  # one row for all tokens
        x, y = y, x
    return lowering.call(add, x, y, bits=STREAM_BITS)


def _attention(lowering: Lowering, node: Node) -> Any:
    q, k, v, *of_heads = lowering.args(node)
    bias = _bias_of_heads(node.all_input_nodes[1])
    if bias is not None and not node.kwargs.get("sinks"):
        # The same vector taken from all keys changes no probability. A large bias would take the
        # bits of all else: without it, what its rotation leaves is small at low frequencies. But a
        # sink would weigh more or less beside them.
        row = lowering.call(split_heads, lowering.nodes[bias], heads=shape_of(k)[0])
        k = lowering.call(subtract, k, row, bits=ACTIVATION_BITS)
    return lower_attention(lowering, q, k, v, *of_heads, **node.kwargs)


_ROTATIONS = (model_ops.rope, model_ops.rope_pairs)


def _bias_of_heads(k: Node) -> Node | None:
    """The bias that captured heads of keys got before they were rotated, or None."""
    if k.target in _ROTATIONS:
        k = k.all_input_nodes[0]
    if k.target is not model_ops.split_heads:
        return None
    rows = k.all_input_nodes[0]
    return rows.all_input_nodes[1] if rows.target is model_ops.add_bias else None


RULES: dict[Any, Callable[[Lowering, Node], Any]] = {
    model_ops.embedding: _embedding,
    model_ops.table_row: _table_row,
    model_ops.class_logits: _class_logits,
    model_ops.record_mean: _record_mean,
    model_ops.linear: _linear,
    model_ops.position_embedding: _position_embedding,
    model_ops.rope: _rope,
    model_ops.rope_pairs: _rope_pairs,
    model_ops.attention: _attention,
    model_ops.merge_heads: _merge_heads,
    model_ops.add: _add,
    model_ops.add_bias: _add_bias,
    model_ops.scale: _scale,
    model_ops.rms_norm: _rms_norm,
    model_ops.layer_norm: _layer_norm,
    model_ops.softcap: _softcap,
    **EXPERT_RULES,
}
