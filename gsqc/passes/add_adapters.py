# SPDX-License-Identifier: Apache-2.0
"""add_adapters: the adapter replaces every selected linear, in training and in generation.

before:  y = linear(x, w)
after:   y = what the adapter's `forward` makes of x, w and its trainable matrices. For LoRA:
         u = linear(x, a)   y = linear(x, w) + linear(alpha / rank · u, b)

Here a is [rank, k] and b [n, rank]. The matrices of all layers are listed in `step.adapters`, which
says what is trained. Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gsqc.adapters.adapter import Adapter, Parameter
from gsqc.adapters.linears import in_order, matrix_name, selected
from gsqc.errors import OptionError
from gsqc.graph.function import (
    Function,
    Node,
    add_call,
    insert_first,
    is_call,
    notes_of,
    shape_of,
    value_of,
)
from gsqc.graph.roles import Kind, Notes, Role
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.embedding import master_row
from gsqc.numerics.ops.linear import linear
from gsqc.passes.properties import ADAPTED, CODED
from gsqc.passes.step import Matrix, Step, graph_pass


class LinearSite:
    """A linear of a function, as `gsqc.adapters.adapter.Site` describes it."""

    def __init__(self, function: Function, node: Node, name: str, adapter: Adapter) -> None:
        self.function, self.node, self.name = function, node, name
        operands: Any = node.args
        self.x, self.w, *self._balance = operands
        self.bits: int = value_of(node).bits
        rows, columns = shape_of(self.w)
        self.parameters = adapter.parameters(rows, columns)

    def base(self) -> Node:
        """W·x, 24 bits wide."""
        # Wider than the linear's own result: the branch is added to it, and rounds the sum once.
        return self.linear(self.x, self.w, 24)

    def trainable(self, name: str) -> Node:
        """A matrix of the adapter, as rows."""
        full = matrix_name(self.name, name)
        value = Spec(self.parameters[name].shape, "int32")
        matrix = insert_first(self.function.graph, full, value, Role(Kind.TRAINABLE, full))
        rows: Node = self.call(master_row, matrix)
        return rows

    def linear(self, x: Node, w: Node, bits: int) -> Node:
        """A product in which the frozen W has its own width, and all else that of activations.

        What reads the site's x reads it with the columns shifted, as the site's own linear does.
        """
        width: Any = self.node.kwargs["x_bits"]
        w_bits = self.node.kwargs["w_bits"] if w is self.w else width
        balance = self._balance if x is self.x else []
        y: Node = self.call(linear, x, w, *balance, x_bits=width, w_bits=w_bits, bits=bits)
        # Only the width of gradients is passed on. With the linear's name too, adapt_function would
        # adapt the adapter.
        y.meta["notes"] = Notes(gradient_bits=notes_of(self.node).gradient_bits)
        return y

    def call(self, operation: Any, *values: Node, **attributes: Any) -> Any:
        """An op, before the linear."""
        with self.function.graph.inserting_before(self.node):
            return add_call(self.function.graph, operation, *values, **attributes)


def adapt_function(function: Function, adapter: Adapter) -> dict[str, dict[str, Parameter]]:
    """Adapt the linears of one function; the trainable matrices by the names of their linears."""
    linears = {node: name for node in function.calls() if (name := notes_of(node).linear)}
    wanted = selected(adapter.linears, list(linears.values()))
    parameters: dict[str, dict[str, Parameter]] = {}
    for node, name in linears.items():
        if name in wanted:
            assert is_call(node, linear), f"{function.name}: {node.name} is no linear"
            site = LinearSite(function, node, name, adapter)
            node.replace_all_uses_with(adapter.forward(site))
            function.graph.erase_node(node)
            parameters[name] = site.parameters
    return parameters


def _require_known(adapter: Adapter, known: Iterable[str]) -> None:
    """OptionError if a chosen linear is nowhere in the model."""
    all_known = in_order(known)
    missing = [name for name in adapter.linears if not selected([name], all_known)]
    if missing:
        raise OptionError(
            f"--adapter {adapter}: the model has no linear {', '.join(missing)}",
            f"its linears are {'+'.join(all_known)}",
        )


@graph_pass(requires=(CODED,), ensures=(ADAPTED,))
def add_adapters(step: Step) -> Step:
    """Adapt every function of a block. OptionError if a chosen linear is nowhere in the model."""
    adapter, outline = step.options.adapter, step.parts
    blocks = [f for f in step.functions.values() if f.block_kind is not None]
    # A kind of block may lack a chosen linear. That no kind has it would train less than was asked.
    _require_known(
        adapter, (name for f in blocks for n in f.calls() if (name := notes_of(n).linear))
    )
    # Training and generation have the same linears, so the last function speaks for all.
    by_kind = {f.block_kind: adapt_function(f, adapter) for f in blocks}
    for layer, kind in enumerate(outline.layer_kinds):
        for name, parameters in by_kind[kind].items():
            matrices = [Matrix(layer, name, m, p) for m, p in parameters.items()]
            step.adapters |= {matrix.state_name: matrix for matrix in matrices}
    return step
