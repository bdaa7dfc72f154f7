# SPDX-License-Identifier: Apache-2.0
"""Rules for tokens, their types and positions: the tables that they index, and an offset of
positions.
"""

from __future__ import annotations

from dataclasses import replace

from gsqc.errors import ModelError
from gsqc.models import model_ops
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported, shape_of
from gsqc.models.capture.graph_builder import GraphBuilder


def embedding(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.embedding(table, indices, …). ModelError if a learned table has too few positions."""
    indices = c.value_of(node.args[1], Form.TOKENS, Form.POSITIONS, Form.TYPES)
    name = c.value_of(node.args[0], Form.PARAMETER).name
    assert isinstance(node.args[0], Node)
    rows, width = shape_of(node.args[0])
    table = c.placeholder(name, (rows, width), parameter=name)
    shape = (c.tokens, width)
    if indices.form is Form.TOKENS:
        tokens = c.placeholder("tokens", (c.tokens,))
        return ExportedValue(Form.ROWS, c.emit(model_ops.embedding, tokens, table, shape=shape))
    if indices.form is Form.TYPES:  # a text has one part: all of its tokens are of type 0
        return ExportedValue(Form.ROWS, c.emit(model_ops.table_row, table, shape=shape, row=0))
    most = rows - indices.offset
    if c.tokens > most:
        raise ModelError(
            f"the model has learned {most} positions, the sequence has {c.tokens}",
            f"compile with a sequence length of at most {most}",
        )
    positions = c.placeholder("positions", (c.tokens,), positions="positions")
    made = c.emit(
        model_ops.position_embedding, positions, table, shape=shape, offset=indices.offset
    )
    return ExportedValue(Form.ROWS, made)


def shifted(c: GraphBuilder, node: Node) -> ExportedValue:
    """aten.add(positions, number)."""
    x, number = node.args
    if not isinstance(number, int) or number < 0 or node.kwargs.get("alpha", 1) != 1:
        raise Unsupported(f" of positions and {number}")
    value = c.value_of(x, Form.POSITIONS)
    return replace(value, offset=value.offset + number)
