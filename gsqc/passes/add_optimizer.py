# SPDX-License-Identifier: Apache-2.0
"""add_optimizer: one update function for each shape of adapter matrix.

before:  grad_high, grad_low (the batch's summed gradient, on its grid)
after:   update_16x576(p, moment, root, grad_high, grad_low, learning rate, …) -> p, moment, root

         without gradients: update_16x576(p, key, step, moves, …) -> p
                            perturb_16x576(p, key, step, query, times) -> p

Learning rate, decay and token count are integer inputs of the step, so a schedule of learning
rates needs no other code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gsqc.graph.function import Function, Node, add_call, add_placeholder, role_of
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Spec
from gsqc.numerics.optim.optimizer import SCALAR, Optimizer, Shape
from gsqc.numerics.optim.zo import QUERY, STEP, TIMES, Zo, perturb
from gsqc.passes.differentiate import LIMBS
from gsqc.passes.properties import ADAPTED, UPDATES_ADDED
from gsqc.passes.step import Step, graph_pass


def update_name(shape: Shape) -> str:
    """The name of the update function of an adapter matrix of this shape."""
    return f"update_{shape[0]}x{shape[1]}"


def perturb_name(shape: Shape) -> str:
    """The name of the function that moves an adapter matrix of this shape by noise."""
    return f"perturb_{shape[0]}x{shape[1]}"


_MATRIX = Role(Kind.TRAINABLE, "")
"""No role names a matrix: build_schedules binds one call for each matrix of the shape."""


def _begin(name: str, optimizer: Optimizer, shape: Shape) -> tuple[Function, dict[str, Node]]:
    """A function of one matrix of this shape and its state: their placeholders by name."""
    function, states = Function(name), optimizer.state(shape)
    values = {"p": (Spec(shape, "int32"), _MATRIX)}
    values |= {key: (value, Role(Kind.STATE, key)) for key, value in states.items()}
    made = {key: add_placeholder(function.graph, key, *value) for key, value in values.items()}
    return function, made


def _end(function: Function, names: Iterable[str], results: Iterable[Node]) -> Function:
    """Give the next values of what the names say."""
    # A result with the role of an input is its next value: the schedule copies it over the old one.
    before = function.placeholders
    named = zip(names, results, strict=True)
    function.set_outputs({f"{name}_out": (node, role_of(before[name])) for name, node in named})
    return function


def _numbers(function: Function, inputs: Mapping[str, Spec]) -> list[Node]:
    return [
        add_placeholder(function.graph, name, value, Role(Kind.INPUT, name))
        for name, value in inputs.items()
    ]


def update_function(optimizer: Optimizer, shape: Shape) -> Function:
    """The update of one matrix of this shape. Its roles say "the matrix", not which one."""
    function, kept = _begin(update_name(shape), optimizer, shape)
    graph, limbs = function.graph, []
    if optimizer.differentiates:
        roles = [Role(Kind.SUM, f"grad_{limb}") for limb in LIMBS]
        limbs = [add_placeholder(graph, r.name, Spec(shape, "int32"), r) for r in roles]
    inputs = [*kept.values(), *limbs, *_numbers(function, optimizer.inputs)]
    results = add_call(graph, optimizer.op, *inputs, **optimizer.attributes)
    if optimizer.differentiates:
        return _end(function, kept, results)
    return _end(function, ["p"], [results])


def perturb_function(optimizer: Zo, shape: Shape) -> Function:
    """What moves one matrix of this shape by noise, there and back."""
    function, kept = _begin(perturb_name(shape), optimizer, shape)
    numbers = _numbers(function, dict.fromkeys((STEP, QUERY, TIMES), SCALAR))
    bits = optimizer.epsilon_bits
    moved = add_call(function.graph, perturb, *kept.values(), *numbers, epsilon_bits=bits)
    return _end(function, ["p"], [moved])


@graph_pass(requires=(ADAPTED,), ensures=(UPDATES_ADDED,))
def add_optimizer(step: Step) -> Step:
    """Add an update function for each shape; matrices of one shape share it."""
    optimizer = step.options.optimizer
    for shape in dict.fromkeys(p.shape for p in step.adapters.values()):
        step.add(update_function(optimizer, shape))
        if isinstance(optimizer, Zo):
            step.add(perturb_function(optimizer, shape))
    return step
