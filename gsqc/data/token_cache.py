# SPDX-License-Identifier: Apache-2.0
"""Keeps the tokens of a run's data beside the run, so that a resumed run need not read it again.

The file names what it was made of: the digests of the data and of the tokenizer, and the options.
It is read as a stranger's file. One that is damaged, or of something else, is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gsqc.bundle.json_text import read_json
from gsqc.bundle.tensor_file import MappedTensors, tensor_file
from gsqc.data.corpus import ARRAYS, Corpus
from gsqc.data.directories import DataFile
from gsqc.data.encode import Reading
from gsqc.data.files import files_digest
from gsqc.data.tokenizer import Tokenizer
from gsqc.files.reading import open_file
from gsqc.files.writing import replace_file

FORMAT = 1
"""Another number where the same data has other tokens."""
TOKENS = "data.safetensors"
"""Its name in a run's directory."""


def cache_key(files: list[list[DataFile]], tokenizer: Tokenizer, reading: Reading) -> str:
    """What the tokens of files depend on. Raises DataError."""
    made_of = {
        "format": FORMAT,
        "data": [files_digest(part) for part in files],
        "names": [[file.name for file in part] for part in files],
        "tokenizer": tokenizer.identity,
        **asdict(reading),
    }
    return json.dumps(made_of, sort_keys=True)


class TokenCache:
    """The file of a run. What is kept is written by `save`, when the run is known to be good."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: tuple[str, list[Corpus]] | None = None

    def read(self, key: str) -> list[Corpus] | None:
        """What was kept under the key. None if nothing was, or if the file is damaged."""
        try:
            with open_file(self.path, links=False) as file:
                tensors = MappedTensors(file)
            if tensors.metadata["key"] != key:
                return None
            text = tensors.metadata["counts"]
            if tensors.metadata["sha256"] != _digest(tensors, text):
                return None
            counts = read_json(text.encode())
            return [_corpus(tensors, k, given) for k, given in enumerate(counts)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, key: str, corpora: list[Corpus]) -> None:
        """Remember what `save` is to write."""
        self._kept = key, corpora

    def save(self) -> None:
        """Write what is kept. A full disk is no error: the data can be read again."""
        if self._kept is None:
            return
        key, corpora = self._kept
        counts = [corpus.counts() for corpus in corpora]
        tensors = {
            f"{name}.{number}": array
            for number, corpus in enumerate(corpora)
            for name, array in corpus.arrays().items()
        }
        text = json.dumps(counts)
        metadata = {"key": key, "counts": text, "sha256": _digest(tensors, text)}
        with contextlib.suppress(OSError):
            replace_file(self.path, tensor_file(tensors, metadata))
        self._kept = None


def _digest(tensors: Mapping[str, Any], counts: str) -> str:
    """The sha256 of all that a file holds but its key."""
    digest = hashlib.sha256(counts.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].size} ".encode())
        digest.update(np.ascontiguousarray(tensors[name]).view(np.uint8).data)
    return digest.hexdigest()


def _corpus(tensors: MappedTensors, number: int, counts: Any) -> Corpus:
    """A corpus of the file. Raises ValueError, KeyError or TypeError if it cannot be one."""
    corpus = Corpus.of({name: tensors[f"{name}.{number}"] for name in ARRAYS}, counts)
    if not corpus.pieces:
        raise ValueError("the file holds no piece")
    return corpus
