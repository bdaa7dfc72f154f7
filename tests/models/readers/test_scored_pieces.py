# SPDX-License-Identifier: Apache-2.0
"""SentencePiece tokenizers of GGUF files give the tokens that llama.cpp gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

from tokenizers import Tokenizer

from gsqc.models.readers.gguf_file import read_gguf
from gsqc.models.readers.tokenizer import tokenizer_from_gguf
from gsqc.models.special_tokens import tokens_of_gguf
from tests.llama_library import LlamaModel
from tests.models.readers.texts import FURTHER, PLAIN, mixed, scored_pieces, write_vocabulary

SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{k:02X}>" for k in range(256))
MARKED = ("<start_of_turn>", "<|user|>", "<|endoftext|>")
SPACES = ("  ", "   ", "    ", "\n\n", "\t\t", "<table>")
KINDS = [2, 3, 3, *[6] * 256]


def write(path: Path, spaces: tuple[str, ...] = SPACES, **settings: Any) -> Path:
    """A file with pieces, control tokens and user-defined tokens, as the converter writes them."""
    further = (*MARKED, *spaces)
    pieces, scores = zip(
        *((p, s) for p, s in zip(*scored_pieces(), strict=True) if p not in further), strict=True
    )
    return write_vocabulary(
        path,
        model="llama",
        tokens=[*SPECIAL, *BYTES, *pieces, *further],
        scores=[0.0] * 259 + list(scores) + [-1000.0] * len(further),
        token_type=[*KINDS, *[1] * len(pieces), *[3] * len(MARKED), *[4] * len(spaces)],
        **settings,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bos_token_id": 1, "eos_token_id": 2, "add_bos_token": True, "add_space_prefix": False},
        {"add_bos_token": False, "pre": "default"},
        # Its control tokens take the white space behind them, so none is white space itself.
        {"name": "Phi-3 mini", "spaces": ()},
    ],
)
def test_a_text_has_the_tokens_of_llama_cpp(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = write(tmp_path / "a.gguf", **settings)
    made = tokenizer_from_gguf(read_gguf(path).metadata)
    assert made is not None
    ours = Tokenizer.from_str(made)
    assert ours.to_str() == made
    turns = f"<start_of_turn> \n{PLAIN[0]}<|user|> {PLAIN[1]}</s><s>\n<table><table>  <unk> a"
    with LlamaModel(path) as theirs:
        for text in [*mixed((*PLAIN, *FURTHER), 200), turns, "", " ", "▁ ▁", "<|endoftext|> b"]:
            assert ours.encode(text).ids == theirs.encode(text, begin=True), text


def test_text_comes_back(tmp_path: Path) -> None:
    for prefix in (True, False):
        path = write(tmp_path / "a.gguf", add_space_prefix=prefix)
        ours = Tokenizer.from_str(str(tokenizer_from_gguf(read_gguf(path).metadata)))
        for text in (*PLAIN, *FURTHER):
            if prefix and any(part in text for part in SPACES):
                continue  # the text behind such a token gets another space, in llama.cpp too
            assert ours.decode(ours.encode(text).ids) == text


def test_the_special_tokens_that_a_file_does_not_name(tmp_path: Path) -> None:
    """llama_vocab::impl::load: BOS is 1, EOS 2 and unknown 0."""
    said = tokens_of_gguf(read_gguf(write(tmp_path / "a.gguf")).metadata)
    assert (said["bos_token_id"], said["eos_token_id"]) == (1, 2)
    assert said["special_tokens"] == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
