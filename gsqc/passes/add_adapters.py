# SPDX-License-Identifier: Apache-2.0
"""add_adapters: an adapter replaces every selected linear, in training and in generation.

before:  y = linear(x, w)
after:   y = what the adapter's `forward` makes of x, w and its trainable matrices. For LoRA:
         u = linear(x, a)   y = linear(x, w) + linear(alpha / rank · u, b)

Here a is [rank, k] and b [n, rank]. The matrices of all layers are listed in `step.adapters`, which
says what is trained. Arrays of an adapter that are not trained lie in the bundle beside the codes
of the linear's weight, in `step.adapter_arrays`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from gsqc.adapters.adapter import Adapter
from gsqc.adapters.linears import array_name, in_order, matrix_name
from gsqc.adapters.several import assign
from gsqc.errors import OptionError
from gsqc.graph.function import (
    Function,
    Node,
    add_call,
    insert_first,
    is_call,
    notes_of,
    role_of,
    shape_of,
    value_of,
)
from gsqc.graph.roles import Kind, Notes, Role
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.embedding import master_row
from gsqc.numerics.ops.linear import linear
from gsqc.passes.properties import ADAPTED, CODED
from gsqc.passes.step import AdapterArrays, Matrix, Step, graph_pass


class LinearSite:
    """A linear of a function, as `gsqc.adapters.adapter.Site` describes it."""

    def __init__(
        self, function: Function, node: Node, name: str, adapter: Adapter, made: dict[Any, Any]
    ) -> None:
        self.function, self.node, self.name, self.made = function, node, name, made
        operands: Any = node.args
        self.x, self.w, *self._balance = operands
        self.bits: int = value_of(node).bits
        rows, columns = shape_of(self.w)
        self.shape = rows, columns
        self.adapter = adapter
        self.parameters = adapter.parameters(rows, columns)
        self._rows: dict[str, Node] = {}

    def base(self) -> Node:
        """W·x, 24 bits wide."""
        # Wider than the linear's own result: the branch is added to it, and rounds the sum once.
        return self.linear(self.x, self.w, 24)

    def trainable(self, name: str) -> Node:
        """A matrix of the adapter, as rows."""
        if name not in self._rows:
            full = matrix_name(self.name, name)
            value = Spec(self.parameters[name].shape, "int32")
            matrix = insert_first(self.function.graph, full, value, Role(Kind.TRAINABLE, full))
            self._rows[name] = self.call(master_row, matrix)
        return self._rows[name]

    def array(self, name: str) -> Node:
        """An array of the adapter that is not trained."""
        role = Role(Kind.WEIGHT, self.name, self.position, array_name(name))
        return insert_first(
            self.function.graph, matrix_name(self.name, name), self.arrays[name], role
        )

    @cached_property
    def arrays(self) -> dict[str, Spec]:
        """The types of the arrays that are not trained, by name."""
        # Their shapes do not depend on W: those of zeros are those of all layers.
        made = self.adapter.arrays(np.zeros(self.shape, np.float32), 0, 0)
        return {name: Spec(a.shape, str(a.dtype)) for name, a in made.items()}

    @property
    def position(self) -> int:
        """The place of W among the parameters of its block. OptionError if it has none."""
        codes: Any = self.w.args[0]
        position = role_of(codes).position if codes.op == "placeholder" else None
        if position is None:
            raise OptionError(
                f"--adapter {self.adapter}: {self.name} is a part of a larger weight",
                "name the other linears, as in …,linears=q+v",
            )
        return position

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
        # q, k and v read the same x, and an adapter may make the same of it for each of them.
        key = operation, values, tuple(sorted(attributes.items()))
        if key not in self.made:
            with self.function.graph.inserting_before(self.node):
                self.made[key] = add_call(self.function.graph, operation, *values, **attributes)
        return self.made[key]


def adapt_function(function: Function, adapter_of: Mapping[str, Adapter]) -> dict[str, LinearSite]:
    """Adapt the linears of one function, which it gives by their names.

    adapter_of  the adapter of each linear that gets one, by the linear's name
    """
    linears = {node: name for node in function.calls() if (name := notes_of(node).linear)}
    sites: dict[str, LinearSite] = {}
    made: dict[Any, Any] = {}
    for node, name in linears.items():
        if name in adapter_of:
            assert is_call(node, linear), f"{function.name}: {node.name} is no linear"
            adapter = adapter_of[name]
            sites[name] = site = LinearSite(function, node, name, adapter, made)
            _require_fit(site)
            node.replace_all_uses_with(adapter.forward(site))
            function.graph.erase_node(node)
    return sites


def _require_fit(site: LinearSite) -> None:
    """OptionError if the adapter cannot be on a linear of this shape."""
    rows, columns = site.shape
    if why := site.adapter.unfit(rows, columns):
        raise OptionError(
            f"--adapter {site.adapter}: {site.name} has {rows} outputs and {columns} inputs, {why}",
            "choose other settings, or name linears that fit, as in …,linears=q+o",
        )


@graph_pass(requires=(CODED,), ensures=(ADAPTED,))
def add_adapters(step: Step) -> Step:
    """Adapt every function of a block. OptionError if a chosen linear is nowhere in the model, or
    if two adapters are on one linear.
    """
    outline = step.parts
    blocks = [f for f in step.functions.values() if f.block_kind is not None]
    # A kind of block may lack a chosen linear. That no kind has it would train less than was asked.
    known = in_order(name for f in blocks for n in f.calls() if (name := notes_of(n).linear))
    step.adapter_of = assign(step.options.adapters, known)
    # Training and generation have the same linears, so the last function speaks for all.
    by_kind = {f.block_kind: adapt_function(f, step.adapter_of) for f in blocks}
    for layer, kind in enumerate(outline.layer_kinds):
        for name, site in by_kind[kind].items():
            matrices = [Matrix(layer, name, m, p) for m, p in site.parameters.items()]
            step.adapters |= {matrix.state_name: matrix for matrix in matrices}
            if site.arrays:
                types = {array_name(array): spec for array, spec in site.arrays.items()}
                arrays = AdapterArrays(layer, site.position, types, site.adapter)
                step.adapter_arrays.append(arrays)
    return step
