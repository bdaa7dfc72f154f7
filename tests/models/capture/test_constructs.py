# SPDX-License-Identifier: Apache-2.0
"""A model that is refused is told by the names of what is missing, all of it at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.fx
from transformers import (
    DeepseekV2Config,
    DiffLlamaConfig,
    MambaConfig,
)

from gsqc.errors import GsqcError
from gsqc.models.capture import capture_model
from gsqc.models.capture.constructs import construct_of, without_consequences
from tests.models.capture.tiny import SIZES, TOKENS, build, tiny_llama

aten = torch.ops.aten
ATTENTION = ("LlamaDecoderLayer", "LlamaAttention")
OTHER = "LayerNorm of another form"


def node(target: Any, *classes: str, users: tuple[Any, ...] = ()) -> torch.fx.Node:
    """An exported node that stands in modules of these classes, and calls that use it."""
    graph = torch.fx.Graph()
    x, other = graph.placeholder("x"), graph.placeholder("other")
    made = graph.call_function(target, (x,))
    made.meta["nn_module_stack"] = {k: ("", f"a.b.{name}") for k, name in enumerate(classes)}
    for user in users:
        graph.call_function(user, (made, other))
    return made


@pytest.mark.parametrize(
    ("target", "classes", "reason", "source", "construct"),
    [
        (aten.layer_norm.default, ("GPT2Block", "LayerNorm"), "", "self.ln_1(x)", OTHER),
        (aten.mean.dim, ("CohereLayerNorm",), "", "mean = x.mean(-1)", OTHER),
        (aten.rsqrt.default, ("GemmaRMSNorm",), "", "", "RMS norm of another form"),
        (aten.addmm.default, ("Conv1D",), "", "self.c_attn(x)", "linear stored transposed"),
        (aten.split.Tensor, ATTENTION, "", "self.c_attn(x).split()", "fused q, k and v"),
        (aten.chunk.default, ("Phi3MLP",), "", "up_states.chunk(2, dim=-1)", "fused gate and up"),
        (aten.cat.default, ATTENTION, "", "cat((q_rot, q_pass))", "rope on a part of a head"),
        (aten.stack.default, ATTENTION, "", "apply_rotary(q)", "rope of neighbouring pairs"),
        (aten.cos.default, ("LlamaRotaryEmbedding",), "", "", "rotary embedding of another kind"),
        (aten.conv1d.default, ("Lfm2ShortConv",), "", "", "short convolution"),
        (aten.topk.default, ("MixtralSparseMoeBlock",), "", "", "mixture of experts"),
        (aten.cumsum.default, ("Mamba2Mixer",), "", "", "state space layers"),
        (aten.softmax.int, ("GPTJAttention",), "", "", "attention in the model's own code"),
        (aten.embedding.default, ("Embedding",), " of a constant", "self.wpe(position_ids)",
         "learned positions"),
        (aten.mul.Tensor, ("GraniteModel",), " of the number 12.0", "", "a scalar multiplier"),
        (aten.tanh.default, ("Gemma2ForCausalLM",), "", "tanh(logits)", "softcap of the logits"),
        (aten.tanh.default, ("GPT2MLP", "NewGELUActivation"), "", "", "GELU without a gate"),
        (aten.softplus.default, ("XIELUActivation",), "", "", "xIELU without a gate"),
        (aten.relu.default, ("OPTDecoderLayer",), "", "", "ReLU without a gate"),
        (aten.sin.default, ("Wave",), "", "torch.sin(x)", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_name_of_an_operator(
    target: Any, classes: tuple[str, ...], reason: str, source: str, construct: str | None
) -> None:
    made = node(target, *classes)
    name = str(target).removesuffix(".default")
    assert construct_of(made, f"{name}{reason}", f"file.py:1: {source}") == construct


def test_an_activation_that_is_multiplied_is_a_gate() -> None:
    gate = node(aten.gelu.default, "GemmaMLP", "GELUTanh", users=(aten.mul.Tensor,))
    assert construct_of(gate, "aten.gelu", "") == "GELU as the gate"
    plain = node(aten.gelu.default, "GPT2MLP", "GELUActivation", users=(aten.linear.default,))
    assert construct_of(plain, "aten.gelu", "") == "GELU without a gate"


def test_parts_of_a_rope_that_has_a_name_are_not_named_again() -> None:
    generic = "rotary embedding of another kind"
    assert without_consequences([generic, "LayerNorm"]) == [generic, "LayerNorm"]
    assert without_consequences([generic, "rope of neighbouring pairs"]) == [
        "rope of neighbouring pairs"
    ]


class Part(torch.nn.Module):
    """An MLP with something before it."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner


class Wave(Part):
    """An operator that no model has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.sin(x))


class SparseMoeBlock(Part):
    """The share of one expert."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x * torch.softmax(x, -1))


def refused(model: Any) -> GsqcError:
    with pytest.raises(GsqcError) as error:
        capture_model(model, TOKENS)
    return error.value


def test_what_follows_an_unknown_operator_is_found_too() -> None:
    model = tiny_llama(num_hidden_layers=4)
    model.model.layers[0].mlp = Wave(model.model.layers[0].mlp)
    for k in (2, 3):
        model.model.layers[k].mlp = SparseMoeBlock(model.model.layers[k].mlp)
    first, wave, experts, operators = str(refused(model)).split("\n  ")
    assert first == "the model has what gsqc does not compile: aten.sin, mixture of experts"
    assert wave.startswith("aten.sin (in layer 0) at test_constructs.py:")
    assert wave.endswith("return self.inner(torch.sin(x))")
    assert experts.startswith("mixture of experts (in layers 2 to 3) at test_constructs.py:")
    assert operators == "operators: aten.mul.Tensor"


@pytest.mark.parametrize(
    ("config", "constructs"),
    [
        (
            DeepseekV2Config(
                **SIZES | {"num_key_value_heads": 4}, q_lora_rank=32, kv_lora_rank=16,
                qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, first_k_dense_replace=2,
            ),
            ["rope of neighbouring pairs", "values of another width than keys"],
        ),
        (DiffLlamaConfig(**SIZES), ["differential attention at modeling_diffllama.py"]),
        (MambaConfig(hidden_size=64, num_hidden_layers=1, vocab_size=128), ["MambaMixer"]),
    ],
    ids=["deepseek_v2", "diffllama", "mamba"],
)  # fmt: skip
def test_models_that_are_refused(config: Any, constructs: list[str]) -> None:
    error = refused(build(config))
    assert "gsqc does not compile: " in str(error)
    assert "gsqc models" in error.hint
    for construct in constructs:
        assert construct in str(error)
