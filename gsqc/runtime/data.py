# SPDX-License-Identifier: Apache-2.0
"""Training data: JSONL records of prompt and completion, or plain text, as padded token sequences.

A record becomes tokens(prompt + newline) + tokens(completion) + end of text; the loss counts from the completion's
first token on. Plain text is cut into pieces of the sequence length; the loss counts everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import DataError
from gsqc.runtime.noise import permutation
from gsqc.runtime.tokenizer import Tokenizer

WEIGHT_ONE = 1 << 14
"""A token weight of 1: weights are in Q14."""

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TokenSequence:
    """One padded sequence, int32 [T] each: the model reads `tokens` and is to say `labels`.

    `weights` in Q14 masks prompt and padding with 0.
    """

    tokens: Int32
    labels: Int32
    weights: Int32

    @property
    def weighted_tokens(self) -> int:
        """How many tokens count."""
        return int((self.weights > 0).sum())


@dataclass
class Dataset:
    """The sequences of a file, and what did not fit."""

    sequences: list[TokenSequence] = field(default_factory=list)
    truncated_records: int = 0
    truncated_tokens: int = 0
    skipped_records: int = 0

    def report(self) -> str | None:
        """What was cut, in a sentence; None if nothing was."""
        if not self.truncated_records and not self.skipped_records:
            return None
        text = f"{self.truncated_records} records were cut to the sequence length ({self.truncated_tokens} tokens lost)"
        if self.skipped_records:
            text += f"; {self.skipped_records} records whose prompt alone fills it were left out"
        return text

    def order(self, batch: int, seed: int, start: int = 0) -> Iterator[list[int]]:
        """Numbers of the sequences of each batch without end, from batch number `start` on.

        Each epoch has a random order of its own, by seed alone.
        """
        position, count = start * batch, len(self.sequences)
        orders: dict[int, list[int]] = {}
        while True:
            chosen = []
            for k in range(position, position + batch):
                epoch = k // count
                if epoch not in orders:
                    orders = {
                        epoch: permutation(count, seed, epoch),
                        **{e: orders[e] for e in orders if e == epoch - 1},
                    }
                chosen.append(orders[epoch][k % count])
            position += batch
            yield chosen

    def batches(self, batch: int, seed: int, start: int = 0) -> Iterator[list[TokenSequence]]:
        """The sequences in that order."""
        for chosen in self.order(batch, seed, start):
            yield [self.sequences[k] for k in chosen]


def pad_sequence(tokens: list[int], first_label: int, length: int) -> TokenSequence:
    """Inputs tokens[:-1] and labels tokens[1:], padded with token 0; labels from tokens[first_label] on count."""
    count = len(tokens) - 1
    arrays = [np.zeros(length, np.int32) for _ in range(3)]
    arrays[0][:count], arrays[1][:count] = tokens[:-1], tokens[1:]
    arrays[2][max(first_label - 1, 0) : count] = WEIGHT_ONE
    return TokenSequence(*arrays)


def _records(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, prompt and completion; DataError names the line of all that are wrong (the first three)."""
    problems: list[str] = []
    found: list[tuple[int, str, str]] = []
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if line.strip():
            try:
                found.append((number, *_record(json.loads(line))))
            except (ValueError, RecursionError) as error:
                problems.append(f"{path.name}:{number}: {_reason(error)}")
    if problems:
        more = f" (and {len(problems) - 3} more lines)" if len(problems) > 3 else ""
        raise DataError(
            "; ".join(problems[:3]) + more,
            'each line is one JSON object: {"prompt": "…", "completion": "…"}',
        )
    return iter(found)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg})"
    return str(error) if isinstance(error, ValueError) else "nested too deeply"


def _record(record: Any) -> tuple[str, str]:
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    for key in ("prompt", "completion"):
        if key not in record:
            raise ValueError(f"the record has no {key}")
        if not isinstance(record[key], str):
            raise ValueError(f"{key} is not a text")
        if any("\ud800" <= c <= "\udfff" for c in record[key]):
            raise ValueError(f"{key} has half of a surrogate pair")
    if not record["completion"].strip():
        raise ValueError("the completion is empty")
    return record["prompt"], record["completion"]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"no such data file: {path}", "check the path given with --data") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 (byte {error.start})", "save the file as UTF-8") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path given with --data") from None


def _add_records(dataset: Dataset, path: Path, tokenizer: Tokenizer, length: int) -> None:
    end = [] if tokenizer.eos is None else [tokenizer.eos]
    for _, prompt, completion in _records(path):
        head = tokenizer.encode(prompt + "\n") if prompt else end
        tokens = head + tokenizer.encode(completion) + end
        lost = max(len(tokens) - (length + 1), 0)
        sequence = pad_sequence(tokens[: length + 1], len(head), length)
        if not sequence.weighted_tokens:
            dataset.skipped_records += 1
            continue
        dataset.truncated_records += lost > 0
        dataset.truncated_tokens += lost
        dataset.sequences.append(sequence)


def _add_text(dataset: Dataset, path: Path, tokenizer: Tokenizer, length: int) -> None:
    tokens = tokenizer.encode(_read_text(path))
    for start in range(0, max(len(tokens) - 1, 0), length):
        piece = tokens[start : start + length + 1]
        dataset.sequences.append(pad_sequence(piece, 1, length))


def load_data(path: Path, tokenizer: Tokenizer, length: int) -> Dataset:
    """Read a .jsonl or .txt file into sequences of `length` tokens. Raises DataError."""
    dataset = Dataset()
    if path.suffix == ".jsonl":
        _add_records(dataset, path, tokenizer, length)
    elif path.suffix == ".txt":
        _add_text(dataset, path, tokenizer, length)
    else:
        raise DataError(
            f"{path.name} is neither .jsonl nor .txt", "give JSONL with prompt and completion, or plain text"
        )
    if not dataset.sequences:
        what = "every prompt alone fills the sequence length" if dataset.skipped_records else "the data set is empty"
        raise DataError(f"{path.name}: {what}", "give a file with records, or compile with a longer --seq")
    return dataset
