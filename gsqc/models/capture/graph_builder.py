# SPDX-License-Identifier: Apache-2.0
"""The captured graph while it is built: what the conversion rules look up and append to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.fx

from gsqc.models.capture.export import WRAPPED, Exported
from gsqc.models.capture.forms import ExportedValue, Form, Node, Unsupported
from gsqc.models.capture.source import layer_index, module_path, source_line


class GraphBuilder:
    """A graph of `gsqc.models.model_ops` calls that grows node by node.

    values   what each exported node became
    current  the exported node that is converted now
    """

    def __init__(self, exported: Exported, tokens: int) -> None:
        self.exported, self.tokens = exported, tokens
        self.graph = torch.fx.Graph()
        self.values: dict[Node, ExportedValue] = {}
        self.current: Node = next(iter(exported.graph.nodes))
        self._placeholders: dict[str, Node] = {}
        self.placeholder("tokens", (tokens,))

    def placeholder(self, name: str, shape: tuple[int, ...], **meta: Any) -> Node:
        """The graph's input of that name, made on first use, behind the other inputs."""
        if name not in self._placeholders:
            with self.graph.inserting_after(next(reversed(self._placeholders.values()), None)):
                node = self.graph.placeholder(name.replace(".", "_"))
            node.meta.update(shape=shape, **meta)
            self._placeholders[name] = node
        return self._placeholders[name]

    def emit(
        self, function: Callable[..., Any], *args: Node, shape: tuple[int, ...], **kwargs: Any
    ) -> Node:
        """Append a call, with the current exported node's place in the model."""
        node = self.graph.call_function(function, args, kwargs)
        path = module_path(self.current.meta, WRAPPED)
        node.meta.update(
            shape=shape, module=path, block=layer_index(path), source=source_line(self.current.meta)
        )
        return node

    def value_of(self, arg: Any, *forms: Form) -> ExportedValue:
        """The argument's value, which must have one of the forms."""
        if not isinstance(arg, Node):
            raise Unsupported(f" of the number {arg}")
        value = self.values[arg]
        if value.form not in forms:
            raise Unsupported(f" of {value.form.value}")
        return value

    def number_of(self, arg: Any) -> float | None:
        """The argument, if it is a number that is known when compiling."""
        if isinstance(arg, Node):
            value = self.values[arg]
            return value.number if value.form is Form.NUMBER else None
        return float(arg)

    def node_of(self, arg: Any, form: Form) -> Node:
        """Our node of an argument that must have the form."""
        node = self.value_of(arg, form).node
        assert node is not None
        return node
