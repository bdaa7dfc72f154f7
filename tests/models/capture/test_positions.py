# SPDX-License-Identifier: Apache-2.0
"""Learned positions: a table for each position, of which a sequence may use no more than it has."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GPT2Config, OPTConfig

from gsqc.errors import ModelError
from gsqc.models import model_ops
from gsqc.models.capture import capture_model
from tests.models.capture.test_capture import assert_same_logits
from tests.models.capture.tiny import TOKENS, build

SIZES = {"num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 128}


def gpt2(positions: int) -> Any:
    return build(GPT2Config(n_embd=64, **SIZES, n_positions=positions))


def opt(positions: int) -> Any:
    sizes = {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 96}
    return build(OPTConfig(**SIZES, **sizes, max_position_embeddings=positions))


@pytest.mark.parametrize(("make", "offset"), [(gpt2, 0), (opt, 2)])
def test_a_table_that_is_just_long_enough(make: Any, offset: int) -> None:
    captured = assert_same_logits(make(TOKENS))
    (node,) = [n for n in captured.graph.nodes if n.target is model_ops.position_embedding]
    assert node.kwargs == {"offset": offset}
    assert node.args[1].meta["shape"] == (TOKENS + offset, 64)


@pytest.mark.parametrize("make", [gpt2, opt])
def test_a_table_that_is_too_short(make: Any) -> None:
    with pytest.raises(ModelError, match=f"has learned {TOKENS - 1} positions") as error:
        capture_model(make(TOKENS - 1), TOKENS)
    assert error.value.hint == f"compile with a sequence length of at most {TOKENS - 1}"
