# SPDX-License-Identifier: Apache-2.0
"""Attention that a model writes out is told by its numbers: masks, windows, biases of ALiBi."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gsqc.errors import GsqcError
from gsqc.models import model_ops
from gsqc.models.capture import capture_model, run_float
from tests.models.capture.tiny import TOKENS, tiny_llama

PLACES = torch.arange(TOKENS)
DISTANCE = PLACES[:, None] - PLACES
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.0625])[:, None, None]


class Written(torch.nn.Module):
    """An attention of 4 heads of its own. `change` is what it does to the scores."""

    def __init__(self, inner: Any, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.qkv = torch.nn.Linear(64, 192, bias=False)
        self.o_proj = inner.o_proj
        self.change = change

    def forward(self, hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
        qkv = self.qkv(hidden_states).view(1, TOKENS, 4, 3, 16)
        q, k, v = (qkv[..., part, :].transpose(1, 2) for part in range(3))
        p = torch.softmax(self.change(q @ k.transpose(2, 3) * 0.25), -1)
        return self.o_proj((p @ v).transpose(1, 2).reshape(1, TOKENS, 64)), None


def model_with(change: Callable[[Tensor], Tensor]) -> Any:
    """A tiny Llama whose first layer has such an attention."""
    torch.manual_seed(1)
    model = tiny_llama(num_attention_heads=4, num_key_value_heads=4)
    model.model.layers[0].self_attn = Written(model.model.layers[0].self_attn, change)
    return model.eval()


def causal(scores: Tensor) -> Tensor:
    """What is behind a token is hidden."""
    return scores.masked_fill(DISTANCE < 0, -1e9)


FORMS: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, Any], int]] = {
    "masked_fill": (causal, {}, 0),
    "where": (lambda s: torch.where(DISTANCE >= 0, s, torch.tensor(-1e9)), {}, 0),
    "added": (lambda s: s + torch.full((TOKENS, TOKENS), -torch.inf).triu(1), {}, 0),
    "a window": (lambda s: causal(s).masked_fill(DISTANCE >= 3, -1e9), {"window": 3}, 0),
    "alibi by distance": (lambda s: causal(s - SLOPES * DISTANCE), {}, 1),
    "alibi by place": (lambda s: causal(s + SLOPES * PLACES), {}, 1),
    "alibi, scaled": (lambda s: causal(s / 0.5 - SLOPES * DISTANCE) * 0.5, {"scale": 0.25}, 1),
    "least": (lambda s: torch.max(causal(s), torch.tensor(-3e38)), {}, 0),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_attention(name: str) -> None:
    change, settings, slopes = FORMS[name]
    model = model_with(change)
    captured = capture_model(model, TOKENS)
    calls = [n for n in captured.graph.nodes if n.target is model_ops.attention]
    assert calls[0].kwargs == {"scale": 0.25} | settings
    assert len(calls[0].args) == 3 + slopes
    tokens = torch.arange(TOKENS)
    with torch.no_grad():
        expected = model(tokens[None]).logits[0]
    torch.testing.assert_close(run_float(captured, tokens), expected, atol=1e-5, rtol=1e-5)


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "that is not causal": lambda s: s,
    "that is not causal at": lambda s: causal(s).masked_fill(DISTANCE == 2, -1e9),
    "with a number that hides nothing": lambda s: causal(s).masked_fill(DISTANCE < 0, 5.0),
    "with biases that are no slopes": lambda s: causal(s - SLOPES / 8 * DISTANCE**2),
    "with a slope of 2.0": lambda s: causal(s - 4 * SLOPES * DISTANCE),
    "with a slope of -0.5": lambda s: causal(s + SLOPES * DISTANCE),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_another_attention_is_refused(reason: str) -> None:
    with pytest.raises(GsqcError, match=reason.removesuffix(" at")):
        capture_model(model_with(REFUSED[reason]), TOKENS)
