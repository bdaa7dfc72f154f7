# SPDX-License-Identifier: Apache-2.0
"""LayerNorm, as its modules and models write it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import OlmoConfig
from transformers.models.cohere.modeling_cohere import CohereLayerNorm

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


class Centred(torch.nn.LayerNorm):
    """A norm whose weight is worked out from two parameters."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight + self.bias
        return torch.nn.functional.layer_norm(x, (64,), weight, self.bias, self.eps)


def test_a_weight_of_two_parameters() -> None:
    with pytest.raises(
        UnsupportedOperatorError, match=r"aten\.add\.Tensor of a parameter at test_n"
    ):
        capture_model(with_norms(Centred), TOKENS)


def test_a_linear_of_a_parameter_and_a_number() -> None:
    """Only a norm takes one: elsewhere the number would be lost."""
    model = tiny_llama()
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda x: mlp.down_proj(torch.nn.functional.linear(x, mlp.up_proj.weight + 1))
    with pytest.raises(
        UnsupportedOperatorError, match=r"linear of a parameter and a number .in layer 0. at"
    ):
        capture_model(model, TOKENS)
