# SPDX-License-Identifier: Apache-2.0
"""add_loss: final norm, logits and cross-entropy over the vocabulary in chunks, forward and
backward.

before:  loss = cross_entropy(linear(rms_norm(x), table), labels)
after:   head_forward(x, labels, table)        -> loss per token, what backward needs
         head_backward(saved, weights, table, label_rows)  -> dx      the logits are made again, chunk by chunk;
                                                  label_rows are the labels' rows of the table,
                                                  which embed takes
         head_logits(x, table)                 -> the logits of one token, or of the last of a chunk

The gradient of the loss spans 20 octaves, so each chunk of P has its own row exponents, and the
one-hot is taken out: dh = Σ over chunks of P·W, minus the label's row of W (design.md, "The loss's
gradient").

requires: lower_model      ensures: logits never exist whole, and rows of weight 0 give no gradient
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gsqc.graph.function import Function, Node, add_call, add_placeholder
from gsqc.numerics.formats import Gse, Spec
from gsqc.numerics.ops.add import add, subtract_weighted
from gsqc.numerics.ops.cross_entropy import (
    cross_entropy_chunk,
    cross_entropy_loss,
    cross_entropy_probabilities,
    cross_entropy_start,
)
from gsqc.numerics.ops.embedding import embedding, gse_row
from gsqc.numerics.ops.layout import table_rows, take_leading, transpose
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.rms_norm import rms_norm, rms_norm_grad
from gsqc.passes.expand_linear import emit_linear
from gsqc.passes.lower_model import ATTENTION_BITS, row_spec

CHUNK = 4096
WIDTHS = {"x_bits": ATTENTION_BITS, "w_bits": ATTENTION_BITS}


def table_spec(vocabulary: int, hidden: int) -> Gse:
    """The type of the embedding table: GSE-8 along the hidden axis."""
    padded = -(-hidden // 32) * 32
    return Gse(
        Spec((vocabulary, padded), "int8"),
        Spec((vocabulary, padded // 32), "int8"),
        Spec((vocabulary, 1), "int32"),
        8,
    )


def _chunks(vocabulary: int) -> Iterator[tuple[int, int]]:
    return ((start, min(CHUNK, vocabulary - start)) for start in range(0, vocabulary, CHUNK))


class _Head:
    """One of the head's functions under construction, with the placeholders that all of them share."""

    def __init__(self, name: str, tokens: int, hidden: int, vocabulary: int) -> None:
        self.function = Function(name)
        self.tokens, self.hidden, self.vocabulary = tokens, hidden, vocabulary

    def call(self, operation: Any, *args: Node, **attributes: Any) -> Any:
        return add_call(self.function.graph, operation, *args, **attributes)

    def input(self, name: str, value: Any, **meta: Any) -> Node:
        return add_placeholder(self.function.graph, name, value, **meta)

    def table(self) -> Node:
        return self.input(
            "table", table_spec(self.vocabulary, self.hidden), table=True, frozen=True
        )

    def norm_weight(self) -> Node:
        return self.input("norm", row_spec((1, self.hidden), 16), norm=True, frozen=True)

    def column(self, name: str) -> Node:
        """An int32 per token, as a column."""
        return self.input(name, Spec((self.tokens, 1), "int32"))

    def logits(self, h: Node, table: Node, start: int, count: int) -> Node:
        part = self.call(table_rows, table, start=start, count=count)
        return emit_linear(self.function.graph, h, part, **WIDTHS, bits=24)


STATE = ("octaves", "mantissa", "exponent", "label_logit")


def _forward(head: _Head, eps: float) -> Function:
    x = head.input("x", row_spec((head.tokens, head.hidden), 24))
    labels, weight, table = head.column("labels"), head.norm_weight(), head.table()
    h, unit, scale = head.call(rms_norm, x, weight, eps=eps)
    state = head.call(cross_entropy_start, labels)
    for start, count in _chunks(head.vocabulary):
        logits = head.logits(h, table, start, count)
        state = head.call(cross_entropy_chunk, logits, labels, *state, first_column=start)
    saved = {"saved_h": h, "saved_unit": unit, "saved_scale": scale}
    saved |= {f"saved_{name}": node for name, node in zip(STATE[:3], state[:3], strict=True)}
    head.function.set_outputs({"loss": head.call(cross_entropy_loss, *state), **saved})
    return head.function


def _backward(head: _Head) -> Function:
    weights, table, norm = head.column("weights"), head.table(), head.norm_weight()
    h = head.input("saved_h", row_spec((head.tokens, head.hidden), 16))
    unit = head.input("saved_unit", row_spec((head.tokens, head.hidden), 16))
    scale = head.input("saved_scale", row_spec((head.tokens, 1), 31))
    state = [head.column(f"saved_{name}") for name in STATE[:3]]
    dh: Node | None = None
    for start, count in _chunks(head.vocabulary):
        logits = head.logits(h, table, start, count)
        p = head.call(cross_entropy_probabilities, logits, *state, weights)
        part = head.call(
            gse_row, head.call(table_rows, table, start=start, count=count), columns=head.hidden
        )
        columns = head.call(
            quantise, head.call(transpose, part, permutation=(1, 0)), bits=ATTENTION_BITS
        )
        chunk = emit_linear(head.function.graph, p, columns, **WIDTHS, bits=24)
        dh = chunk if dh is None else head.call(add, dh, chunk, bits=30)
    rows = head.input("label_rows", row_spec((head.tokens, head.hidden), 24))
    assert dh is not None
    dh = head.call(subtract_weighted, dh, rows, weights, bits=24)
    head.function.set_outputs({"dx": head.call(rms_norm_grad, dh, norm, unit, scale)})
    return head.function


def _logits(head: _Head, eps: float) -> Function:
    x = head.input("x", row_spec((head.tokens, head.hidden), 24))
    weight, table = head.norm_weight(), head.table()
    if head.tokens > 1:
        x = head.call(take_leading, x, start=head.tokens - 1, count=1)
    h, _, _ = head.call(rms_norm, x, weight, eps=eps)
    chunks = enumerate(_chunks(head.vocabulary))
    head.function.set_outputs(
        {f"logits_{k}": head.logits(h, table, start, count) for k, (start, count) in chunks}
    )
    return head.function


def add_loss(*, tokens: int, hidden: int, vocabulary: int, eps: float) -> tuple[Function, Function]:
    """head_forward and head_backward for T tokens."""
    forward, backward = (
        _Head(f"head_{part}", tokens, hidden, vocabulary) for part in ("forward", "backward")
    )
    return _forward(forward, eps), _backward(backward)


def build_logits(name: str, *, tokens: int, hidden: int, vocabulary: int, eps: float) -> Function:
    """The logits of the last of T tokens."""
    return _logits(_Head(name, tokens, hidden, vocabulary), eps)


def build_embed(name: str, *, tokens: int, hidden: int, vocabulary: int) -> Function:
    """embed(tokens, table) -> x."""
    head = _Head(name, tokens, hidden, vocabulary)
    ids = head.input("tokens", Spec((tokens,), "int32"))
    head.function.set_outputs({"x": head.call(embedding, ids, head.table(), columns=hidden)})
    return head.function
