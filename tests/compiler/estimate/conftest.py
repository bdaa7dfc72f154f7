# SPDX-License-Identifier: Apache-2.0
"""A model directory of five layers: two of them are captured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.capture.tiny import tiny_llama
from tests.runtime.small_bundle import END, VOCABULARY, byte_tokenizer

LAYERS = 5


@pytest.fixture(scope="session")
def deep_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep-llama")
    tiny_llama(vocab_size=VOCABULARY, eos_token_id=END, num_hidden_layers=LAYERS).save_pretrained(
        folder
    )
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder
