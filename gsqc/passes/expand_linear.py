# SPDX-License-Identifier: Apache-2.0
"""expand_linear: each linear becomes the quantisation of its operands, the exact matmul, and one
rounding to rows.

before:  y = linear(x, w, x_bits=8, w_bits=8, bits=16)
after:   xq = quantise(x, bits=8)   wq = quantise(w, bits=8)   c = gse_matmul(xq, wq)   y = to_row(c, e(xq), e(wq)ᵀ)

requires: differentiate      ensures: every call is one kernel
"""

from __future__ import annotations

from typing import Any

import torch.fx

from gsqc.graph.function import Function, Node, add_call, is_call, results_of, shape_of, value_of
from gsqc.numerics.formats import Gse
from gsqc.numerics.ops.accumulate import accumulate_gradient, linear_accumulate
from gsqc.numerics.ops.layout import column_exponents, row_exponents
from gsqc.numerics.ops.linear import gse_matmul, linear, product_exponent, to_row
from gsqc.numerics.ops.quantise import quantise


def emit_product(
    graph: torch.fx.Graph, x: Node, w: Node, x_bits: int, w_bits: int
) -> tuple[Node, Node, Node, int]:
    """x · wᵀ from Rows or ready GSE operands: (int32 result, row exponents, column exponents,
    exponent offset).
    """
    qx = x if isinstance(value_of(x), Gse) else add_call(graph, quantise, x, bits=x_bits)
    qw = w if isinstance(value_of(w), Gse) else add_call(graph, quantise, w, bits=w_bits)
    c = add_call(graph, gse_matmul, qx, qw)
    offset = product_exponent(value_of(qx).bits, value_of(qw).bits, shape_of(qx)[-1])
    return c, add_call(graph, row_exponents, qx), add_call(graph, column_exponents, qw), offset


def emit_linear(
    graph: torch.fx.Graph, x: Node, w: Node, *, x_bits: int, w_bits: int, bits: int
) -> Node:
    """The expanded form of `linear`, for operands that may be GSE already."""
    c, row_e, column_e, offset = emit_product(graph, x, w, x_bits, w_bits)
    y: Node = add_call(graph, to_row, c, row_e, column_e, offset=offset, bits=bits)
    return y


def expand_linear(function: Function) -> Function:
    """Expand every linear and linear_accumulate; changes the function in place and returns it."""
    graph = function.graph
    for node in list(function.calls()):
        if is_call(node, linear):
            with graph.inserting_before(node):
                new = [emit_linear(graph, *node.args, **node.kwargs)]  # type: ignore[arg-type]
        elif is_call(node, linear_accumulate):
            x, w, high, low = node.args
            with graph.inserting_before(node):
                c, row_e, column_e, offset = emit_product(graph, x, w, **node.kwargs)  # type: ignore[arg-type]
                operands: Any = (c, row_e, column_e, high, low)
                new = list(add_call(graph, accumulate_gradient, *operands, offset=offset))
        else:
            continue
        for old, replacement in zip(results_of(node), new, strict=True):
            if old is not None:
                old.replace_all_uses_with(replacement)
    function.remove_dead()
    return function
