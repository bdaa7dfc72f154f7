# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of an older directory: vocab.json and merges.txt of a byte-level BPE, as GPT-2 has
them.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers


def write_older_tokenizer(folder: Path, most_tokens: int) -> int:
    """Write both files, learned from this one, and return the number of tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=most_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
    )
    tokenizer.train([__file__], trainer)
    tokenizer.model.save(str(folder))
    return int(tokenizer.get_vocab_size())
