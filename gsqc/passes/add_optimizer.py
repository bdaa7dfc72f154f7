# SPDX-License-Identifier: Apache-2.0
"""add_optimizer: one update function for each shape of adapter matrix.

before:  grad_high, grad_low (the batch's summed gradient, on its grid)
after:   update_16x576(p, moment, root, grad_high, grad_low, learning rate, …) -> p, moment, root

Learning rate, decay and token count are integer inputs of the step, so a schedule of learning
rates needs no other code.
"""

from __future__ import annotations

from gsqc.graph.function import Function, Node, add_call, add_placeholder
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Row, Spec
from gsqc.numerics.optim import OPTIMIZERS, OptimizerSpec
from gsqc.passes.differentiate import LIMBS
from gsqc.passes.properties import ADAPTED, UPDATES_ADDED
from gsqc.passes.step import Step, graph_pass

Shape = tuple[int, int]
_SCALAR = Spec((1, 1), "int32")


def update_name(shape: Shape) -> str:
    """The name of the update function of an adapter matrix of this shape."""
    return f"update_{shape[0]}x{shape[1]}"


def state_values(optimizer: OptimizerSpec, shape: Shape) -> dict[str, Row]:
    """The optimizer's state for one matrix: Rows by name."""
    return {
        name: Row(Spec(shape, "int32"), Spec((shape[0], 1), "int32"), bits)
        for name, bits in optimizer.state_bits.items()
    }


def update_function(optimizer: OptimizerSpec, shape: Shape) -> Function:
    """The update of one matrix of this shape. Its roles say "the matrix", not which one."""
    function = Function(update_name(shape))
    graph, matrix = function.graph, Spec(shape, "int32")
    # No role names a matrix: build_schedules binds one call for each matrix of the shape.
    parameter = Role(Kind.TRAINABLE, "")
    states = state_values(optimizer, shape)
    roles = [parameter, *(Role(Kind.STATE, name) for name in states)]
    inputs: list[Node] = [add_placeholder(graph, "p", matrix, parameter)]
    for (name, value), role in zip(states.items(), roles[1:], strict=True):
        inputs.append(add_placeholder(graph, name, value, role))
    for limb in LIMBS:
        name = f"grad_{limb}"
        inputs.append(add_placeholder(graph, name, matrix, Role(Kind.SUM, name)))
    inputs += [
        add_placeholder(graph, name, _SCALAR, Role(Kind.INPUT, name)) for name in optimizer.inputs
    ]
    results = add_call(graph, optimizer.op, *inputs, **optimizer.attributes)
    # A result with the role of an input is its next value: the schedule copies it over the old one.
    named = zip(("p", *states), results, roles, strict=True)
    function.set_outputs({f"{name}_out": (node, role) for name, node, role in named})
    return function


@graph_pass(requires=(ADAPTED,), ensures=(UPDATES_ADDED,))
def add_optimizer(step: Step) -> Step:
    """Add an update function for each shape; matrices of one shape share it."""
    optimizer = OPTIMIZERS[step.options.optimizer]
    for shape in dict.fromkeys(p.shape for p in step.adapters.values()):
        step.add(update_function(optimizer, shape))
    return step
