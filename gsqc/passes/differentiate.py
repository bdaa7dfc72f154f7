# SPDX-License-Identifier: Apache-2.0
"""differentiate: the backward functions of blocks and head, by a reverse walk over their ops.

before:  block(x, weights, a, b) -> x_out
after:   block_forward(x, weights, a, b) -> x_out, saved…
         block_backward(dx_out, saved…, weights, a, b, sums) -> dx, sums
         head_forward(x, labels, …) -> loss, saved…      head_backward(weights, saved…, …) -> dx

The walk asks each op for its gradient rule, which stands beside the op (`define_gradient`). What a
rule needs of forward is saved by it, or made again: if it comes from weights alone, is a view or a
transpose, or is noted `recompute`.

The head's backward begins with the weights of the tokens: the gradient of the weighted sum of their
losses. Gradients of adapter matrices end in running sums on a fixed grid, so that the order of a
batch cannot change a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gsqc.graph.function import (
    Function,
    Node,
    add_call,
    add_placeholder,
    insert_first,
    is_call,
    notes_of,
    results_of,
    role_of,
    shape_of,
    value_of,
)
from gsqc.graph.reach import nodes_from, nodes_reached
from gsqc.graph.roles import GRADIENT_IN, GRADIENT_OUT, STREAM_IN, STREAM_OUT, Kind, Notes, Role
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.accumulate import accumulate_row, linear_accumulate
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.embedding import master_row
from gsqc.numerics.ops.layout import transpose
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.primitives import row_exponent
from gsqc.numerics.ops.registry import Kind as OpKind
from gsqc.numerics.ops.registry import Op
from gsqc.passes.add_loss import HEAD
from gsqc.passes.modes import BACKWARD, FORWARD
from gsqc.passes.properties import ADAPTED, DIFFERENTIATED, LOSS_ADDED
from gsqc.passes.step import Step, graph_pass

LIMBS = ("high", "low")
"""The two int32 of a running sum."""


@dataclass(frozen=True)
class _Call:
    """What a gradient rule sees of the forward call: backward nodes that stand for its arguments
    and results.
    """

    args: _Results
    results: _Results
    attributes: dict[str, Any]
    needs: list[bool]


class _Results:
    """Forward nodes by index, brought into the backward graph when asked for."""

    def __init__(self, walk: _ReverseWalk, nodes: list[Node | None]) -> None:
        self.walk, self.nodes = walk, nodes

    def __getitem__(self, index: int) -> Node:
        node = self.nodes[index]
        assert node is not None
        return self.walk.forward_value(node)

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self.nodes)))


class _ReverseWalk:
    """Builds the backward graph; also the `g` of the gradient rules."""

    def __init__(self, forward: Function) -> None:
        self.forward = forward
        self.backward = Function(f"{forward.name}_{BACKWARD}", forward.block_kind)
        self.graph = self.backward.graph
        self.copies: dict[Node, Node] = {}
        self.saved: dict[str, Node] = {}
        self.gradients: dict[Node, Node] = {}
        self.sums: dict[str, tuple[Node, Role]] = {}
        self.current = Notes()
        learnt = Kind.TRAINABLE
        self.from_weights = set(nodes_from(forward, lambda r: r.is_frozen or r.kind is learnt))
        # The stream too: its gradient is what trains the layers below.
        self.trainable = nodes_reached(forward, lambda r: r == STREAM_IN or r.kind is learnt)

    # ---- what gradient rules call

    def call(self, operation: Op, *args: Node, **attributes: Any) -> Any:
        """Append a call; a transpose of a transpose is what it was."""
        # The rule of a linear transposes its operands, and attention's values are transposed
        # already. Both would copy a matrix.
        if operation is transpose and is_call(args[0], transpose):
            inner: Any = args[0].kwargs["permutation"]
            if all(inner[p] == k for k, p in enumerate(attributes["permutation"])):
                return args[0].args[0]
        return add_call(self.graph, operation, *args, **attributes)

    def shape(self, node: Node) -> tuple[int, ...]:
        """The shape of a value."""
        return shape_of(node)

    def has_row_exponents(self, node: Node) -> bool:
        """Whether a Row has an exponent per row, and not per column."""
        return row_exponent(value_of(node))

    def is_call(self, node: Node, operation: Op) -> bool:
        """Whether a value comes from this op."""
        return is_call(node, operation)

    def gradient_bits(self, call: _Call) -> int:
        """The width of gradients in the backward products of the linear that is differentiated."""
        bits = self.current.gradient_bits
        assert bits is not None, f"{self.forward.name}: a linear without gradient_bits in its notes"
        return bits

    # ---- the walk

    def forward_value(self, node: Node) -> Node:
        """The backward graph's node for a forward value: a weight, made again, or saved."""
        if node in self.copies:
            return self.copies[node]
        is_view = isinstance(node.target, Op) and node.target.kind is OpKind.VIEW
        if node.op == "placeholder":
            copy = self._placeholder(node.name, value_of(node), role_of(node))
        # What comes from weights is the same at every step: hoist_constants takes it out of here
        # too. A view is free, and a transpose cheaper to make than to keep.
        elif (
            node in self.from_weights
            or is_view
            or is_call(node, transpose)
            or notes_of(node).recompute
        ):
            args = [self.forward_value(a) for a in node.args]  # type: ignore[arg-type]
            copy = self.call(node.target, *args, **node.kwargs)  # type: ignore[arg-type]
        else:
            name = f"saved_{node.name}"
            self.saved[name] = node
            copy = self._placeholder(name, value_of(node), Role(Kind.SAVED, name))
        self.copies[node] = copy
        return copy

    def _placeholder(self, name: str, value: Any, role: Role) -> Node:
        return insert_first(self.graph, name, value, role)

    def add_gradient(self, node: Node, gradient: Node) -> None:
        """Add to the gradient of a value: it has one part from each of its uses."""
        known = self.gradients.get(node)
        self.gradients[node] = (
            gradient if known is None else self.call(add, known, gradient, bits=24)
        )

    def visit(self, node: Node) -> None:
        """Apply the op's rule: from the gradients of its results to those of its arguments."""
        results = results_of(node)
        incoming = [self.gradients.get(r) if r is not None else None for r in results]
        # Nobody wants the gradient of what depends on neither the stream nor a trainable matrix.
        # And if none comes in, the loss does not depend on the call.
        if node not in self.trainable or all(gradient is None for gradient in incoming):
            return
        assert isinstance(node.target, Op)
        arguments: list[Node] = list(node.args)  # type: ignore[arg-type]
        # The argument is the matrix itself, in fixed point: its gradient is no Row but joins a sum.
        if is_call(node, master_row):
            assert incoming[0] is not None
            self._accumulate(arguments[0], incoming[0])
            return
        where = f"{self.forward.name}: {node.target.name} ({node.name})"
        assert node.target.gradient, f"{where} has no gradient rule"
        # No rule of today takes a gradient of a second result: one that arrives must not be lost.
        assert incoming[0] is not None, f"{where}: a gradient reaches only a later result"
        needs = [a in self.trainable for a in arguments]
        self.current = notes_of(node)
        call = _Call(
            _Results(self, list(arguments)), _Results(self, results), dict(node.kwargs), needs
        )
        gradients = node.target.gradient[0](self, call, *incoming)
        for argument, need, gradient in zip(arguments, needs, gradients, strict=True):
            if need and gradient is not None:
                self.add_gradient(argument, gradient)

    def _accumulate(self, parameter: Node, gradient: Node) -> None:
        """The adapter's gradient joins the running sum of the batch on its fixed-point grid."""
        spec = Spec(shape_of(parameter), "int32")
        names = [f"{parameter.name}_grad_{limb}" for limb in LIMBS]
        roles = [Role(Kind.SUM, name) for name in names]
        limbs = [self._placeholder(n, spec, r) for n, r in zip(names, roles, strict=True)]
        if is_call(gradient, linear):
            operands: Any = gradient.args
            bits = {k: gradient.kwargs[k] for k in ("x_bits", "w_bits")}
            # The product that would give the gradient is not rounded to a Row first: one rounding,
            # from the exact product onto the grid.
            made = self.call(linear_accumulate, *operands, *limbs, **bits)
        else:
            made = self.call(accumulate_row, gradient, *limbs)
        for name, node, role in zip(names, made, roles, strict=True):
            self.sums[f"{name}_out"] = (node, role)


