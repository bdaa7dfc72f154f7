# SPDX-License-Identifier: Apache-2.0
"""Byte-level tokenizers of GGUF files cut words where llama.cpp does."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from tokenizers import Tokenizer

from gsqc.models.readers.gguf_file import read_gguf
from gsqc.models.readers.tokenizer import tokenizer_from_gguf
from gsqc.models.readers.word_cuts import PATTERNS
from tests.llama_library import LlamaModel
from tests.models.readers.texts import (
    CASED,
    FOREIGN,
    FURTHER,
    PLAIN,
    SPACED,
    crossing_merges,
    mixed,
    write_vocabulary,
)

SPECIAL = ("<s>", "</s>", "<|im_end|>")
SIMPLER = {
    **dict.fromkeys(("tekken", "gpt-4o", "llama4", "kanana2", "minimax-m2"), (*FOREIGN, *SPACED)),
    **dict.fromkeys(("deepseek-coder", "deepseek-llm"), (*FOREIGN, *CASED)),
}
"""Texts on which llama.cpp follows the models' own pattern. It knows the case of ASCII only, and
some patterns see no white space beyond ASCII.
"""


@pytest.mark.parametrize("kind", PATTERNS)
def test_words_are_cut_as_in_llama_cpp(tmp_path: Path, kind: str) -> None:
    tokens, merges = crossing_merges()
    path = write_vocabulary(
        tmp_path / "a.gguf",
        model="gpt2",
        pre=kind,
        tokens=[*tokens, *SPECIAL],
        token_type=[1] * len(tokens) + [3] * len(SPECIAL),
        merges=list(merges),
        bos_token_id=len(tokens),
        eos_token_id=len(tokens) + 1,
    )
    made = tokenizer_from_gguf(read_gguf(path).metadata)
    assert made is not None
    ours = Tokenizer.from_str(made)
    texts = mixed((*PLAIN, *SIMPLER.get(kind, FURTHER)), 100)
    with LlamaModel(path) as theirs:
        for text in [*texts, f"<s>{texts[0]}<|im_end|>\n{texts[1]}</s>"]:
            assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text), text
