# SPDX-License-Identifier: Apache-2.0
"""add_clipping: the norm of the whole gradient, matrix by matrix, and the scale that limits it.

before:  grad_high, grad_low (a matrix's summed gradient, on its grid)
after:   squares_16x576(grad_high, grad_low, total) -> total        clip_scale(total, 1 / tokens, clip) -> 1 / tokens

ensures: matrices of one shape share a function; the update takes the scale in place of 1 / tokens
"""

from __future__ import annotations

from gsqc.graph.function import Function, Node, add_call, add_placeholder
from gsqc.numerics.formats import Row, Spec
from gsqc.numerics.ops.clip import SQUARE_BITS, add_squares, clip_scale, row_squares
from gsqc.numerics.ops.layout import view
from gsqc.numerics.optim import CLIP_INPUTS

SCALE_INPUTS = ("inverse_tokens_m", "inverse_tokens_e")
TOTAL = "square_sum"
"""The buffer of the running ‖sum‖²."""


def squares_name(shape: tuple[int, int]) -> str:
    """The name of the function that adds a matrix of this shape to the norm."""
    return f"squares_{shape[0]}x{shape[1]}"


def total_value() -> Row:
    """‖sum‖² so far."""
    scalar = Spec((1, 1), "int32")
    return Row(scalar, scalar, SQUARE_BITS)


def _squares(shape: tuple[int, int]) -> Function:
    function = Function(squares_name(shape))
    graph = function.graph
    limbs = [
        add_placeholder(graph, f"grad_{limb}", Spec(shape, "int32")) for limb in ("high", "low")
    ]
    total = add_placeholder(graph, TOTAL, total_value())
    squares = add_call(graph, row_squares, *limbs)
    as_row = add_call(graph, view, squares, shape=(1, shape[0]), exponent_shape=(1, shape[0]))
    function.set_outputs({f"{TOTAL}_out": add_call(graph, add_squares, as_row, total)})
    return function


def _scale() -> Function:
    function = Function("clip_scale")
    inputs: list[Node] = [add_placeholder(function.graph, TOTAL, total_value())]
    inputs += [
        add_placeholder(function.graph, n, Spec((1, 1), "int32"))
        for n in (*SCALE_INPUTS, *CLIP_INPUTS)
    ]
    results = add_call(function.graph, clip_scale, *inputs)
    function.set_outputs(
        {f"{name}_out": node for name, node in zip(SCALE_INPUTS, results, strict=True)}
    )
    return function


def add_clipping(shapes: list[tuple[int, int]]) -> dict[str, Function]:
    """The functions by name."""
    functions = [_squares(shape) for shape in dict.fromkeys(shapes)]
    return {function.name: function for function in [*functions, _scale()]}