def differentiate_function(function: Function) -> tuple[Function, Function]:
    """The forward function, which also returns what it saves, and the backward function.

    A block's one result is the stream, and its gradient comes in; the head's first is the loss, and
    the weights come in. Nothing depends on a head's further results.
    """
    name, out = next(iter(function.results.items()))
    role, results = function.roles[name], dict(function.results)
    roles = dict(function.roles)
    walk = _ReverseWalk(function)
    seed = (
        ("dx_out", GRADIENT_IN) if role == STREAM_OUT else ("weights", Role(Kind.INPUT, "weights"))
    )
    walk.gradients[out] = add_placeholder(walk.graph, seed[0], value_of(out), seed[1])
    for node in reversed(list(function.calls())):
        walk.visit(node)
    # The gradient of the stream is always given. Nobody reads that of the first layer, but the
    # layers of a kind share the function.
    stream = next(n for n in function.placeholders.values() if role_of(n) == STREAM_IN)
    walk.backward.set_outputs({"dx": (walk.gradients[stream], GRADIENT_OUT), **walk.sums})
    walk.backward.remove_dead()
    # Rules ask for more than they use, so forward saves only what is left after the dead calls.
    used = set(walk.backward.placeholders)
    saved = {n: (node, Role(Kind.SAVED, n)) for n, node in walk.saved.items() if n in used}
    function.set_outputs({n: (node, roles[n]) for n, node in results.items()} | saved)
    function.name = f"{function.name}_{FORWARD}"
    return function, walk.backward


@graph_pass(requires=(ADAPTED, LOSS_ADDED), ensures=(DIFFERENTIATED,))
def differentiate(step: Step) -> Step:
    """Differentiate the training functions: each kind of block, and the head."""
    for name in (*step.parts.kinds, HEAD):
        step.add(*differentiate_function(step.functions.pop(name)))
    return step
