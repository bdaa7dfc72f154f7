# SPDX-License-Identifier: Apache-2.0
"""A tokenizer of a few words, with the tokens that encoders put around a text."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("good", "bad", "so", "very", "film", "plot", "it", "is", "was", "not", "a", "the")


def word_tokenizer() -> Tokenizer:
    """Words as tokens, [CLS] before and [SEP] behind a text, as BERT has them."""
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    vocabulary = special | {word: k for k, word in enumerate(WORDS, len(special))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(special))
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return tokenizer
