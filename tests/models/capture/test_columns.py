# SPDX-License-Identifier: Apache-2.0
"""Fused projections, and rotary embeddings of a part of a head or of neighbouring columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    Ernie4_5Config,
    GlmConfig,
    HeliumConfig,
    Phi3Config,
    StableLmConfig,
    Starcoder2Config,
)
from transformers.models.cohere import modeling_cohere
from transformers.models.llama import modeling_llama

from gsqc.errors import UnsupportedOperatorError
from gsqc.models import model_ops
from gsqc.models.capture import capture_model
from gsqc.models.capture.recognise import HALVES, PAIRS, rope_of_pairs
from tests.models.capture.test_capture import assert_same_logits
from tests.models.capture.tiny import SIZES, TOKENS, build, tiny_llama


@pytest.mark.parametrize(
    ("config", "rope", "width"),
    [
        (Phi3Config(**SIZES, pad_token_id=0), "rope", 16),
        (Phi3Config(**SIZES, pad_token_id=0, partial_rotary_factor=0.75), "rope", 12),
        (StableLmConfig(**SIZES), "rope", 4),
        (Starcoder2Config(**SIZES, use_bias=False), "rope", 16),
        (GlmConfig(**SIZES, head_dim=16, pad_token_id=0, attention_bias=False), "rope_pairs", 8),
        (Ernie4_5Config(**SIZES, head_dim=16), "rope_pairs", 16),
        (HeliumConfig(**SIZES, head_dim=16), "rope_pairs", 16),
    ],
    ids=["phi3", "phi3, a part", "stablelm", "starcoder2", "glm", "ernie", "helium"],
)
def test_models(config: Any, rope: str, width: int) -> None:
    captured = assert_same_logits(build(config))
    ropes = [n for n in captured.graph.nodes if "rope" in getattr(n.target, "__name__", "")]
    assert {n.target for n in ropes} == {getattr(model_ops, rope)}
    assert len(ropes) == 4
    assert captured.constants["rope_cos"].shape == (TOKENS, width // 2)


def test_the_parts_of_a_fused_projection() -> None:
    captured = assert_same_logits(build(Phi3Config(**SIZES, pad_token_id=0)))
    parts = [n for n in captured.graph.nodes if n.target is model_ops.columns]
    first = [(n.kwargs["start"], n.kwargs["count"]) for n in parts if n.meta["block"] == 0]
    assert first == [(0, 64), (64, 32), (96, 32), (0, 96), (96, 96)]


def test_what_rotates_halves_and_what_rotates_pairs() -> None:
    assert rope_of_pairs(modeling_llama.apply_rotary_pos_emb, HALVES) is False
    assert rope_of_pairs(modeling_cohere.apply_rotary_pos_emb, PAIRS) is True
    assert rope_of_pairs(modeling_llama.apply_rotary_pos_emb, PAIRS) is None
    assert rope_of_pairs(modeling_cohere.apply_rotary_pos_emb, HALVES) is None


def last_columns(q: Any, k: Any, cos: Any, sin: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates the last columns where the tables are narrow."""
    width = cos.shape[-1]
    rotated = modeling_llama.apply_rotary_pos_emb(q[..., -width:], k[..., -width:], cos, sin)
    q, k = (torch.cat([x[..., :-width], y], -1) for x, y in zip((q, k), rotated, strict=True))
    return q, k


def test_a_rotation_of_the_last_columns_is_not_taken_for_one_of_the_first() -> None:
    assert rope_of_pairs(last_columns, HALVES) is None


class Cut(torch.nn.Module):
    """A module around another, that does something with its input before it."""

    def __init__(self, inner: Any, change: Any) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(self.change(x))
        return y


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: torch.cat([x[..., ::2], x[..., 1::2]], -1), "slice.Tensor in steps of 2"),
        (lambda x: torch.cat([x[:, 1:], x[:, :1]], 1), "slice.Tensor of axis 1"),
        (lambda x: torch.cat([x[..., 32:], x[..., :32]], -1), "cat of activations"),
        (lambda x: torch.stack(x.chunk(2, 1), 1).flatten(1, 2), "chunk of axis 1"),
    ],
    ids=["steps", "tokens", "order", "split"],
)
def test_other_cuts_are_refused(change: Any, words: str) -> None:
    model = tiny_llama()
    model.model.layers[0].mlp = Cut(model.model.layers[0].mlp, change)
    with pytest.raises(UnsupportedOperatorError, match=rf"aten\.{words}.* at test_columns\.py"):
        capture_model(model, TOKENS)
