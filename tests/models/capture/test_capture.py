# SPDX-License-Identifier: Apache-2.0
"""A captured graph, run in float, against Hugging Face's own logits.

The tolerance is 1e-5 of the logits' size: both are float32 sums of the same terms in another order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import MistralConfig, PreTrainedModel
from transformers.models.llama import modeling_llama

from gsqc.errors import DataError, ModelError, OptionError
from gsqc.models import model_ops
from gsqc.models.capture import capture_model, float_parameters, run_float
from tests.models.capture.tiny import SIZES, TOKENS, build, logits, tiny_llama, tokens


def assert_same_logits(model: PreTrainedModel) -> Any:
    captured = capture_model(model, TOKENS)
    expected = logits(model.eval(), tokens())
    scale = expected.abs().max().item()
    torch.testing.assert_close(
        run_float(captured, tokens()).detach(), expected, rtol=1e-5, atol=1e-5 * scale
    )
    return captured


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False, "rms_norm_eps": 1e-2},
        {"num_key_value_heads": 1, "head_dim": 32},
        {"num_attention_heads": 1, "num_key_value_heads": 1},
        {
            "num_attention_heads": TOKENS,
            "num_key_value_heads": TOKENS,
            "hidden_size": 48,
            "head_dim": 4,
        },
    ],
    ids=["plain", "untied", "wide heads", "one head", "as many heads as tokens"],
)
def test_logits_are_those_of_the_model(changes: dict[str, Any]) -> None:
    assert_same_logits(tiny_llama(**changes))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "rope_theta": 1e4,
            "original_max_position_embeddings": 8,
        },
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "rope_theta": 1e4,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8,
        },
    ],
    ids=lambda r: r["rope_type"],
)
def test_scaled_rope(rope: dict[str, Any]) -> None:
    assert_same_logits(tiny_llama(rope_parameters=rope, max_position_embeddings=32))


@pytest.mark.parametrize("window", [1, 5, TOKENS, TOKENS + 1])
def test_windows_of_mistral(window: int) -> None:
    captured = assert_same_logits(build(MistralConfig(**SIZES, sliding_window=window)))
    windows = [n.kwargs.get("window") for n in captured.graph.nodes if "scale" in n.kwargs]
    # A window that holds all tokens is none.
    assert windows == [window if window < TOKENS else None] * 2


def test_graph_and_its_metadata() -> None:
    captured = assert_same_logits(tiny_llama())
    inputs = [n for n in captured.graph.nodes if n.op == "placeholder"]
    calls = [n for n in captured.graph.nodes if n.op == "call_function"]
    names = [n.meta["parameter"] for n in inputs if "parameter" in n.meta]
    assert inputs[0].name == "tokens"
    assert (
        len(set(names)) == len(names) == 1 + 2 * 9 + 1
    )  # the tied head has no placeholder of its own
    assert [n.meta["constant"] for n in inputs if "constant" in n.meta] == ["rope_cos", "rope_sin"]
    assert {n.meta["block"] for n in calls} == {None, 0, 1}
    assert calls[-1].target is model_ops.linear
    assert calls[-1].meta["block"] is None
    assert calls[-1].args[1] is calls[0].args[1]
    query = calls[2]
    assert query.meta["module"] == "model.layers.0.self_attn.q_proj"
    assert query.meta["source"].startswith("modeling_llama.py:")
    assert "self.q_proj(hidden_states)" in query.meta["source"]
    config = captured.config
    assert (config.heads, config.kv_heads, config.head_dim, config.ffn, config.vocabulary) == (
        4,
        2,
        16,
        96,
        128,
    )
    assert config.tied_embeddings
    assert config.norm_eps == 1e-6
    assert captured.constants["rope_cos"].shape == (TOKENS, 8)
    assert captured.constants["rope_cos"].dtype == np.float64


def test_recorded_shapes_are_true() -> None:
    captured = capture_model(tiny_llama(), TOKENS)
    seen: list[str] = []

    def check(function: Any) -> Any:
        def run(node: torch.fx.Node, *args: Any, **kwargs: Any) -> torch.Tensor:
            y: torch.Tensor = function(*args, **kwargs)
            assert tuple(y.shape) == node.meta["shape"]
            seen.append(node.name)
            return y

        return run

    functions = {n.target for n in captured.graph.nodes if n.op == "call_function"}
    run_float(captured, tokens(), None, {f: check(f) for f in functions})
    assert len(seen) == len([n for n in captured.graph.nodes if n.op == "call_function"])


@pytest.mark.parametrize("breaks", [False, True])
def test_the_model_is_left_as_it_was(breaks: bool) -> None:
    model = tiny_llama(hidden_act="mish" if breaks else "silu").train()
    model.model.norm.eval()
    function, implementation = (
        modeling_llama.apply_rotary_pos_emb,
        model.config._attn_implementation,
    )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.random.get_rng_state()
    if breaks:
        with pytest.raises(Exception, match="mish"):
            capture_model(model, TOKENS)
    else:
        capture_model(model, TOKENS)
    assert modeling_llama.apply_rotary_pos_emb is function
    assert model.config._attn_implementation == implementation
    assert not any("forward" in vars(m) for m in model.modules())
    assert not model.model.norm.training
    assert all(m.training for m in model.modules() if m is not model.model.norm)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)


def test_lora_in_float_is_a_replaced_function() -> None:
    captured = capture_model(tiny_llama(), TOKENS)
    parameters = float_parameters(captured)
    down = torch.randn(4, 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    up = torch.zeros(64, 4, requires_grad=True)

    def with_lora(node: torch.fx.Node, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = model_ops.linear(x, w)
        return (
            y + x @ down.T @ up.T if node.meta["module"] == "model.layers.1.self_attn.q_proj" else y
        )

    plain = run_float(captured, tokens(), parameters)
    adapted = run_float(captured, tokens(), parameters, {model_ops.linear: with_lora})
    assert torch.equal(plain, adapted)
    adapted.square().sum().backward()
    assert up.grad is not None
    assert up.grad.abs().max() > 0


def test_overrides_get_gradients() -> None:
    captured = capture_model(tiny_llama(), TOKENS)
    name = "model.layers.0.mlp.up_proj.weight"
    parameter = torch.nn.Parameter(float_parameters(captured)[name])
    run_float(captured, tokens(), {name: parameter}).sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.abs().max() > 0


def test_bad_arguments() -> None:
    captured = capture_model(tiny_llama(), TOKENS)
    with pytest.raises(DataError, match="vocabulary"):
        run_float(captured, [128] * TOKENS)
    with pytest.raises(DataError, match="shape"):
        run_float(captured, [1] * (TOKENS + 1))
    with pytest.raises(OptionError):
        capture_model(tiny_llama(), 1)
    with pytest.raises(ModelError, match="not a model"):
        capture_model(17, TOKENS)
