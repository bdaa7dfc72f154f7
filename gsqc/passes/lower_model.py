# SPDX-License-Identifier: Apache-2.0
"""lower_model: the float nodes of a decoder block become integer ops on typed values.

before:  y = linear(x, w); p = attention(q, k, v)
after:   y: row16[T,n] = linear(x, w, x_bits=8, …)   s = linear(q, k, …)   p = softmax(s)   o = linear(p, vᵀ)

requires: outline_blocks ensures: every node has a type; frozen weights are placeholders with
`meta["weight"]`, tables with `meta["constant"]`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gsqc.compiler.options import Bits
from gsqc.graph.function import Function, Node, add_call, add_placeholder, shape_of, value_of
from gsqc.models import model_ops
from gsqc.numerics.formats import Row, Spec
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.cache import put_row, take_position
from gsqc.numerics.ops.layout import join_rows, reshape, split_heads, transpose, view
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.rms_norm import rms_norm
from gsqc.numerics.ops.rope import rope
from gsqc.numerics.ops.silu_gate import silu_gate
from gsqc.numerics.ops.softmax import softmax, softmax_at
from gsqc.passes.lower_chunk_attention import lower_chunk_attention
from gsqc.passes.outline_blocks import Outline
from gsqc.passes.split_attention import is_large

ATTENTION_BITS = 8
"""Attention and the head keep 8 bits whatever `--bits` says: they are a few percent of the work
(facts: numerics).
"""


POSITION: Any = object()
"""The key of the position's placeholder among the lowered nodes."""


def row_spec(shape: tuple[int, ...], bits: int) -> Row:
    """The type of a Row with an exponent per row."""
    return Row(
        Spec(shape, "int16" if bits <= 16 else "int32"), Spec((*shape[:-1], 1), "int32"), bits
    )


def short_name(parameter: str) -> str:
    """model.layers.3.self_attn.q_proj.weight -> q_proj; …input_layernorm.weight -> input_layernorm."""
    return parameter.removesuffix(".weight").rsplit(".", 1)[-1]


class _Lowering:
    def __init__(self, function: Function, bits: Bits, cached: int | None) -> None:
        self.graph, self.bits, self.cached = function.graph, bits, cached
        self.nodes: dict[Node, Node] = {}
        self.caches: dict[str, Node] = {}

    def call(self, node: Node) -> Node:
        rule: Callable[[_Lowering, Node], Node] = _RULES[node.target]
        return rule(self, node)

    def args(self, node: Node) -> list[Node]:
        return [self.nodes[a] for a in node.all_input_nodes]

    def linear(self, node: Node) -> Node:
        x, w = self.args(node)
        into_residual = all(u.target is model_ops.add for u in node.users)
        bits = 24 if into_residual else 16
        y: Node = add_call(
            self.graph, linear, x, w, x_bits=self.bits.a, w_bits=self.bits.a, bits=bits
        )
        y.meta.update(gradient_bits=self.bits.g, adapter=short_name(w.meta["weight"]))
        return y

    def rms_norm(self, node: Node) -> Node:
        y: Node = add_call(self.graph, rms_norm, *self.args(node), eps=node.kwargs["eps"])[0]
        return y

    def rope(self, node: Node) -> Node:
        y: Node = add_call(self.graph, rope, *self.args(node), inverse=False)
        return y

    def attention(self, node: Node) -> Node:
        """Heads that share a key-value head are rows of one product, so that nothing is repeated."""
        q, k, v = self.args(node)
        heads, tokens, width = shape_of(q)
        if self.cached is not None and tokens > 1:
            return self.chunk_attention(q, k, v, node.kwargs["scale"])
        if self.cached is not None:
            k, v = (self.remember(name, new) for name, new in (("keys", k), ("values", v)))
        groups = shape_of(k)[0]
        shared = heads // groups

        def product(x: Node, w: Node, bits: int) -> Node:
            y: Node = add_call(
                self.graph, linear, x, w, x_bits=ATTENTION_BITS, w_bits=ATTENTION_BITS, bits=bits
            )
            y.meta["gradient_bits"] = ATTENTION_BITS
            return y

        rows = (groups, shared * tokens)
        q = add_call(self.graph, view, q, shape=(*rows, width), exponent_shape=(*rows, 1))
        scores = product(q, k, 24)
        large = {"recompute": is_large(shape_of(scores))}
        scores.meta.update(large)
        split, columns = (groups, shared, tokens), shape_of(k)[1]
        scale = float(node.kwargs["scale"])  # type: ignore[arg-type]
        scores = add_call(
            self.graph, view, scores, shape=(*split, columns), exponent_shape=(*split, 1)
        )
        if self.cached is None:
            p = add_call(self.graph, softmax, scores, scale=scale)
        else:
            p = add_call(self.graph, softmax_at, scores, self.position(4), scale=scale)
        p.meta.update(large)
        p = add_call(self.graph, view, p, shape=(*rows, columns), exponent_shape=(*rows, 1))
        o = product(p, add_call(self.graph, transpose, v, permutation=(0, 2, 1)), 16)
        out: Node = add_call(
            self.graph, view, o, shape=(heads, tokens, width), exponent_shape=(heads, tokens, 1)
        )
        return out

    def position(self, rank: int) -> Node:
        """The token's position, as a tensor of some rank."""
        y: Node = add_call(self.graph, reshape, self.nodes[POSITION], shape=(1,) * rank)
        return y

    def chunk_attention(self, q: Node, k: Node, v: Node, scale: Any) -> Node:
        """Several tokens that join the caches."""
        old = self.cache("keys", k), self.cache("values", v)
        position, bits = self.nodes[POSITION], ATTENTION_BITS
        out, keys, values = lower_chunk_attention(
            self.graph, q, (k, v), old, position, scale=float(scale), bits=bits
        )
        self.caches |= {"keys_out": keys, "values_out": values}
        return out

    def cache(self, name: str, new: Node) -> Node:
        """The placeholder of a cache of what `new` holds for its tokens."""
        heads, _, width = shape_of(new)
        assert self.cached is not None
        return self.input(
            name, row_spec((heads, self.cached, width), value_of(new).bits), cache=True
        )

    def remember(self, name: str, new: Node) -> Node:
        """The cache with the token's row in its place."""
        cache: Node = add_call(self.graph, put_row, self.cache(name, new), new, self.position(3))
        self.caches[f"{name}_out"] = cache
        return cache

    def input(self, name: str, value: Any, **meta: Any) -> Node:
        first = next((n for n in self.graph.nodes if n.op != "placeholder"), None)
        if first is None:
            return add_placeholder(self.graph, name, value, **meta)
        with self.graph.inserting_before(first):
            return add_placeholder(self.graph, name, value, **meta)

    def constant(self, node: Node, tokens: int, half_width: int) -> Node:
        """A table with an entry per position; where there is a cache, the entries of the tokens'
        positions.
        """
        value = Spec((1, self.cached or tokens, half_width), "int32")
        table = self.input(
            node.meta["constant"], value, constant=node.meta["constant"], frozen=True
        )
        if self.cached is None:
            return table
        y: Node = add_call(self.graph, take_position, table, self.nodes[POSITION])
        return y

    def merge_heads(self, node: Node) -> Node:
        (x,) = self.args(node)
        y: Node = add_call(
            self.graph, join_rows, add_call(self.graph, transpose, x, permutation=(1, 0, 2))
        )
        return y

    def split_heads(self, node: Node) -> Node:
        y: Node = add_call(self.graph, split_heads, *self.args(node), heads=node.kwargs["heads"])
        return y

    def silu_gate(self, node: Node) -> Node:
        y: Node = add_call(self.graph, silu_gate, *self.args(node))
        return y

    def add(self, node: Node) -> Node:
        y: Node = add_call(self.graph, add, *self.args(node), bits=24)
        return y


