# SPDX-License-Identifier: Apache-2.0
"""Shapes of results, which torch works out on its device without numbers, meta."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

Node = torch.fx.Node


def tensors(tree: Any) -> list[Tensor]:
    """The tensors in lists and tuples."""
    return [t for t in tree_flatten(tree)[0] if isinstance(t, Tensor)]


def shape_of(value: Any) -> Any:
    """A node or a constant as a tensor without numbers."""
    if isinstance(value, Node):
        return value.meta["val"]
    return value.to("meta") if isinstance(value, Tensor) else value


def as_number(value: Any) -> Any:
    """A constant of one number as that number."""
    is_number = isinstance(value, Tensor) and value.numel() == 1
    return value.item() if is_number else value


def on_meta(op: Any, args: Any, kwargs: Any) -> Any:
    """The result's shape."""
    device = {}
    if any(a.name == "device" for a in op._schema.arguments):
        device = {"device": torch.device("meta")}
    with torch.no_grad():
        return op(*tree_map(shape_of, args), **{**tree_map(shape_of, kwargs), **device})


def decimal(number: float) -> float:
    """The number that was written: files hold 1e-6 as float32."""
    return float(f"{number:.7g}")
