# SPDX-License-Identifier: Apache-2.0
"""add_clipping: the norm of the whole gradient, matrix by matrix, and the scale that limits it.

before:  grad_high, grad_low (a matrix's summed gradient, on its grid)
after:   squares_16x576(grad_high, grad_low, total) -> total
         clip_scale(total, 1 / tokens, clip) -> 1 / tokens

The update takes the scale in place of 1 / tokens, so it is the same function with clipping and
without. Pascanu et al. 2013, arXiv 1211.5063.
"""

from __future__ import annotations

from gsqc.graph.function import Function, Node, add_call, add_placeholder
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Row, Spec
from gsqc.numerics.ops.clip import SQUARE_BITS, add_squares, clip_scale, row_squares
from gsqc.numerics.ops.layout import view
from gsqc.numerics.optim.optimizer import CLIP_INPUTS
from gsqc.passes.differentiate import LIMBS
from gsqc.passes.properties import ADAPTED, CLIPPING_ADDED
from gsqc.passes.step import Step, graph_pass

SCALE_INPUTS = ("inverse_tokens_m", "inverse_tokens_e")
TOTAL = "square_sum"
"""The buffer of the running ‖sum‖²."""
CLIP_SCALE = "clip_scale"
_SCALAR = Spec((1, 1), "int32")
_TOTAL_ROLE = Role(Kind.NORM, TOTAL)


def squares_name(shape: tuple[int, int]) -> str:
    """The name of the function that adds a matrix of this shape to the norm."""
    return f"squares_{shape[0]}x{shape[1]}"


def _total(function: Function) -> Node:
    """‖sum‖² so far."""
    return add_placeholder(function.graph, TOTAL, Row(_SCALAR, _SCALAR, SQUARE_BITS), _TOTAL_ROLE)


def _squares(shape: tuple[int, int]) -> Function:
    function = Function(squares_name(shape))
    graph, matrix = function.graph, Spec(shape, "int32")
    limbs = [
        add_placeholder(graph, f"grad_{limb}", matrix, Role(Kind.SUM, f"grad_{limb}"))
        for limb in LIMBS
    ]
    total = _total(function)
    squares = add_call(graph, row_squares, *limbs)
    # A column of one number a row. Seen as one row, with an exponent each, it can be summed.
    row = (1, shape[0])
    as_row = add_call(graph, view, squares, shape=row, exponent_shape=row)
    # The result has the role of the input. So it is written over the same buffer, and the calls of
    # several matrices add up.
    sum_ = add_call(graph, add_squares, as_row, total)
    function.set_outputs({f"{TOTAL}_out": (sum_, _TOTAL_ROLE)})
    return function


def _scale() -> Function:
    function = Function(CLIP_SCALE)
    inputs: list[Node] = [_total(function)]
    for name in (*SCALE_INPUTS, *CLIP_INPUTS):
        role = Role(Kind.INPUT, name)
        inputs.append(add_placeholder(function.graph, name, _SCALAR, role))
    results = add_call(function.graph, clip_scale, *inputs)
    # The scale is written over 1 / tokens: the update does not know whether it was clipped.
    named = zip(SCALE_INPUTS, results, strict=True)
    function.set_outputs({f"{n}_out": (node, Role(Kind.INPUT, n)) for n, node in named})
    return function


@graph_pass(requires=(ADAPTED,), ensures=(CLIPPING_ADDED,))
def add_clipping(step: Step) -> Step:
    """Add the functions of the norm, one for each shape of matrix, and that of the scale. There is
    nothing to add if the optimizer takes no gradients.
    """
    if not step.options.optimizer.differentiates:
        return step
    for shape in dict.fromkeys(p.shape for p in step.adapters.values()):
        step.add(_squares(shape))
    step.add(_scale())
    return step
