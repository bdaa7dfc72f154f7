# SPDX-License-Identifier: Apache-2.0
"""A two-layer Llama in a model directory with a tokenizer, and the bundle that `compile_model`
makes of it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from gsqc.check.first_digests import take_first_digests
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import AdapterOptions, CompileOptions
from tests.models.capture.tiny import tiny_llama
from tests.runtime.small_bundle import END, VOCABULARY, byte_tokenizer


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `save_pretrained` leaves it. 257 tokens: bytes and the end, so the last chunk of the head
    is ragged.
    """
    folder = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama(vocab_size=VOCABULARY, eos_token_id=END).save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def bundle(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4-8-8, NF4, 24 tokens, two sequences a step; it carries the digests of its first steps."""
    output = tmp_path_factory.mktemp("bundle") / "tiny.gsqc"
    options = CompileOptions(
        output, adapter=AdapterOptions(rank=4, alpha=8), sequence_length=24, batch=2, seed=1
    )
    first_digests = partial(take_first_digests, say=print)
    compile_model(str(model_directory), options, first_digests=first_digests)
    return output
