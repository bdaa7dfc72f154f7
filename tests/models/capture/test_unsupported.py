# SPDX-License-Identifier: Apache-2.0
"""What has no integer form is named, with the user's source line, all of it at once."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from gsqc.errors import ModelError, UnsupportedOperatorError
from gsqc.models.capture import capture_model
from tests.models.capture.tiny import TOKENS, tiny_llama


def problem(model: PreTrainedModel) -> str:
    with pytest.raises(UnsupportedOperatorError) as error:
        capture_model(model, TOKENS)
    assert "silu_gate" in error.value.hint
    return str(error.value)


class Wave(torch.nn.Module):
    """A module around another."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + torch.sin(x)


def test_a_module_of_the_users_is_named_by_file_and_line() -> None:
    model = tiny_llama()
    for layer in model.model.layers:
        layer.mlp = Wave(layer.mlp)
    text, start = inspect.getsourcelines(Wave.forward)
    line = start + next(k for k, code in enumerate(text) if "sin" in code)
    message = problem(model)
    assert f"aten.sin at test_unsupported.py:{line}: return self.inner(x) + torch.sin(x)" in message
    # Once, though two layers have it, and nothing that only follows from it.
    assert message.count("aten.sin at") == 1
    assert message.count(" at ") == 1


def test_an_activation_is_named_with_the_models_line() -> None:
    assert re.search(
        r"ReLU as the gate at modeling_llama\.py:\d+: down_proj = ",
        problem(tiny_llama(hidden_act="leaky_relu")),
    )


class DoublingNorm(torch.nn.Module):
    """A norm that adds two to its weight."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return y * (2 + self.weight)


def test_another_norm_is_not_taken_for_an_rms_norm() -> None:
    model = tiny_llama()
    model.model.norm = DoublingNorm(model.model.norm)
    message = problem(model)
    assert "RMS norm of another form at test_unsupported.py" in message
    assert "aten.rsqrt" in message


class Branch(torch.nn.Module):
    """Its forward depends on the values of tensors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_control_flow_on_values() -> None:
    model = tiny_llama()
    model.model.layers[0].mlp = Branch()
    with pytest.raises(
        ModelError, match=r"LlamaForCausalLM failed at test_unsupported.py:\d+: return x if x.sum"
    ):
        capture_model(model, TOKENS)


def test_a_model_without_a_head() -> None:
    with pytest.raises(ModelError, match="LlamaModel gives no logits"):
        capture_model(tiny_llama().model, TOKENS)


class Interleaved(torch.nn.Module):
    """A rotary embedding whose tables are not two equal halves."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.inv_freq = inner, inner.inv_freq

    def forward(
        self, x: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = self.inner(x, position_ids)
        return cos.flip(-1) * 2, torch.cat([sin[..., :8], -sin[..., 8:]], -1)


def test_an_unknown_rotary_embedding() -> None:
    model = tiny_llama()
    model.model.rotary_emb = Interleaved(model.model.rotary_emb)
    assert "test_unsupported.py" in problem(model)
