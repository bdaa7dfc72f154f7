# SPDX-License-Identifier: Apache-2.0
"""Scope: the values of an .onnx graph by name, while it is traced."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gsqc.models.capture.programs.tracer import Node, Tracer, Value
from gsqc.models.capture.programs.weights import NBits
from gsqc.models.readers.onnx_file import OnnxFile, tensor_of


class Scope:
    """The values that nodes see.

    values  by name: nodes of the traced graph, or constants
    tokens  the node of the token ids
    """

    def __init__(self, tracer: Tracer, file: OnnxFile, values: dict[str, Value]) -> None:
        self.tracer, self.file, self.values = tracer, file, values
        self.tokens: Node = next(n for n in tracer.graph.nodes if n.name == "tokens")

    def inside(self, constants: dict[str, Tensor]) -> Scope:
        """The scope of a branch, which sees this one's values too."""
        return Scope(self.tracer, self.file, {**self.values, **constants})

    def value(self, name: str) -> Value:
        """The value of a name. Raises ModelError if nothing has made it."""
        if name not in self.values:
            raise self.tracer.refused(f"it reads {name[:100]}, which nothing before it makes")
        return self.values[name]

    def inputs(self, node: Any, least: int = 0) -> list[Value]:
        """The operands of a node, None for those that are left out, at least so many."""
        found = [self.value(name) if name else None for name in node.input]
        return found + [None] * (least - len(found))

    def attribute(self, node: Any, name: str, default: Any = None) -> Any:
        """An attribute's value: int, float, text, a list of them, or a tensor."""
        for a in node.attribute:
            if a.name == name:
                kinds = {1: "f", 2: "i", 6: "floats", 7: "ints"}
                if a.type == 4:
                    return tensor_of(a.t, self.file.path)
                if a.type == 3:
                    return a.s.decode("utf-8", "replace")
                if a.type not in kinds:
                    raise self.tracer.refused(f"its attribute {name} is of another kind")
                value = getattr(a, kinds[a.type])
                return list(value) if a.type in (6, 7) else value
        return default

    def integers(self, value: Value) -> list[int]:
        """The numbers of a constant. Raises ModelError if it depends on the tokens."""
        if not isinstance(value, Tensor) or value.is_floating_point():
            raise self.tracer.refused("a shape or an axis depends on the tokens")
        if value.numel() > 64:
            raise self.tracer.refused(f"a list of {value.numel()} axes")
        return [int(k) for k in value.reshape(-1).tolist()]

    def shape(self, value: Value) -> list[int]:
        """The shape of a value."""
        held = value.meta["val"] if isinstance(value, Node) else value
        return list(held.shape)

    def call(self, op: Any, *args: Any, **kwargs: Any) -> Value:
        """A call of the tracer."""
        return self.tracer.call(op, *args, **kwargs)

    def coded(self, weight: NBits) -> Tensor:
        """A tensor without numbers that stands for a weight in codes."""
        stands = torch.empty(weight.shape, device="meta")
        self.tracer.codes[id(stands)] = weight
        return stands
