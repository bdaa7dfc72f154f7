# SPDX-License-Identifier: Apache-2.0
"""Mixtures of experts: what a router computes is told by its operators, a gate by its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MixtralConfig

from gsqc.errors import GsqcError
from gsqc.models import expert_ops
from gsqc.models.capture import capture_model, run_float
from tests.models.capture.tiny import SIZES, TOKENS, build, logits, tokens

Route = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def mixtral(route: Route | None = None) -> Any:
    """A tiny Mixtral, with another router in its first layer if one is given."""
    model: Any = build(MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2))
    if route is not None:
        gate = model.model.layers[0].mlp.gate

        def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return (x, *route(x.reshape(-1, x.shape[-1]), gate.weight))

        gate.forward = forward
    return model


def softmax_last(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    values, choice = torch.topk(torch.nn.functional.linear(x, w), 3, dim=-1)
    return torch.softmax(values, -1), choice


@pytest.mark.parametrize(
    ("route", "settings"),
    [
        (None, {"top_k": 2, "normalise": True}),
        (softmax_last, {"top_k": 3, "normalise": True}),
        (
            lambda x, w: torch.topk(torch.softmax(torch.nn.functional.linear(x, w), -1), 1),
            {"top_k": 1, "normalise": False},
        ),
    ],
    ids=["mixtral", "softmax of the chosen", "one of four"],
)
def test_a_router(route: Route | None, settings: dict[str, Any]) -> None:
    model = mixtral(route)
    captured = capture_model(model, TOKENS)
    calls = [n for n in captured.graph.nodes if n.target is expert_ops.routing]
    assert calls[0].kwargs == settings
    expected = logits(model, tokens())
    torch.testing.assert_close(run_float(captured, tokens()), expected, atol=1e-5, rtol=1e-5)


def sigmoid(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return torch.topk(torch.sigmoid(torch.nn.functional.linear(x, w)), 2)  # type: ignore[return-value]


def no_probability(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return torch.topk(torch.nn.functional.linear(x, w), 2)  # type: ignore[return-value]


def another_choice(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    p = torch.softmax(torch.nn.functional.linear(x, w), -1)
    return torch.topk(p, 2)[0], torch.topk(torch.nn.functional.linear(x, w), 3)[1]


@pytest.mark.parametrize("route", [sigmoid, no_probability, another_choice])
def test_another_router_is_refused(route: Route) -> None:
    with pytest.raises(GsqcError, match="mixture of experts"):
        capture_model(mixtral(route), TOKENS)


def test_another_gate_is_refused() -> None:
    model = mixtral()
    model.model.layers[0].mlp.experts.act_fn = torch.nn.Tanh()
    with pytest.raises(GsqcError, match="mixture of experts"):
        capture_model(model, TOKENS)
