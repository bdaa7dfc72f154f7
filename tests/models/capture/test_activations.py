# SPDX-License-Identifier: Apache-2.0
"""Activation functions, with and without a gate, as transformers' `hidden_act` names them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import ArceeConfig

from gsqc.errors import UnsupportedOperatorError
from gsqc.models import model_ops
from gsqc.models.capture import capture_model
from tests.models.capture.test_capture import assert_same_logits
from tests.models.capture.tiny import SIZES, TOKENS, build, tiny_llama


def functions(captured: Any) -> set[Any]:
    return {n.target for n in captured.graph.nodes if n.op == "call_function"}


@pytest.mark.parametrize(
    ("name", "tanh"),
    [
        ("gelu", False),
        ("gelu_python", False),
        ("gelu_new", True),
        ("gelu_fast", True),
        ("gelu_pytorch_tanh", True),
        ("gelu_python_tanh", True),
    ],
)
def test_gelu_as_a_gate(name: str, tanh: bool) -> None:
    captured = assert_same_logits(tiny_llama(hidden_act=name))
    gates = [n for n in captured.graph.nodes if n.target is model_ops.gelu_gate]
    assert [n.kwargs for n in gates] == [{"tanh": tanh}] * 2
    assert not functions(captured) & {model_ops.gelu, model_ops.silu_gate}


def test_relu_square_as_a_gate() -> None:
    captured = assert_same_logits(tiny_llama(hidden_act="relu2"))
    assert model_ops.relu_square_gate in functions(captured)
    assert not functions(captured) & {model_ops.relu, model_ops.relu_square}


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_new", "relu", "relu2"])
def test_without_a_gate(name: str) -> None:
    """Arcee's layers have no gate."""
    captured = assert_same_logits(build(ArceeConfig(**SIZES, hidden_act=name)))
    used = {"gelu_new": "gelu", "relu2": "relu_square"}.get(name, name)
    assert functions(captured) & {
        getattr(model_ops, f) for f in ("silu", "gelu", "relu", "relu_square", "silu_gate")
    } == {getattr(model_ops, used)}


def test_quick_gelu_with_and_without_a_gate() -> None:
    captured = assert_same_logits(tiny_llama(hidden_act="quick_gelu"))
    assert model_ops.silu_gate in functions(captured)
    captured = assert_same_logits(build(ArceeConfig(**SIZES, hidden_act="quick_gelu")))
    assert model_ops.silu in functions(captured)


@pytest.mark.parametrize(("name", "operator"), [("mish", "aten.mish")])
def test_an_activation_without_an_integer_form(name: str, operator: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=re.escape(operator)):
        capture_model(tiny_llama(hidden_act=name), TOKENS)


class Squares(torch.nn.Module):
    """x² of no ReLU."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x).pow(2)
        return y


def test_a_square_of_something_else() -> None:
    model = tiny_llama()
    model.model.layers[0].mlp = Squares(model.model.layers[0].mlp)
    with pytest.raises(UnsupportedOperatorError, match="of activations other than a ReLU"):
        capture_model(model, TOKENS)
