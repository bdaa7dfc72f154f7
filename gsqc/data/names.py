# SPDX-License-Identifier: Apache-2.0
"""What the name of a file says: how it is read, and which split of a data set it belongs to.

The words for splits are those of the package `datasets`, and stand as a file's name, as a part of
it (train-00000-of-00001.parquet, crates_test.csv), or as a folder's name.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import PurePath

LINE_SUFFIXES = (".jsonl", ".ndjson")
RECORD_SUFFIXES = (*LINE_SUFFIXES, ".json", ".csv", ".parquet")
TEXT_SUFFIXES = (".txt", ".md", ".markdown")
PACKED = ".gz"
"""Behind any suffix but .parquet, which is packed already."""

TRAIN, HELD_OUT, TEST = "train", "validation", "test"
_SPLITS = {
    TRAIN: ("train", "training"),
    HELD_OUT: ("valid", "validation", "val", "dev"),
    TEST: ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_CARD = re.compile(
    r"(readme|licen[cs]e|copying|notice|citation|changelog|contributing|code_of_conduct|security|"
    r"authors|dataset_?card|datasheet|requirements)([._-].*)?"
)
_SIDE_FILES = {
    f"{name}.json"
    for name in (
        *("dataset_info", "dataset_infos", "dataset_dict", "state", "config", "generation_config"),
        *("tokenizer", "tokenizer_config", "special_tokens_map", "package", "package-lock"),
        *("manifest", "metadata", "plan"),
    )
}
"""Files of JSON that stand beside data and hold none."""
_UNREADABLE = (
    *(".arrow", ".feather", ".tsv", ".xls", ".xlsx", ".ods", ".avro", ".orc", ".tfrecord"),
    *(".zst", ".xz", ".bz2", ".gz", ".zip", ".tar", ".tgz", ".7z", ".jsonlines", ".yaml", ".yml"),
    *(".pkl", ".pickle", ".npy", ".npz", ".pt", ".bin", ".h5", ".hdf5", ".db", ".sqlite", ".xml"),
)
"""Suffixes of files that hold data, in a form that gsqc does not read."""


class Kind(Enum):
    """What a file is, by its name."""

    RECORDS = "records"
    TEXT = "text"
    CARD = "card"
    UNREADABLE = "unreadable"
    OTHER = "other"


def suffix_of(name: str) -> str:
    """The suffix that says how a file is read, in lower case, without .gz."""
    return PurePath(name.lower().removesuffix(PACKED)).suffix


def kind_of(name: str) -> Kind:
    """What a file of this name is."""
    lower = name.lower()
    suffix = suffix_of(lower)
    if is_readable(lower) and suffix in RECORD_SUFFIXES:
        return Kind.CARD if lower in _SIDE_FILES else Kind.RECORDS
    if suffix in TEXT_SUFFIXES:
        return Kind.CARD if _CARD.fullmatch(lower) else Kind.TEXT
    return Kind.UNREADABLE if PurePath(lower).suffix in _UNREADABLE else Kind.OTHER


def is_readable(name: str) -> bool:
    """Whether gsqc reads a file of this name."""
    suffix = suffix_of(name)
    packs_itself = suffix == ".parquet" and name.lower().endswith(PACKED)
    return suffix in (*RECORD_SUFFIXES, *TEXT_SUFFIXES) and not packs_itself


def split_of(relative: PurePath) -> str | None:
    """The split of a file below a directory, by its own name or by that of a folder. Or None."""
    words = re.split(r"[-._ ]", relative.name.lower())
    found = [_SPLIT_OF[word] for word in words if word in _SPLIT_OF]
    for folder in reversed(relative.parts[:-1]):
        found += [_SPLIT_OF[folder.lower()]] if folder.lower() in _SPLIT_OF else []
    return found[0] if found else None
