# SPDX-License-Identifier: Apache-2.0
"""Operators on numbers that no token changes, as masks and the biases of ALiBi are: they are
evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import map_arg

from gsqc.models.capture.forms import ExportedValue, Form, Node

HIDDEN = -1e8
"""A score below it has no probability: masks hold numbers from -1e9 on."""


def causal_mask(tokens: int) -> Tensor:
    """What a model is given for a mask, float32 [1, 1, T, T]: 0 up to a token, the least float32
    behind it.
    """
    return torch.full((1, 1, tokens, tokens), torch.finfo(torch.float32).min).triu(1)


def text_mask(tokens: int) -> Tensor:
    """What a classifier is given for a mask, int64 [1, T]: 1 for each token of the text."""
    return torch.ones(1, tokens, dtype=torch.long)


def is_known(node: Node, value_of: Callable[[Node], ExportedValue]) -> bool:
    """Whether an exported operator works on known numbers alone, of which one at least is no plain
    number.
    """
    forms = {value_of(a).form for a in node.all_input_nodes}
    if Form.POSITIONS in forms:
        # Positions are 0, 1, … in every record. Tables of them are read by another rule.
        result = node.meta["val"]
        is_float = isinstance(result, Tensor) and result.is_floating_point()
        return is_float and forms <= {Form.KNOWN, Form.NUMBER, Form.POSITIONS}
    return not forms or (Form.KNOWN in forms and forms <= {Form.KNOWN, Form.NUMBER})


def evaluated(node: Node, value_of: Callable[[Node], ExportedValue]) -> ExportedValue:
    """The operator's result, on the CPU whatever the device of the model is."""

    def known(arg: Node) -> Any:
        value = value_of(arg)
        if value.form is Form.POSITIONS:
            shape = arg.meta["val"].shape
            return torch.arange(value.offset, value.offset + shape[-1]).reshape(shape)
        return torch.tensor(value.number) if value.form is Form.NUMBER else value.known

    arguments: Any = map_arg(node.args, known)
    settings: dict[str, Any] = dict(map_arg(node.kwargs, known))
    arguments = tuple("cpu" if isinstance(a, torch.device) else a for a in arguments)
    if settings.get("device") is not None:
        settings["device"] = "cpu"
    function: Any = node.target
    with torch.no_grad():
        result = function(*arguments, **settings)
    if isinstance(result, Tensor) and result.ndim == 0 and result.dtype != torch.bool:
        return ExportedValue(Form.NUMBER, number=float(result))
    return ExportedValue(Form.KNOWN, known=result)
