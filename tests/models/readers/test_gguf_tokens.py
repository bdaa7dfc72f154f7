# SPDX-License-Identifier: Apache-2.0
"""BOS and the ends of generation of a GGUF file are those of llama.cpp itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")
pytest.importorskip("transformers")
pytest.importorskip("xllamacpp")

from gsqc.data.tokenizer import Tokenizer
from gsqc.models import load_model
from tests.export.tiny_gguf import write_tiny_gguf
from tests.runtime.small_bundle import END

BOS = END + 2
FURTHER = ("<s>", "<|eot_id|>", "<|fim_pad|>", "<|other|>")


def ask(path: Path, token: int) -> tuple[int, str]:
    """The number of tokens of the prompt "abcab", and why llama.cpp ends if it must say `token`."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_gpu_layers, params.warmup = str(path), 64, 0, False
    params.cpuparams.n_threads = 1
    request = {"prompt": "abcab", "max_tokens": 2, "temperature": 0, "logit_bias": [[token, 100]]}
    answer = xllamacpp.Server(params).handle_completions(request)
    return answer["usage"]["prompt_tokens"], answer["choices"][0]["finish_reason"]


@pytest.mark.parametrize(
    ("pre", "settings"),
    [
        ("llama-bpe", {"bos_token_id": BOS}),
        ("llama-bpe", {"bos_token_id": BOS, "add_bos_token": False}),
        ("qwen2", {"bos_token_id": BOS}),
        ("gpt-2", {"bos_token_id": BOS, "add_bos_token": True}),
    ],
)
def test_a_text_begins_as_in_llama_cpp(tmp_path: Path, pre: str, settings: dict[str, Any]) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", *FURTHER, pre=pre, **settings)
    model = load_model(path)
    ours = Tokenizer.of_model(str(model.tokenizer_json), model.metadata)
    count, _ = ask(path, BOS)
    assert len([*ours.beginning, *ours.encode("abcab")]) == count
    assert ours.beginning in ((), (BOS,))


def test_generation_ends_where_llama_cpps_does(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", *FURTHER, pre="gpt-2")
    ends = load_model(path).metadata["end_token_ids"]
    for token in range(END, END + 2 + len(FURTHER)):
        assert (ask(path, token)[1] == "stop") == (token in ends), token
