# SPDX-License-Identifier: Apache-2.0
"""A tokenizer and records for tests of data, and what the sequences made of them say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import processors

from gsqc.data import TokenSequence
from gsqc.data.tokenizer import Tokenizer
from tests.runtime.small_bundle import byte_tokenizer, manifest

BOS = 65  # "A" of the byte tokenizer stands for a BOS


def make_tokenizer(*, bos: bool = False, **model: Any) -> Tokenizer:
    """A token for each byte, with a model's settings. With `bos`, an A stands before a text."""
    tokenizer = byte_tokenizer()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            "A $A", None, [("A", tokenizer.token_to_id("A"))]
        )
    return Tokenizer.of_model(tokenizer.to_str(), {**asdict(manifest().model), **model})


def jsonl(path: Path, *records: object) -> Path:
    """A JSONL file of the records."""
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def inputs(tokenizer: Tokenizer, sequence: TokenSequence) -> str:
    """All tokens of a sequence, without its padding."""
    used = int(sequence.weights.nonzero()[0][-1]) + 1
    return tokenizer.decode(
        [int(sequence.tokens[0]), *sequence.labels[:used].tolist()], special=True
    )


def counted(tokenizer: Tokenizer, sequence: TokenSequence) -> str:
    """The labels of a sequence that have a loss."""
    return tokenizer.decode(sequence.labels[sequence.weights > 0].tolist(), special=True)
