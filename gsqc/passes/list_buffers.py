# SPDX-License-Identifier: Apache-2.0
"""list_buffers: every tensor of a step that lives outside the arena, by kind.

before:  functions whose placeholders have roles: codes of layer 3's q_proj, a table, a cache, …
after:   names, types and sizes by kind:

         base      frozen weights and tables, read from the bundle
         prepared  operands that a session makes of them when it starts
         state     adapter and optimizer: what a run saves
         gradient  sums over the sequences of a step
         cache     keys and values of a generation
         input     what the host writes before a step
         output    what it reads after it

The kind says how long a buffer lives and who fills it, so the runtime need not know its name.
"""

from __future__ import annotations

import math

from gsqc.bundle.plan import BUFFER_KINDS, TensorPlan, tensor_names
from gsqc.graph.function import Function, role_of, value_of
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Spec, Value, flatten
from gsqc.passes.bindings import ZEROS, Place, buffer_name
from gsqc.passes.differentiate import LIMBS
from gsqc.passes.plan_properties import BUFFERS_LISTED, LOWERED
from gsqc.passes.step import Step, graph_pass

_KIND_OF_ROLE = {
    Kind.WEIGHT: "base",
    Kind.CONSTANT: "base",
    Kind.PREPARED: "prepared",
    Kind.CACHE: "cache",
    Kind.INPUT: "input",
    Kind.OUTPUT: "output",
    Kind.NORM: "gradient",
}
"""Trainable matrices, states and sums are listed by matrix. The stream and what is saved are
activations.
"""


class _Buffers:
    def __init__(self) -> None:
        self.by_kind: dict[str, dict[str, TensorPlan]] = {kind: {} for kind in BUFFER_KINDS}

    def put(self, kind: str, name: str, value: Value) -> None:
        """Add the tensors of a value under its name."""
        for tensor, spec in zip(tensor_names(name, value), flatten(value), strict=True):
            # Many functions have a port of the same buffer: it is listed once.
            self.by_kind[kind][tensor] = TensorPlan(spec.dtype, math.prod(spec.shape))


def _ports(function: Function) -> list[tuple[Role, Value]]:
    """Placeholders and results with their roles."""
    placeholders = [(role_of(n), value_of(n)) for n in function.placeholders.values()]
    return placeholders + [(function.roles[n], value_of(v)) for n, v in function.results.items()]


def _list_function(step: Step, function: Function, buffers: _Buffers) -> None:
    kinds = dict(_KIND_OF_ROLE)
    if not step.options.keep_operands:
        # Only generation has prepared operands then: they come and go as its cache does.
        kinds[Kind.PREPARED] = "cache"
    outline = step.parts
    # A block's function runs for each layer of its kind, each time on buffers of that layer.
    layers = [None] if function.block_kind is None else outline.layers_of(function.block_kind)
    for layer in layers:
        for role, value in _ports(function):
            if role.kind in kinds:
                name = buffer_name(outline, role, Place(layer))
                buffers.put(kinds[role.kind], name, value)


def _list_matrices(step: Step, buffers: _Buffers) -> None:
    """Each adapter matrix, the optimizer's state for it, and the sums of its gradient."""
    optimizer = step.options.optimizer
    for name, parameter in step.adapters.items():
        matrix = Spec(parameter.shape, "int32")
        buffers.put("state", name, matrix)
        for state, value in optimizer.state(parameter.shape).items():
            buffers.put("state", f"{name}.{state}", value)
        for limb in LIMBS if optimizer.differentiates else ():
            buffers.put("gradient", f"{name}_grad_{limb}", matrix)
    if not optimizer.differentiates:
        # No function reads the tokens' weights, but the host weighs the losses by them.
        buffers.put("input", "weights", Spec((step.options.tokens, 1), "int32"))
        return
    # Every sum of a single sequence begins at zeros. One buffer serves matrices of all sizes, for
    # nothing writes to it.
    largest = max((p.shape for p in step.adapters.values()), key=math.prod)
    buffers.put("input", ZEROS, Spec(largest, "int32"))


@graph_pass(requires=(LOWERED,), ensures=(BUFFERS_LISTED,))
def list_buffers(step: Step) -> Step:
    """List the buffers of the plan by kind."""
    buffers = _Buffers()
    for function in step.functions.values():
        _list_function(step, function, buffers)
    _list_matrices(step, buffers)
    step.plan.buffers = buffers.by_kind
    return step
