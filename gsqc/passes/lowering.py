# SPDX-License-Identifier: Apache-2.0
"""One part of the model in one mode, while lower_model turns it into a Function of typed ops.

lower_model has a rule for each op of a captured model, lower_attention those of attention. Both
append to a Lowering.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gsqc.adapters.linears import names_of_linears
from gsqc.graph.function import Function, Node, add_call, insert_last, role_of, shape_of
from gsqc.graph.roles import Kind, Notes, Role
from gsqc.models import model_ops
from gsqc.names import unique_endings
from gsqc.numerics.formats import Gse, Row, Spec, Value
from gsqc.numerics.ops.cache import take_position
from gsqc.passes.modes import Mode
from gsqc.passes.outline import Parameter, Part, Storage
from gsqc.passes.sites import BALANCE, find_sites
from gsqc.passes.step import StepOptions

STREAM_BITS, ACTIVATION_BITS, WEIGHT_BITS, VECTOR_BITS = 24, 16, 30, 16
"""Row widths: the residual stream, what lies between two ops of a block, a de-quantised matrix, a
vector.
"""


def row_type(shape: tuple[int, ...], bits: int) -> Row:
    """The type of a Row with an exponent per row."""
    dtype = "int16" if bits <= 16 else "int32"
    return Row(Spec(shape, dtype), Spec((*shape[:-1], 1), "int32"), bits)


def parameter_type(parameter: Parameter) -> Value:
    """The type in which ops take a frozen parameter."""
    shape = parameter.shape if len(parameter.shape) > 1 else (1, *parameter.shape)
    if parameter.storage is Storage.TABLE:
        rows, padded = shape[0], -(-shape[1] // 32) * 32
        m, d = Spec((rows, padded), "int8"), Spec((rows, padded // 32), "int8")
        return Gse(m, d, Spec((rows, 1), "int32"), 8)
    return row_type(shape, WEIGHT_BITS if parameter.storage is Storage.CODES else VECTOR_BITS)


def placeholder_names(parameters: list[Parameter]) -> list[str]:
    """The shortest endings of the parameters' names that are unique, as identifiers of torch.fx,
    which have no capitals.
    """
    named = (p.name.removesuffix(".weight").lower() for p in parameters)
    # The bias of q_proj is q_proj_bias, not one of many that are called bias.
    joined = (f"{n.removesuffix('.bias')}_bias" if n.endswith(".bias") else n for n in named)
    return ["_".join(ending) for ending in unique_endings([name.split(".") for name in joined])]


class Lowering:
    """Collects the ops of one part in one mode.

    nodes        what each captured node became
    storage      of each parameter's captured node
    linear_names what adapters call the linear of each captured weight
    next_caches  results that replace the caches that the function was given
    """

    def __init__(
        self, part: Part, mode: Mode, options: StepOptions, name: str, kind: str | None = None
    ) -> None:
        self.part, self.mode, self.options = part, mode, options
        self.function = Function(mode.function(name), kind)
        self.graph = self.function.graph
        self.nodes: dict[Node, Node] = {}
        self.storage: dict[Node, Storage] = {}
        weights: list[Any] = [n.args[1] for n in part.nodes if n.target is model_ops.linear]
        modules = [w.meta["parameter"].removesuffix(".weight") for w in weights]
        self.linear_names = dict(zip(weights, names_of_linears(modules), strict=True))
        self.next_caches: dict[str, tuple[Node, Role]] = {}
        self._position: Node | None = None
        self._sites = find_sites(part.nodes) if options.balance else {}
        self._balances: dict[Node, Node] = {}

    def call(self, operation: Any, *args: Node, **attributes: Any) -> Any:
        """Append a call."""
        return add_call(self.graph, operation, *args, **attributes)

    def args(self, node: Node) -> list[Node]:
        """The lowered operands of a captured node."""
        # Not all_input_nodes, which has an operand once that is taken twice.
        return [self.nodes[a] for a in node.args if isinstance(a, Node)]

    def input(self, name: str, value: Value, role: Role) -> Node:
        """A placeholder behind the others."""
        return insert_last(self.graph, name, value, role)

    @property
    def position(self) -> Node:
        """The positions of the tokens that are read, each in its record, int32 [tokens]."""
        if self._position is None:
            role = Role(Kind.INPUT, self.mode.inputs[1])
            self._position = self.input("position", Spec((self.mode.tokens,), "int32"), role)
        return self._position

    def balance(self, weight: Node) -> list[Node]:
        """The shifts of the columns of a captured weight's site, or none if there are none."""
        if not self.options.balance:
            return []
        first = self._sites[weight]
        if first not in self._balances:
            known = self.nodes[first]
            # It is frozen, and each layer has its own: an array more of the site's first weight.
            role = replace(role_of(known), array=BALANCE)
            value = Spec((1, shape_of(known)[-1]), "int8")
            self._balances[first] = self.input(f"{known.name}_{BALANCE}", value, role)
        return [self._balances[first]]

    def add_parameters(self, *, in_block: bool) -> None:
        """A placeholder for each frozen parameter of the part."""
        names = placeholder_names(self.part.parameters)
        for k, (name, parameter) in enumerate(zip(names, self.part.parameters, strict=True)):
            # The layers of a kind share this function. So a block's weight is known by its place:
            # the name in its role is that of the kind's first layer.
            role = Role(Kind.WEIGHT, parameter.name, k if in_block else None)
            self.nodes[parameter.node] = self.input(name, parameter_type(parameter), role)
            self.storage[parameter.node] = parameter.storage

    def add_constant(self, node: Node) -> None:
        """The entries of the tokens' positions in a table with an entry per position, or a vector
        as it is.
        """
        name = node.meta["constant"]
        if len(node.meta["shape"]) == 1:
            vector = Spec((1, *node.meta["shape"]), "int32")
            self.nodes[node] = self.input(name, vector, Role(Kind.CONSTANT, name))
            return
        rows = self.mode.cached or self.mode.tokens
        value = Spec((1, rows, node.meta["shape"][-1]), "int32")
        table = self.input(name, value, Role(Kind.CONSTANT, name))
        entries = self.call(take_position, table, self.position)
        # To take them again costs less memory than to keep them for backward in every layer.
        entries.meta["notes"] = Notes(recompute=True)
        self.nodes[node] = entries


_SUMMANDS = (model_ops.add_bias, model_ops.scale)
"""What only changes a result on its way."""


def result_bits(lowering: Lowering, node: Node) -> int:
    """The width of a linear's result, or of what a bias or a factor made of it."""
    # What goes straight into the residual stream keeps the stream's width: a sum of many layers
    # would otherwise collect a rounding from each. What only gets a bias or a factor is rounded
    # once, by that.
    is_last = node is lowering.part.nodes[-1]
    wide = (model_ops.add, *_SUMMANDS)
    into_stream = is_last or all(user.target in wide for user in node.users)
    return STREAM_BITS if into_stream else ACTIVATION_BITS
