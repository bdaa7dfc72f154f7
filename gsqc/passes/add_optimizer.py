# SPDX-License-Identifier: Apache-2.0
"""add_optimizer: one update function for each shape of adapter matrix.

before:  grad_high, grad_low (the batch's summed gradient, on its grid)
after:   update_16x576(p, m, r, grad_high, grad_low, learning rate, …) -> p, m, r

ensures: matrices of one shape share a function; learning rate, decay and token count are integer
inputs of the step
"""

from __future__ import annotations

from typing import Any

from gsqc.graph.function import Function, add_call, add_placeholder
from gsqc.numerics.formats import Row, Spec
from gsqc.numerics.optim import OptimizerSpec


def update_name(shape: tuple[int, int]) -> str:
    """The name of the update function of an adapter matrix of this shape."""
    return f"update_{shape[0]}x{shape[1]}"


def state_values(optimizer: OptimizerSpec, shape: tuple[int, int]) -> dict[str, Any]:
    """The optimizer's state for one matrix: Rows by name."""
    return {
        name: Row(Spec(shape, "int32"), Spec((shape[0], 1), "int32"), bits)
        for name, bits in optimizer.state_bits.items()
    }


def add_optimizer(optimizer: OptimizerSpec, shapes: list[tuple[int, int]]) -> dict[str, Function]:
    """The update functions by name."""
    functions: dict[str, Function] = {}
    for shape in dict.fromkeys(shapes):
        function = Function(update_name(shape))
        graph = function.graph
        inputs = [add_placeholder(graph, "p", Spec(shape, "int32"))]
        states = state_values(optimizer, shape)
        inputs += [add_placeholder(graph, name, value) for name, value in states.items()]
        inputs += [
            add_placeholder(graph, f"grad_{limb}", Spec(shape, "int32")) for limb in ("high", "low")
        ]
        scalar = Spec((1, 1), "int32")
        inputs += [
            add_placeholder(graph, name, scalar, step_input=True) for name in optimizer.inputs
        ]
        results = add_call(graph, optimizer.op, *inputs, **optimizer.attributes)
        names = ["p", *states]
        function.set_outputs(
            {f"{name}_out": node for name, node in zip(names, results, strict=True)}
        )
        functions[function.name] = function
    return functions
