# SPDX-License-Identifier: Apache-2.0
"""LayerNorm, as its modules and models write it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import OlmoConfig
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P

from gsqc.errors import UnsupportedOperatorError
from gsqc.models import model_ops
from gsqc.models.capture import capture_model
from tests.models.capture.test_capture import assert_same_logits
from tests.models.capture.tiny import SIZES, TOKENS, build, tiny_llama


def with_norms(make: Any) -> Any:
    """A Llama with other norms, of uneven weights and biases."""
    model = tiny_llama()
    generator = torch.Generator().manual_seed(5)
    for layer in model.model.layers:
        layer.input_layernorm = make(64)
        layer.post_attention_layernorm = make(64)
    model.model.norm = make(64)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = torch.rand(64, generator=generator) + 0.5
    return model.eval()


@pytest.mark.parametrize(
    ("make", "vectors"),
    [
        (lambda n: torch.nn.LayerNorm(n, eps=1e-2), 2),
        (lambda n: torch.nn.LayerNorm(n, bias=False), 1),
        (lambda n: torch.nn.LayerNorm(n, elementwise_affine=False), 0),
        (lambda n: CohereLayerNorm(n, eps=1e-2), 1),
    ],
    ids=["weight and bias", "weight", "neither", "written out by Cohere"],
)
def test_layer_norm(make: Any, vectors: int) -> None:
    captured = assert_same_logits(with_norms(make))
    norms = [n for n in captured.graph.nodes if n.target is model_ops.layer_norm]
    assert [len(n.args) for n in norms] == [1 + vectors] * 5
    assert captured.config.norm_eps == norms[-1].kwargs["eps"]


def test_olmo() -> None:
    assert_same_logits(build(OlmoConfig(**SIZES)))


def test_a_layer_norm_that_adds_one_to_its_weight() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"aten\.add\.Tensor of"):
        capture_model(with_norms(NemotronLayerNorm1P), TOKENS)
