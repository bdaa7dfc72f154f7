# SPDX-License-Identifier: Apache-2.0
"""The part of the vocabulary of a captured model (`gsqc.models.model_ops`) that mixtures of experts
have: every expert is computed for every token, and weighs 0 where it is not chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gsqc.models import model_ops


def clamped_gate(gate: Tensor, up: Tensor, *, factor: float, limit: float) -> Tensor:
    """gate, up [..., N] -> g · sigmoid(factor · g) · (u + 1), with g = min(gate, limit) and u = up
    between ±limit.
    """
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(gate * factor) * (up + 1)


EXPERT_GATES: dict[str, Callable[..., tuple[Callable[..., Tensor], dict[str, Any]]]] = {
    "silu": lambda: (model_ops.silu_gate, {}),
    "gelu": lambda: (model_ops.gelu_gate, {"tanh": False}),
    "gelu_tanh": lambda: (model_ops.gelu_gate, {"tanh": True}),
    "relu_square": lambda: (model_ops.relu_square_gate, {}),
    "clamped": lambda factor, limit: (clamped_gate, {"factor": factor, "limit": limit}),
}
"""The gates that experts may have: a function, and its settings from the experts' numbers."""


def router(x: Tensor, w: Tensor, *bias: Tensor) -> Tensor:
    """x [T, K], w [E, K], bias [E] or none -> logits [T, E]: a linear that no adapter changes."""
    return torch.nn.functional.linear(x, w, *bias)


def routing(logits: Tensor, *, top_k: int, normalise: bool) -> Tensor:
    """logits [T, E] -> the weight of each expert [T, E]: its probability, 0 if it is not chosen.

    normalise  the weights of the chosen experts sum to 1
    """
    # A stable sort, for of equal ones the first are chosen.
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :top_k]
    chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, True)
    if normalise:
        return torch.softmax(logits.masked_fill(~chosen, -torch.inf), -1)
    return torch.softmax(logits, -1) * chosen


def experts_up(x: Tensor, w: Tensor, *, experts: int) -> Tensor:
    """x [T, K], w [E·N, K] -> [T, E, N]: the first product of all experts."""
    return (x @ w.T).reshape(len(x), experts, -1)


def add_expert_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x [T, E, N], bias [E, N] -> [T, E, N]."""
    return x + bias


def weigh(x: Tensor, weights: Tensor) -> Tensor:
    """x [T, E, N], weights [T, E] -> [T, E·N]: each expert's numbers times its weight."""
    return (x * weights[..., None]).flatten(1)


def experts_down(x: Tensor, w: Tensor) -> Tensor:
    """x [T, E·N], w [K, E·N] -> [T, K]: the last product of all experts, and their sum."""
    return x @ w.T
