# SPDX-License-Identifier: Apache-2.0
"""Texts that tokenizers cut differently, and a vocabulary that shows where they are cut."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

PLAIN = (
    "Hello, world! It's 2026-11-30; we'll DON'T they'RE I'M you'd",
    "  leading and trailing  ",
    "tabs\tand\n\nnew lines\r\n \n  \n\n\n   three",
    "numbers 1 12 123 1234 12345 1234567 3.14159 1,000,000 0x1F",
    "if (x == 10) { return foo->bar[3]; } // <=> ^^ ~~ || `code` $5 + 3 = 8",
    "C:\\path\\file /usr/local/bin https://example.org/a?b=c&d=e#f user@host.org",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case X1Y2",
    "!!! ??? ... --- *** === ___ '''\"\"\"",
    "a'b 'quoted' ''s 'S 'sx 'll 're",
    " \n \t\r\n\t x",
)
FOREIGN = (
    "中文字符 和 English混合123テスト한국어",
    "“curly” ‘quotes’ — dash … ，。！？、",
    "🦙🚀 emoji ½ ² Ⅷ",
)
CASED = (
    "Привет мир! Ελληνικά ÄÖÜ äöü ÉCOLE école Straße",
    "مرحبا بالعالم ١٢٣ हिन्दी नमस्ते १२३",
    "👩‍👩‍👧 e\u0301 n\u0303",
)
"""Letters with a case or with marks that are not ASCII."""
SPACED = ("no\u00a0break\u2003em\u200bzero",)
FURTHER = (*FOREIGN, *CASED, *SPACED)


@cache
def crossing_merges() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A byte-level vocabulary learned from the texts without cutting words, and its merges.

    So its tokens cross words, and a word that is cut elsewhere has other tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=6,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*PLAIN, *FURTHER], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tuple(tokens), tuple(" ".join(merge) for merge in model["merges"])


@cache
def scored_pieces(vocabulary: int = 1500) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Pieces as SentencePiece's BPE has them, and their scores: merged ones first, in their order,
    then single characters.
    """
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=1, max_token_length=8, show_progress=False
    )
    texts = ["▁" + text.replace(" ", "▁") for text in (*PLAIN, *FOREIGN)]
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merged = ["".join(pair) for pair in model["merges"]]
    letters = sorted(set(model["vocab"]) - set(merged))
    pieces = (*dict.fromkeys(merged), *letters)
    return pieces, tuple(-float(k) for k in range(len(pieces)))


def mixed(texts: tuple[str, ...], count: int) -> list[str]:
    """The texts, and others made of random pieces of them."""
    draw = random.Random(0)
    letters = "".join(texts)
    made = ["".join(draw.choices(letters, k=24)) for _ in range(count)]
    cut = []
    for _ in range(count):
        a, b = draw.choice(texts), draw.choice(texts)
        cut.append(a[draw.randrange(len(a)) :] + b[: draw.randrange(len(b))])
    return [*texts, *made, *cut]


def write_vocabulary(path: Path, name: str = "tiny", **tokenizer: Any) -> Path:
    """A model of one tiny layer with a tokenizer of these keys. It is a whole file of llama.cpp."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(32)
    for key, value in tokenizer.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}
        add.get(type(value), writer.add_array)(f"tokenizer.ggml.{key}", value)
    vocabulary = len(tokenizer["tokens"])
    shapes = {"token_embd": (vocabulary, 32), "output_norm": (32,)}
    shapes |= {f"blk.0.{name}": (32,) for name in ("attn_norm", "ffn_norm")}
    linears = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes |= {f"blk.0.{name}": (32, 32) for name in linears}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
