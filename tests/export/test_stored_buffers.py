# SPDX-License-Identifier: Apache-2.0
"""What a merged model holds beside its parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ApertusConfig, ApertusForCausalLM

from gsqc.errors import ExportError
from gsqc.export.merge import stored_buffers
from gsqc.models import load_model


def test_the_numbers_of_an_activation(tmp_path: Path) -> None:
    """Of xIELU, as transformers stores them."""
    config = ApertusConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    model = ApertusForCausalLM(config)
    model.save_pretrained(tmp_path)
    found = stored_buffers(load_model(str(tmp_path)).module)
    expected = {n: b for n, b in model.state_dict().items() if n.endswith(("beta", "eps"))}
    assert len(expected) == 4
    assert found.keys() == expected.keys()
    for name, buffer in expected.items():
        np.testing.assert_array_equal(found[name], buffer.numpy())


def test_numbers_that_were_not_read() -> None:
    module = torch.nn.Linear(2, 2)
    module.register_buffer("bias_of_choice", torch.empty(3, device="meta"))
    with pytest.raises(ExportError, match="stores bias_of_choice, which gsqc does not read"):
        stored_buffers(module)
