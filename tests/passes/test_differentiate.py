# SPDX-License-Identifier: Apache-2.0
"""differentiate: what its walk must not lose or guess.

Its numbers are held against autograd in tests/compiler.
"""

from __future__ import annotations

import pytest

from gsqc.graph.function import Function, add_call, add_placeholder
from gsqc.graph.roles import STREAM_IN, STREAM_OUT, Kind, Notes, Role
from gsqc.numerics.formats import Row, Spec
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.embedding import master_row
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.rms_norm import rms_norm
from gsqc.numerics.ops.softmax import softmax_at
from gsqc.passes.differentiate import differentiate_function
from gsqc.passes.lowering import row_type


def block() -> tuple[Function, object]:
    function = Function("block", "block")
    return function, add_placeholder(function.graph, "x", row_type((4, 32), 24), STREAM_IN)


def test_a_linear_without_a_width_of_gradients() -> None:
    """It used to be taken for 8 bits."""
    function, x = block()
    matrix = add_placeholder(
        function.graph, "q_a", Spec((32, 32), "int32"), Role(Kind.TRAINABLE, "q_a")
    )
    rows = add_call(function.graph, master_row, matrix)
    y = add_call(function.graph, linear, x, rows, x_bits=8, w_bits=8, bits=24)
    function.set_outputs({"x_out": (y, STREAM_OUT)})
    with pytest.raises(AssertionError, match="a linear without gradient_bits"):
        differentiate_function(function)
    y.meta["notes"] = Notes(gradient_bits=6)
    function.name = "block"
    _, backward = differentiate_function(function)
    widths = {n.kwargs["x_bits"] for n in backward.calls() if n.target is linear}
    assert widths == {6}


def test_an_op_without_a_rule() -> None:
    function, x = block()
    where = add_placeholder(
        function.graph, "position", Spec((1, 1), "int32"), Role(Kind.INPUT, "p")
    )
    y = add_call(function.graph, softmax_at, x, where, scale=1.0)
    function.set_outputs({"x_out": (y, STREAM_OUT)})
    with pytest.raises(AssertionError, match=r"softmax_at .* has no gradient rule"):
        differentiate_function(function)


def test_a_gradient_that_reaches_only_a_second_result() -> None:
    """It used to be dropped."""
    function, x = block()
    weight = add_placeholder(
        function.graph, "w", row_type((1, 32), 16), Role(Kind.WEIGHT, "w", 0, "codes")
    )
    _, unit, _ = add_call(function.graph, rms_norm, x, weight, eps=1e-5)
    function.set_outputs({"x_out": (add_call(function.graph, add, unit, x, bits=24), STREAM_OUT)})
    with pytest.raises(AssertionError, match="a gradient reaches only a later result"):
        differentiate_function(function)


def test_a_value_that_is_used_twice_gets_both_gradients() -> None:
    function, x = block()
    twice = add_call(function.graph, add, x, x, bits=24)
    function.set_outputs({"x_out": (twice, STREAM_OUT)})
    forward, backward = differentiate_function(function)
    assert [n.target for n in backward.calls()] == [add]
    assert isinstance(backward.results["dx"].meta["value"], Row)
    assert list(forward.outputs) == ["x_out"]
