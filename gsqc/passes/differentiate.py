# SPDX-License-Identifier: Apache-2.0
"""differentiate: the backward function of a block, by a reverse walk over its ops.

before:  block(x, weights) -> x_out
after:   block_forward(x, weights) -> x_out, saved…      block_backward(dx_out, saved…, weights, grads) -> dx, grads…

requires: add_lora ensures: what backward needs is saved by forward, or made again where it comes
from weights alone, is a view, or is
         marked with `meta["recompute"]`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gsqc.graph.function import (
    Function,
    Node,
    add_call,
    add_placeholder,
    is_call,
    results_of,
    shape_of,
    value_of,
)
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.accumulate import linear_accumulate
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.embedding import master_row
from gsqc.numerics.ops.layout import transpose
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.registry import Kind, Op


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
        self.backward = Function(f"{forward.name}_backward")
        self.graph = self.backward.graph
        self.copies: dict[Node, Node] = {}
        self.saved: dict[str, Node] = {}
        self.gradients: dict[Node, Node] = {}
        self.accumulated: dict[str, Node] = {}
        self.current_bits = 8
        self.from_weights = _nodes_from(
            forward, lambda n: bool(n.meta.get("frozen") or n.meta.get("trainable"))
        )
        self.trainable = _depends_on(
            forward, lambda n: n.name == "x" or bool(n.meta.get("trainable"))
        )

    # ---- what gradient rules call

    def call(self, operation: Op, *args: Node, **attributes: Any) -> Any:
        """Append a call; a transpose of a transpose is what it was."""
        if operation is transpose and is_call(args[0], transpose):
            inner = args[0].kwargs["permutation"]
            if all(inner[p] == k for k, p in enumerate(attributes["permutation"])):  # type: ignore[index]
                return args[0].args[0]
        result = add_call(self.graph, operation, *args, **attributes)
        if operation is linear:
            result.meta["gradient_bits"] = self.current_bits
        return result

    def shape(self, node: Node) -> tuple[int, ...]:
        return shape_of(node)

    def is_call(self, node: Node, operation: Op) -> bool:
        return is_call(node, operation)

    def gradient_bits(self, call: _Call) -> int:
        return self.current_bits

    # ---- the walk

    def forward_value(self, node: Node) -> Node:
        """The backward graph's node for a forward value: made again, a weight, or a saved tensor."""
        if node in self.copies:
            return self.copies[node]
        is_view = isinstance(node.target, Op) and node.target.kind is Kind.VIEW
        if node.op == "placeholder":
            copy = self._placeholder(node.name, node)
        elif (
            node in self.from_weights
            or is_view
            or is_call(node, transpose)
            or node.meta.get("recompute")
        ):
            args = [self.forward_value(a) for a in node.args]  # type: ignore[arg-type]
            copy = self.call(node.target, *args, **node.kwargs)  # type: ignore[arg-type]
        else:
            self.saved[node.name] = node
            copy = self._placeholder(f"saved_{node.name}", node)
        self.copies[node] = copy
        return copy

    def _placeholder(self, name: str, like: Node) -> Node:
        kept = ("frozen", "trainable", "weight", "array", "constant", "position")
        return self._insert_placeholder(
            name, value_of(like), **{k: v for k, v in like.meta.items() if k in kept}
        )

    def _insert_placeholder(self, name: str, value: Any, **meta: Any) -> Node:
        with self.graph.inserting_before(next(iter(self.graph.nodes), None)):
            return add_placeholder(self.graph, name, value, **meta)

    def add_gradient(self, node: Node, gradient: Node) -> None:
        known = self.gradients.get(node)
        self.gradients[node] = (
            gradient if known is None else self.call(add, known, gradient, bits=24)
        )

    def visit(self, node: Node) -> None:
        """Apply the op's rule: from the gradients of its results to those of its arguments."""
        results = results_of(node)
        incoming = [self.gradients.get(r) if r is not None else None for r in results]
        if incoming[0] is None or node not in self.trainable:
            return
        assert isinstance(node.target, Op)
        arguments: list[Node] = list(node.args)  # type: ignore[arg-type]
        needs = [a in self.trainable for a in arguments]
        self.current_bits = node.meta.get("gradient_bits", 8)
        call = _Call(
            _Results(self, list(arguments)), _Results(self, results), dict(node.kwargs), needs
        )
        if is_call(node, master_row):
            self._accumulate(arguments[0], incoming[0])
            return
        gradients = node.target.gradient[0](self, call, *incoming)
        for argument, need, gradient in zip(arguments, needs, gradients, strict=True):
            if need and gradient is not None:
                self.add_gradient(argument, gradient)

    def _accumulate(self, parameter: Node, gradient: Node) -> None:
        """The adapter's gradient joins the running sum of the batch on its fixed-point grid."""
        assert is_call(gradient, linear), "an adapter matrix is used by one linear"
        spec = Spec(shape_of(parameter), "int32")
        names = [f"{parameter.name}_grad_{limb}" for limb in ("high", "low")]
        limbs = [self._insert_placeholder(name, spec) for name in names]
        bits = {k: gradient.kwargs[k] for k in ("x_bits", "w_bits")}
        high, low = self.call(linear_accumulate, *gradient.args, *limbs, **bits)  # type: ignore[arg-type]
        self.accumulated.update(zip(names, (high, low), strict=True))


def _nodes_from(function: Function, is_source: Any) -> set[Node]:
    """Calls all of whose arguments lead back to sources alone."""
    found: set[Node] = set()
    for node in function.graph.nodes:
        if node.op == "placeholder":
            if is_source(node):
                found.add(node)
        elif node.op == "call_function" and all(a in found for a in node.all_input_nodes):
            found.add(node)
    return found


def _depends_on(function: Function, is_source: Any) -> set[Node]:
    """Nodes that a source reaches."""
    found: set[Node] = set()
    for node in function.graph.nodes:
        if (node.op == "placeholder" and is_source(node)) or any(
            a in found for a in node.all_input_nodes
        ):
            found.add(node)
    return found


def differentiate(block: Function) -> tuple[Function, Function]:
    """The forward function, which also returns what it saves, and the backward function."""
    walk = _ReverseWalk(block)
    out = block.results["x_out"]
    seed = add_placeholder(walk.graph, "dx_out", value_of(out))
    walk.gradients[out] = seed
    for node in reversed(list(block.calls())):
        walk.visit(node)
    dx = walk.gradients[block.placeholders["x"]]
    walk.backward.set_outputs(
        {"dx": dx, **{f"{name}_out": n for name, n in walk.accumulated.items()}}
    )
    walk.backward.remove_dead()
    saved = {f"saved_{name}": node for name, node in walk.saved.items()}
    used = set(walk.backward.placeholders)
    block.graph.erase_node(block.graph.output_node())
    block.set_outputs({"x_out": out, **{k: n for k, n in saved.items() if k in used}})
    return block, walk.backward