_RULES: dict[Any, Callable[[_Lowering, Node], Node]] = {
    model_ops.linear: _Lowering.linear,
    model_ops.rms_norm: _Lowering.rms_norm,
    model_ops.rope: _Lowering.rope,
    model_ops.attention: _Lowering.attention,
    model_ops.merge_heads: _Lowering.merge_heads,
    model_ops.split_heads: _Lowering.split_heads,
    model_ops.silu_gate: _Lowering.silu_gate,
    model_ops.add: _Lowering.add,
}


def lower_model(
    outline: Outline,
    *,
    tokens: int,
    hidden: int,
    head_dim: int,
    shapes: dict[str, Any],
    bits: Bits,
    cached: int | None = None,
) -> Function:
    """The decoder block as a typed function x: row24[T,hidden] -> x; `shapes` gives each
    parameter's shape by name.

    With `cached`, the block of tokens at positions below `cached`, which read the keys and values
    of earlier ones: (x, position, keys, values) -> (x, keys, values).
    """
    function = Function("block")
    graph = function.graph
    lowering = _Lowering(function, bits, cached)
    lowering.nodes[outline.block_input] = add_placeholder(
        graph, "x", row_spec((tokens, hidden), 24)
    )
    if cached is not None:
        lowering.nodes[POSITION] = add_placeholder(graph, "position", Spec((tokens,), "int32"))
    for position, parameter in enumerate(outline.block_parameters):
        name = parameter.meta["parameter"]
        shape = shapes[name]
        value = row_spec(tuple(shape), 30) if len(shape) == 2 else row_spec((1, *shape), 16)
        meta = {"weight": name, "position": position, "frozen": True}
        lowering.nodes[parameter] = add_placeholder(graph, short_name(name), value, **meta)
    for node in outline.block:
        for arg in node.all_input_nodes:
            if arg not in lowering.nodes and "constant" in arg.meta:
                lowering.nodes[arg] = lowering.constant(arg, tokens, head_dim // 2)
        lowering.nodes[node] = lowering.call(node)
    function.set_outputs({"x_out": lowering.nodes[outline.block[-1]], **lowering.caches})
    return function
